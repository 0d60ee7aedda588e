"""The gateware between a serial port and the accelerator: one frame in, one frame out, and a count.

    rx ─▶ UartReceiver ─▶ Request ─▶ FIFO ─▶ s_axis   accelerator   m_axis ─▶ FIFO ─▶ Reply
       ─▶ UartTransmitter ─▶ tx

The bytes on the wire are described in ``protocol``.
"""

from amaranth import Cat, ClockDomain, Const, Elaboratable, Instance, Module, ResetInserter, Signal
from amaranth.hdl import ClockSignal, Mux, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .board import Board
from .pll import ClockGenerator, Pll
from .protocol import (
    CYCLES_BYTES,
    FRAME,
    ID_BYTES,
    PING,
    STATUS_BAD_CRC,
    SYNC,
    Fault,
    LinkConfig,
)
from .uart import UartReceiver, UartTransmitter

__all__ = ["AcceleratorInstance", "Link", "LinkConfig", "Reply", "Request", "Top", "axis"]

_UNBUFFERED_DEPTH = 4
_CLEAR_CYCLES = 16


def axis(size: int) -> stream.Signature:
    """An AXI4-Stream of ``size`` bytes, as an Amaranth stream."""
    return stream.Signature(data.StructLayout({"data": 8 * size, "last": 1}))


class Request(wiring.Component):
    """Commands and beats from bytes.

    ``ping`` and ``frame`` are high for the cycle in which a command was understood; a frame's beats
    follow, one at a time, each to be taken at once; then ``done``, with ``good`` if the CRC held.
    ``paused`` instead of ``done``: the bytes stopped coming.

    Members
    -------
    i : In(stream.Signature(8, always_ready=True))
    beats : Out(stream.Signature(8 * config.bytes_in, always_ready=True))
    ping, frame, done, good, paused : Out(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        # The highest bit of the timer: between once and twice the agreed pause.
        self._timer_bits = max(1, int(config.clock_hz * config.pause_seconds).bit_length())
        super().__init__({
            "i": In(stream.Signature(8, always_ready=True)),
            "beats": Out(stream.Signature(8 * config.bytes_in, always_ready=True)),
            "ping": Out(1), "frame": Out(1), "done": Out(1), "good": Out(1), "paused": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = catalog.CRC16_XMODEM(data_width=8).create()
        byte = Signal(range(self.config.bytes_in), init=self.config.bytes_in - 1)
        beat = Signal(range(self.config.beats_in), init=self.config.beats_in - 1)
        valid, value, timer = Signal(), Signal(8), Signal(self._timer_bits + 1)
        is_sync, is_ping, is_frame, expired = Signal(), Signal(), Signal(), Signal()

        # The byte is decoded one cycle before it is used; what comes of it leaves a cycle later.
        m.d.sync += [
            valid.eq(self.i.valid), value.eq(self.i.payload), is_sync.eq(self.i.payload == SYNC),
            is_ping.eq(self.i.payload == PING), is_frame.eq(self.i.payload == FRAME),
            self.ping.eq(0), self.frame.eq(0), self.done.eq(0), self.beats.valid.eq(0),
            self.paused.eq(expired), expired.eq(timer[-1]), timer.eq(0),
            self.good.eq(crc.match_detected),
        ]
        m.d.comb += [crc.data.eq(value), crc.start.eq(self.frame)]

        with m.FSM():
            with m.State("SYNC"), m.If(valid & is_sync):
                m.next = "COMMAND"
            with m.State("COMMAND"), m.If(valid):
                m.d.sync += [self.ping.eq(is_ping), self.frame.eq(is_frame)]
                with m.If(is_frame):
                    m.d.sync += [byte.eq(byte.init), beat.eq(beat.init)]
                    m.next = "BEATS"
                with m.Elif(~is_sync):
                    m.next = "SYNC"
            with m.State("BEATS"):
                self._wait_for_byte(m, valid, timer, expired)
                with m.If(valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [self.beats.payload.eq(Cat(self.beats.payload, value)[8:]),
                                 byte.eq(byte - 1)]
                    with m.If(byte == 0):
                        m.d.sync += [self.beats.valid.eq(1), byte.eq(byte.init), beat.eq(beat - 1)]
                        with m.If(beat == 0):
                            m.next = "CRC0"
            for state, following in (("CRC0", "CRC1"), ("CRC1", "DONE")):
                with m.State(state):
                    self._wait_for_byte(m, valid, timer, expired)
                    with m.If(valid):
                        m.d.comb += crc.valid.eq(1)
                        m.next = following
            with m.State("DONE"):
                m.d.sync += self.done.eq(1)
                m.next = "SYNC"
        return m

    def _wait_for_byte(self, m: Module, valid: Signal, timer: Signal, expired: Signal) -> None:
        with m.If(~valid):
            m.d.sync += timer.eq(timer + 1)
        with m.If(expired):
            m.next = "SYNC"


class Reply(wiring.Component):
    """Bytes from answers.

    ``ping`` answers with ``fault``. ``frame`` answers with the beats from ``i`` as they come, then,
    once ``complete``, with ``cycles`` and ``status``. Both are obeyed only while not ``busy``.
    There is a register wherever a byte's time leaves room for one, to keep up with fast clocks.

    Members
    -------
    ping, frame, complete : In(1)
    fault, status : In(8)
    cycles : In(32)
    i : In(stream.Signature(8 * config.bytes_out))
    o : Out(stream.Signature(8))
    busy : Out(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        super().__init__({
            "ping": In(1), "frame": In(1), "complete": In(1),
            "fault": In(8), "status": In(8), "cycles": In(8 * CYCLES_BYTES),
            "i": In(stream.Signature(8 * config.bytes_out)),
            "o": Out(stream.Signature(8)),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = catalog.CRC16_XMODEM(data_width=8).create()
        bytes_out, beats_out = self.config.bytes_out, self.config.beats_out
        longest = max(bytes_out, ID_BYTES + 1)
        word = Signal(8 * longest)
        more = Signal(longest)      # bit n: a byte follows byte n of the word
        beats, beats_end = Signal(range(beats_out + 1)), Signal()
        is_ping, is_last, full, byte = Signal(), Signal(), Signal(), Signal(8)
        take = Signal()
        trailer = Mux(is_ping, Cat(Const(self.config.design_id, 8 * ID_BYTES), self.fault),
                      Cat(self.cycles, self.status))
        trailer_bytes = Mux(is_ping, (1 << ID_BYTES) - 1, (1 << CYCLES_BYTES) - 1)
        m.d.comb += [crc.start.eq(self.ping | self.frame),
                     self.o.valid.eq(full), self.o.payload.eq(byte), self.i.ready.eq(take)]
        m.d.sync += [take.eq(0), crc.valid.eq(0), crc.data.eq(word[:8]), beats_end.eq(beats == 0)]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)

        def send(value: ValueLike, following: str) -> None:
            with m.If(~full):
                m.d.sync += [byte.eq(value), full.eq(1)]
                m.next = following

        with m.FSM() as fsm:
            m.d.sync += self.busy.eq(~fsm.ongoing("IDLE") | self.ping | self.frame)
            with m.State("IDLE"):
                m.d.sync += [is_ping.eq(self.ping), is_last.eq(0), beats.eq(beats_out)]
                with m.If(self.ping | self.frame):
                    m.next = "SYNC"
            with m.State("SYNC"):
                send(SYNC, "COMMAND")
            with m.State("COMMAND"):
                send(Mux(is_ping, PING, FRAME), "CHOOSE")
            with m.State("CHOOSE"):
                with m.If(is_last):
                    m.next = "CRC0"
                with m.Elif(is_ping | beats_end):
                    m.next = "TRAILER"
                with m.Else():
                    m.next = "BEAT"
            with m.State("BEAT"):
                m.d.sync += [word.eq(self.i.payload), more.eq((1 << (bytes_out - 1)) - 1),
                             beats.eq(beats - self.i.valid), take.eq(self.i.valid)]
                with m.If(self.i.valid):
                    m.next = "WORD"
            with m.State("TRAILER"):
                m.d.sync += [word.eq(trailer), more.eq(trailer_bytes), is_last.eq(1)]
                with m.If(is_ping | self.complete):
                    m.next = "WORD"
            with m.State("WORD"), m.If(~full):
                m.d.sync += [byte.eq(word), full.eq(1), crc.valid.eq(1),
                             word.eq(word[8:]), more.eq(more[1:])]
                with m.If(~more[0]):
                    m.next = "CHOOSE"
            # The CRC has long taken in the last byte when the line is free for it.
            with m.State("CRC0"):
                send(crc.crc[8:], "CRC1")
            with m.State("CRC1"):
                send(crc.crc[:8], "IDLE")
        return m


class Link(wiring.Component):
    """Runs the accelerator for a host, one frame at a time.

    ``clear`` resets the accelerator after a frame had to be given up; a frame that ends well is
    followed by the next without a reset.

    Members
    -------
    rx : In(1), asynchronous
    tx : Out(1)
    s_axis : Out(axis(config.bytes_in)), to the accelerator
    m_axis : In(axis(config.bytes_out)), from the accelerator
    clear : Out(1)
    running : Out(1), high while a frame is on its way
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1),
            "s_axis": Out(axis(config.bytes_in)), "m_axis": In(axis(config.bytes_out)),
            "clear": Out(1), "running": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        clock = (config.clock_hz, config.baud)
        m.submodules.receiver = receiver = UartReceiver(*clock)
        m.submodules.transmitter = transmitter = UartTransmitter(*clock)
        m.submodules.request = request = Request(config)
        reply, fifo_in, fifo_out = Reply(config), *self._fifos()
        for name, part in (("reply", reply), ("fifo_in", fifo_in), ("fifo_out", fifo_out)):
            m.submodules[name] = ResetInserter(self.clear)(part)

        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        wiring.connect(m, receiver.o, request.i)
        wiring.connect(m, reply.o, transmitter.i)
        wiring.connect(m, fifo_out.r_stream, reply.i)

        complete, bad_crc, fault = Signal(), Signal(), Signal(Fault)
        m.d.comb += [
            fifo_in.w_stream.payload.eq(request.beats.payload),
            fifo_in.w_stream.valid.eq(request.beats.valid & self.running),
            fifo_out.w_stream.payload.eq(self.m_axis.payload.data),
            fifo_out.w_stream.valid.eq(self.m_axis.valid & self.running),
            # A whole frame's buffer is never full: do not make the accelerator wait to hear so.
            self.m_axis.ready.eq(self.running if config.buffered
                                 else fifo_out.w_stream.ready & self.running),
            reply.complete.eq(complete), reply.fault.eq(fault),
            reply.status.eq(Mux(bad_crc, STATUS_BAD_CRC, 0)),
        ]
        first, last = self._feed(m, fifo_in, complete if config.buffered else self.running,
                                 request.frame)
        self._count(m, request.frame, first, last, reply.cycles)
        with m.If(request.done):
            m.d.sync += [complete.eq(1), bad_crc.eq(~request.good)]
        self._control(m, request, reply, fifo_in.w_stream.ready, complete, fault)
        return m

    def _fifos(self) -> tuple[SyncFIFOBuffered, SyncFIFOBuffered]:
        config = self.config
        depth_in, depth_out = ((config.beats_in, config.beats_out) if config.buffered
                               else (_UNBUFFERED_DEPTH, _UNBUFFERED_DEPTH))
        return (SyncFIFOBuffered(width=8 * config.bytes_in, depth=max(2, depth_in)),
                SyncFIFOBuffered(width=8 * config.bytes_out, depth=max(2, depth_out)))

    def _feed(self, m: Module, fifo: SyncFIFOBuffered, gate: Signal,
              restart: Signal) -> tuple[Signal, Signal]:
        """Drive ``s_axis`` while ``gate``; returns the frame's first beat in and last beat out."""
        most_in, most_out = self.config.beats_in - 1, self.config.beats_out - 1
        left_in, left_out = Signal(range(most_in + 1)), Signal(range(most_out + 1))
        first, last = Signal(), Signal()
        m.d.comb += [
            self.s_axis.payload.data.eq(fifo.r_stream.payload),
            self.s_axis.payload.last.eq(left_in == 0),
            self.s_axis.valid.eq(fifo.r_stream.valid & gate),
            fifo.r_stream.ready.eq(self.s_axis.ready & gate),
            first.eq(self.s_axis.valid & self.s_axis.ready & (left_in == most_in)),
            last.eq(self.m_axis.valid & self.m_axis.ready & (left_out == 0)),
        ]
        with m.If(self.s_axis.valid & self.s_axis.ready):
            m.d.sync += left_in.eq(left_in - 1)
        with m.If(self.m_axis.valid & self.m_axis.ready):
            m.d.sync += left_out.eq(left_out - 1)
        with m.If(restart):
            m.d.sync += [left_in.eq(most_in), left_out.eq(most_out)]
        return first, last

    def _count(self, m: Module, restart: Signal, first: Signal, last: Signal,
               cycles: Signal) -> None:
        """``cycles`` from ``first`` to ``last``: a beat that left on the next cycle counts 1."""
        count, counting = Signal.like(cycles), Signal()
        m.d.comb += cycles.eq(count)
        with m.If(counting):
            m.d.sync += count.eq(count + 1)
        with m.If(last):
            m.d.sync += counting.eq(0)
        with m.Elif(first):
            m.d.sync += counting.eq(1)
        with m.If(restart):
            m.d.sync += [count.eq(0), counting.eq(0)]

    def _control(self, m: Module, request: Request, reply: Reply, room: Signal, complete: Signal,
                 fault: Signal) -> None:
        """Start and end frames, answer pings, and clear what was given up."""
        ping, frame = Signal(), Signal()
        clearing = Signal(range(_CLEAR_CYCLES + 1))
        free = ~self.clear & ~reply.busy
        m.d.comb += [reply.ping.eq(ping & free),
                     reply.frame.eq(frame & ~ping & free & reply.i.valid)]
        m.d.sync += self.clear.eq(clearing != 0)
        with m.If(clearing != 0):
            m.d.sync += clearing.eq(clearing - 1)
        with m.If(reply.ping):
            m.d.sync += ping.eq(0)
        with m.If(reply.frame):
            m.d.sync += frame.eq(0)
        with m.If(complete & ~frame & ~reply.busy & ~reply.frame):
            m.d.sync += self.running.eq(0)

        commanded, overrun = request.ping | request.frame, Signal()
        m.d.sync += overrun.eq(request.beats.valid & ~room & (not self.config.buffered))
        for reason, happened in ((Fault.OVERRUN, overrun),
                                 (Fault.PAUSE, request.paused),
                                 (Fault.ABANDONED, commanded)):
            with m.If(happened & self.running):
                m.d.sync += [fault.eq(reason), clearing.eq(_CLEAR_CYCLES), self.clear.eq(1),
                             self.running.eq(0), frame.eq(0)]
        with m.If(request.ping):
            m.d.sync += ping.eq(1)
        with m.If(request.frame):
            m.d.sync += [frame.eq(1), self.running.eq(1), complete.eq(0), fault.eq(Fault.NONE)]


class AcceleratorInstance(wiring.Component):
    """The emitted module ``accelerator``, held in reset while the domain is or ``clear`` says so.

    Members
    -------
    s_axis : In(axis(config.bytes_in))
    m_axis : Out(axis(config.bytes_out))
    clear : In(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        super().__init__({
            "s_axis": In(axis(config.bytes_in)), "m_axis": Out(axis(config.bytes_out)),
            "clear": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A register of its own: this net reaches most of the accelerator.
        reset = Signal(init=1)
        m.d.sync += reset.eq(self.clear)
        m.submodules.accelerator = Instance(
            "accelerator", i_clk=ClockSignal(), i_rst=reset,
            i_s_axis_tdata=self.s_axis.payload.data, i_s_axis_tlast=self.s_axis.payload.last,
            i_s_axis_tvalid=self.s_axis.valid, o_s_axis_tready=self.s_axis.ready,
            o_m_axis_tdata=self.m_axis.payload.data, o_m_axis_tlast=self.m_axis.payload.last,
            o_m_axis_tvalid=self.m_axis.valid, i_m_axis_tready=self.m_axis.ready)
        return m


class Top(Elaboratable):
    """What goes into the chip: clock, link and accelerator. Its ports are the board's pins.

    Parameters
    ----------
    accelerator : a component with the members of ``AcceleratorInstance``
    """

    def __init__(self, board: Board, pll: Pll, config: LinkConfig,
                 accelerator: wiring.Component | None = None) -> None:
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
        m.submodules.clock = ClockGenerator(self.board, self.pll, self.clk)
        m.submodules.link = link = Link(self.config)
        m.submodules.accelerator = self.accelerator
        wiring.connect(m, link.s_axis, self.accelerator.s_axis)
        wiring.connect(m, self.accelerator.m_axis, link.m_axis)
        m.d.comb += [
            self.accelerator.clear.eq(link.clear),
            link.rx.eq(self.rx), self.tx.eq(link.tx),
            self.led.eq(~link.running if self.board.led_active_low else link.running),
        ]
        return m
