"""The gateware between a serial port and the accelerator: one frame in, one frame out, and a count.

    rx ─▶          ─▶ command_words ─▶        ─▶ s_axis
         UartProtocol                 FrameEngine            accelerator
    tx ◀─          ◀─ reply_words  ◀─        ◀─ m_axis
     the bytes' clock          the accelerator's clock

Where the board has a second clock, the bytes are handled in that one, and never hold back the
accelerator's; the words between the two go through a ``Mailbox`` each way.
"""

from amaranth import ClockDomain, DomainRenamer, Elaboratable, Instance, Module, Signal
from amaranth.hdl import ClockSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..board import Board
from ..flow.pll import ClockGenerator, Pll
from .frame_engine import DOMAINS, FrameEngine, axis
from .mailbox import LINK, Mailbox, command_words, reply_words
from .protocol import LinkConfig
from .uart_protocol import UartProtocol

__all__ = ["AcceleratorInstance", "Link", "LinkConfig", "Top", "axis"]

_FEWEST_CYCLES = 4


def _check_clock(config: LinkConfig) -> None:
    """The uart_protocol counts on a CLEAR being obeyed before the host can cause another."""
    if config.clock_hz < _FEWEST_CYCLES * config.baud:
        raise ValueError(
            f"a bit of {config.baud} baud lasts less than {_FEWEST_CYCLES} cycles of "
            f"the accelerator's {config.clock_hz / 1e6:g} MHz clock"
        )


class Link(wiring.Component):
    """Runs the accelerator for a host, one frame at a time.

    ``clear`` resets the accelerator after a frame had to be given up; a frame that ends well is
    followed by the next without a reset. With ``config.link_hz`` the wires and ``running`` are in
    the domain ``link``, all else is in ``sync``; the two clocks may have any phase and ratio.

    Members
    -------
    rx : In(1), asynchronous
    tx : Out(1)
    s_axis : Out(axis(config.bytes_in)), to the accelerator
    m_axis : In(axis(config.bytes_out)), from the accelerator
    clear : Out(1)
    running : Out(1), high while a frame is on its way
    """

    def __init__(self, config: LinkConfig, family: str = "generic") -> None:
        _check_clock(config)
        self.config, self.family = config, family
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "s_axis": Out(axis(config.bytes_in)),
                "m_axis": In(axis(config.bytes_out)),
                "clear": Out(1),
                "running": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        uart_protocol = UartProtocol(self.config)
        m.submodules.frame_engine = frame_engine = FrameEngine(self.config, self.family)
        if self.config.link_hz:
            m.submodules.uart_protocol = DomainRenamer(LINK)(uart_protocol)
            m.submodules.to_frame_engine = to_frame_engine = Mailbox(
                command_words(self.config), LINK, "sync"
            )
            m.submodules.to_uart_protocol = to_uart_protocol = Mailbox(
                reply_words(self.config), "sync", LINK
            )
            wiring.connect(m, uart_protocol.o, to_frame_engine.i)
            wiring.connect(m, to_frame_engine.o, frame_engine.i)
            wiring.connect(m, frame_engine.o, to_uart_protocol.i)
            wiring.connect(m, to_uart_protocol.o, uart_protocol.i)
        else:
            m.submodules.uart_protocol = uart_protocol
            wiring.connect(m, uart_protocol.o, frame_engine.i)
            wiring.connect(m, frame_engine.o, uart_protocol.i)
        wiring.connect(m, frame_engine.s_axis, wiring.flipped(self.s_axis))
        wiring.connect(m, wiring.flipped(self.m_axis), frame_engine.m_axis)
        m.d.comb += [
            uart_protocol.rx.eq(self.rx),
            self.tx.eq(uart_protocol.tx),
            self.clear.eq(frame_engine.clear),
            self.running.eq(uart_protocol.running),
        ]
        return m


class AcceleratorInstance(wiring.Component):
    """The emitted module ``accelerator``, held in reset while the domain is or ``clear`` says so.

    Members
    -------
    s_axis : In(axis(config.bytes_in))
    m_axis : Out(axis(config.bytes_out))
    clear : In(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        super().__init__(
            {
                "s_axis": In(axis(config.bytes_in)),
                "m_axis": Out(axis(config.bytes_out)),
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A register of its own: this net reaches most of the accelerator.
        reset = Signal(init=1)
        m.d.sync += reset.eq(self.clear)
        m.submodules.accelerator = Instance(
            "accelerator",
            i_clk=ClockSignal(),
            i_rst=reset,
            i_s_axis_tdata=self.s_axis.payload.data,
            i_s_axis_tlast=self.s_axis.payload.last,
            i_s_axis_tvalid=self.s_axis.valid,
            o_s_axis_tready=self.s_axis.ready,
            o_m_axis_tdata=self.m_axis.payload.data,
            o_m_axis_tlast=self.m_axis.payload.last,
            o_m_axis_tvalid=self.m_axis.valid,
            i_m_axis_tready=self.m_axis.ready,
        )
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
        m.submodules.link = link = Link(self.config, self.board.family)
        m.submodules.accelerator = self.accelerator
        wiring.connect(m, link.s_axis, self.accelerator.s_axis)
        wiring.connect(m, self.accelerator.m_axis, link.m_axis)
        m.d.comb += [
            self.accelerator.clear.eq(link.clear),
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            self.led.eq(~link.running if self.board.led_active_low else link.running),
        ]
        return m
