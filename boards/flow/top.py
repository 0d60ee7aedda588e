"""What goes into the chip: clock, link and accelerator."""

from amaranth import ClockDomain, Elaboratable, Module, Signal
from amaranth.hdl import ClockSignal
from amaranth.lib import wiring

from ..board import Board
from ..link.accelerator import AcceleratorInstance
from ..link.frame_engine import DOMAINS
from ..link.gateware import Link
from ..link.mailbox import LINK
from ..link.protocol import LinkConfig
from .base import Pll
from .clock import ClockGenerator

__all__ = ["Top"]


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
            self.board, self.pll, self.clk, board_domain=LINK if self.config.link_hz else None
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
