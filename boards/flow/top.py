"""What goes into the chip: clock, link and accelerator."""

from amaranth import ClockDomain, Elaboratable, Instance, Module, Signal
from amaranth.hdl import ClockSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..board import Board
from ..link.frame_engine import DOMAINS, axis
from ..link.gateware import Link
from ..link.mailbox import LINK
from ..link.protocol import LinkConfig
from .base import Pll
from .clock import ClockGenerator

__all__ = ["AcceleratorInstance", "Top"]


class AcceleratorInstance(wiring.Component):
    """The emitted module ``accelerator``, held in reset while the domain is or ``clear`` says so.

    Members
    -------
    s_axis : In(axis(port.bytes)) for the only input; of several each has its ``port.prefix``
    m_axis : Out(axis(port.bytes)) for the only output; of several in the same way
    clear : In(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        super().__init__(
            {
                **{port.prefix: In(axis(port.bytes)) for port in config.inputs},
                **{port.prefix: Out(axis(port.bytes)) for port in config.outputs},
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A register of its own: this net reaches most of the accelerator.
        reset = Signal(init=1)
        m.d.sync += reset.eq(self.clear)
        connections = {"i_clk": ClockSignal(), "i_rst": reset}
        for ports, given, taken in (
            (self.config.inputs, "i", "o"),
            (self.config.outputs, "o", "i"),
        ):
            for port in ports:
                axis_stream = getattr(self, port.prefix)
                connections |= {
                    f"{given}_{port.prefix}_tdata": axis_stream.payload.data,
                    f"{given}_{port.prefix}_tlast": axis_stream.payload.last,
                    f"{given}_{port.prefix}_tvalid": axis_stream.valid,
                    f"{taken}_{port.prefix}_tready": axis_stream.ready,
                }
        m.submodules.accelerator = Instance("accelerator", **connections)
        return m


class Top(Elaboratable):
    """What goes into the chip: clock, link and accelerator. Its ports are the board's pins.

    Parameters
    ----------
    accelerator : a component with the members of ``AcceleratorInstance``
    """

    def __init__(
        self,
        board: Board,
        pll: Pll,
        config: LinkConfig,
        accelerator: wiring.Component | None = None,
    ) -> None:
        self.board, self.pll, self.config = board, pll, config
        self.accelerator = accelerator or AcceleratorInstance(config)
        # The names are those of the pin constraints.
        self.clk, self.rx = Signal(name="clk"), Signal(name="rx", init=1)
        self.tx, self.led = Signal(name="tx", init=1), Signal(name="led")

    @property
    def ports(self) -> tuple[Signal, ...]:
        return (self.clk, self.rx, self.tx, self.led)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains += [ClockDomain(domain) for domain in DOMAINS]
        m.d.comb += [ClockSignal(domain).eq(ClockSignal()) for domain in DOMAINS]
        if self.config.link_hz:
            m.domains += ClockDomain(LINK)
        m.submodules.clock = ClockGenerator(
            self.board, self.pll, self.clk, beside=LINK if self.config.link_hz else None
        )
        m.submodules.link = link = Link(self.config, self.board.device.target)
        m.submodules.accelerator = self.accelerator
        for port in self.config.inputs:
            there = getattr(self.accelerator, port.prefix)
            wiring.connect(m, getattr(link, port.prefix), there)
        for port in self.config.outputs:
            there = getattr(self.accelerator, port.prefix)
            wiring.connect(m, there, getattr(link, port.prefix))
        m.d.comb += [
            self.accelerator.clear.eq(link.clear),
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            self.led.eq(~link.running if self.board.led_active_low else link.running),
        ]
        return m
