"""The gateware between a serial port and the accelerator: one frame in, one frame out, and a count.

A frame is one of every input and of every output.

    rx ─▶          ─▶ command_words ─▶        ─▶ s_axis
         UartProtocol                 FrameEngine            accelerator
    tx ◀─          ◀─ reply_words  ◀─        ◀─ m_axis
     the bytes' clock          the accelerator's clock

Where the board has a second clock, bytes are handled in its domain, so that this logic does not
limit the accelerator's clock; words cross between the domains through a ``Mailbox`` each way.
"""

from amaranth import DomainRenamer, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ...hw.target import Target
from .frame_engine import FrameEngine, axis
from .mailbox import LINK, Mailbox, command_words, reply_words
from .protocol import LinkConfig
from .uart_protocol import UartProtocol

__all__ = ["Link", "LinkConfig", "axis"]

_FEWEST_CYCLES = 4


def _check_clock(config: LinkConfig) -> None:
    """A CLEAR must be executed before the host can cause another one."""
    if config.clock_hz < _FEWEST_CYCLES * config.baud:
        raise ValueError(
            f"a bit of {config.baud} baud lasts less than {_FEWEST_CYCLES} cycles of "
            f"the accelerator's {config.clock_hz / 1e6:g} MHz clock"
        )


class Link(wiring.Component):
    """Run the accelerator for a host, one frame at a time.

    ``clear`` resets the accelerator after a frame was given up; otherwise the next frame follows
    without a reset. With ``config.link_hz`` the wires and ``running`` are in
    the domain ``link``, all else is in ``sync``; the two clocks may have any phase and ratio.

    Members
    -------
    rx : In(1), asynchronous
    tx : Out(1)
    s_axis : Out(axis(port.bytes)), to the accelerator's only input; of several inputs each has its
        ``port.prefix``
    m_axis : In(axis(port.bytes)), from the accelerator's only output; of several in the same way
    clear : Out(1)
    running : Out(1), high while a frame is in progress
    """

    def __init__(self, config: LinkConfig, target: Target) -> None:
        _check_clock(config)
        self.config, self.target = config, target
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                **{port.prefix: Out(axis(port.bytes)) for port in config.inputs},
                **{port.prefix: In(axis(port.bytes)) for port in config.outputs},
                "clear": Out(1),
                "running": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        uart_protocol = UartProtocol(self.config)
        m.submodules.frame_engine = frame_engine = FrameEngine(self.config, self.target)
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
        for port in self.config.inputs:
            there = getattr(frame_engine, port.prefix)
            wiring.connect(m, there, wiring.flipped(getattr(self, port.prefix)))
        for port in self.config.outputs:
            there = getattr(frame_engine, port.prefix)
            wiring.connect(m, wiring.flipped(getattr(self, port.prefix)), there)
        m.d.comb += [
            uart_protocol.rx.eq(self.rx),
            self.tx.eq(uart_protocol.tx),
            self.clear.eq(frame_engine.clear),
            self.running.eq(uart_protocol.running),
        ]
        return m
