"""The gateware link, heard from its two wires, agrees with its Python model byte for byte."""

import pytest
from amaranth import Array, ClockDomain, ClockSignal, DomainRenamer, Module, Signal
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from gatewright.boards.flow import flow_of
from gatewright.boards.flow.synthesis import synthesize
from gatewright.boards.link import gateware as link_module
from gatewright.boards.link import uart
from gatewright.boards.link.emulator import BoardModel
from gatewright.boards.link.frame_engine import DOMAINS
from gatewright.boards.link.gateware import Link, LinkConfig, axis
from gatewright.boards.link.mailbox import Mailbox, command_words
from gatewright.boards.link.protocol import (
    FRAME,
    PING,
    SYNC,
    Fault,
    LinkPort,
    checksum,
    frame_request,
    ping_request,
)
from gatewright.boards.link.uart import UartReceiver, UartTransmitter
from gatewright.compiler.plan.resources import link as least_link
from gatewright.hw.target import GENERIC

from ..plan.networks import ICE40UP5K, LFE5U_25F

CLOCK_HZ, BAUD = 25_000_000, 3_125_000
BIT = CLOCK_HZ // BAUD
PAUSE = 40 * BIT * 10

# The bytes' clock and the accelerator's: one for both, or two that have nothing in common.
ONE = {"clock_hz": CLOCK_HZ}
TWO = {"clock_hz": 61_370_000, "link_hz": CLOCK_HZ}
RATIOS = [{"clock_hz": hz, "link_hz": CLOCK_HZ} for hz in (14_300_000, 100_000_000, 181_300_000)]
clocks = pytest.mark.parametrize("clocks", [ONE, TWO], ids=["one clock", "two clocks"])
ratios = pytest.mark.parametrize(
    "clocks", [ONE, *RATIOS], ids=lambda clocks: f"{clocks['clock_hz'] / 1e6:g} MHz"
)


class AddOne(wiring.Component):
    """Adds one to every beat, ``period`` cycles a beat; swallows all when ``deaf``."""

    def __init__(self, config, *, period=1, deaf=False):
        self.config, self.period, self.deaf = config, period, deaf
        super().__init__(
            {
                "s_axis": In(axis(config.bytes_in)),
                "m_axis": Out(axis(config.bytes_out)),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        wait = Signal(range(self.period + 1))
        taken = self.s_axis.valid & self.s_axis.ready
        m.d.comb += self.s_axis.ready.eq((wait == 0) & (~self.m_axis.valid | self.m_axis.ready))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(self.m_axis.ready):
            m.d.sync += self.m_axis.valid.eq(0)
        with m.If(taken):
            m.d.sync += [
                self.m_axis.payload.data.eq(self.s_axis.payload.data + 1),
                self.m_axis.payload.last.eq(self.s_axis.payload.last),
                self.m_axis.valid.eq(0 if self.deaf else 1),
                wait.eq(self.period - 1),
            ]
        return m


def config(beats=5, bits=12, **changes):
    """An input ``x`` and an output ``y`` of as many beats of as many bits, with ``changes``."""
    given = {
        "inputs": (LinkPort("x", "s_axis", beats, bits),),
        "outputs": (LinkPort("y", "m_axis", beats, bits),),
        "clock_hz": CLOCK_HZ,
        "baud": BAUD,
        "design_id": 0x1122334455667788,
        "pause_seconds": 12 * 10 * BIT / CLOCK_HZ,
    }
    return LinkConfig(**{**given, **changes})


def request_of(cfg, beats):
    """The request of a frame whose only input has these beats."""
    return frame_request(cfg, {"x": beats})


async def say(ctx, line, data, domain):
    for byte in data:
        for bit in (0, *(byte >> place & 1 for place in range(8)), 1):
            ctx.set(line, bit)
            await ctx.tick(domain).repeat(BIT)


def rtl(cfg, conversation, design=AddOne, **behaviour):
    """What comes back for ``conversation``: bytes to say, or a number of cycles to wait.

    Both are timed in the clock of the bytes. ``design`` is the accelerator.
    """
    domain = "link" if cfg.link_hz else "sync"
    m = Module()
    m.domains += [ClockDomain(name) for name in DOMAINS]
    m.submodules.link = link = Link(cfg, GENERIC)
    m.submodules.accelerator = accelerator = design(cfg, **behaviour)
    ear = UartReceiver(cfg.uart_hz, BAUD)
    m.submodules.ear = DomainRenamer(domain)(ear)
    for port in cfg.inputs:
        wiring.connect(m, getattr(link, port.prefix), getattr(accelerator, port.prefix))
    for port in cfg.outputs:
        wiring.connect(m, getattr(accelerator, port.prefix), getattr(link, port.prefix))
    m.d.comb += [accelerator.clear.eq(link.clear), ear.rx.eq(link.tx)]
    heard = bytearray()

    async def host(ctx):
        for part in conversation:
            if isinstance(part, int):
                await ctx.tick(domain).repeat(part)
            else:
                await say(ctx, link.rx, part, domain)

    async def listen(ctx):
        ticks = ctx.tick(domain).sample(ear.o.valid, ear.o.payload)
        async for _clk, _rst, valid, byte in ticks:
            if valid:
                heard.append(byte)

    simulator = Simulator(m)
    for clocked in ("sync", *DOMAINS):
        simulator.add_clock(1 / cfg.clock_hz, domain=clocked)
    if cfg.link_hz:
        simulator.add_clock(1 / cfg.link_hz, phase=0.3e-9, domain="link")
    simulator.add_testbench(host)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    return bytes(heard)


def answer_time(cfg):
    return (cfg.reply_bytes + 4) * 11 * BIT


def model(cfg, *requests, cycles=0):
    board = BoardModel(
        cfg, lambda beats: {"y": [(beat + 1) % 65536 for beat in beats["x"]]}, cycles
    )
    return b"".join(board.feed(request) for request in requests)


def bytes_through(sender_hz, data):
    """``data`` from a transmitter to a receiver, both clocked alike."""
    m = Module()
    m.submodules.out = out = UartTransmitter(sender_hz, BAUD)
    m.submodules.ear = ear = UartReceiver(sender_hz, BAUD)
    m.d.comb += ear.rx.eq(out.tx)
    heard = bytearray()

    async def send(ctx):
        for byte in data:
            ctx.set(out.i.payload, byte)
            ctx.set(out.i.valid, 1)
            await ctx.tick().until(out.i.ready)
        ctx.set(out.i.valid, 0)
        await ctx.tick().repeat(12 * sender_hz // BAUD)

    async def listen(ctx):
        async for _clk, _rst, valid, byte in ctx.tick().sample(ear.o.valid, ear.o.payload):
            if valid:
                heard.append(byte)

    simulator = Simulator(m)
    simulator.add_clock(1 / sender_hz)
    simulator.add_testbench(send)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    return bytes(heard)


@pytest.mark.parametrize("clock_hz", [4 * BAUD, CLOCK_HZ, 35_925_000])
def test_a_uart_hears_what_a_uart_says(clock_hz):
    data = bytes((0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80)) + bytes(range(0, 256, 23))
    assert bytes_through(clock_hz, data) == data


@pytest.mark.parametrize("faster", [0.98, 1.0, 1.02])
@pytest.mark.parametrize("cycles", [4, 5, 8])
def test_a_uart_hears_bytes_without_a_pause(cycles, faster):
    """The line has a clock of its own, ``faster`` than agreed, at any phase."""
    data = bytes((0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80)) * 4
    receiver, heard = UartReceiver(cycles * BAUD, BAUD), bytearray()

    async def line(ctx):
        for byte in data:
            for bit in (0, *(byte >> place & 1 for place in range(8)), 1):
                ctx.set(receiver.rx, bit)
                await ctx.delay(1 / BAUD / faster)
        await ctx.delay(12 / BAUD)

    async def listen(ctx):
        async for _, _, valid, byte in ctx.tick().sample(receiver.o.valid, receiver.o.payload):
            if valid:
                heard.append(byte)

    simulator = Simulator(receiver)
    simulator.add_clock(1 / (cycles * BAUD))
    simulator.add_testbench(line)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    assert bytes(heard) == data


def test_a_uart_refuses_a_clock_that_is_too_slow():
    with pytest.raises(ValueError, match="less than 4 cycles"):
        uart._step(7_500_000, BAUD)


def test_a_link_refuses_an_accelerator_that_is_too_slow():
    cfg = config(clock_hz=12_000_000, link_hz=CLOCK_HZ)
    with pytest.raises(ValueError, match="less than 4 cycles of the accelerator's 12 MHz clock"):
        link_module._check_clock(cfg)


@pytest.mark.parametrize("baud", [9600, 57600, 115200, 921600, 1_000_000, 2_000_000, 3_000_000])
def test_every_usual_baud_comes_from_25_mhz(baud):
    made = uart._step(CLOCK_HZ, baud) * CLOCK_HZ / (1 << uart._PHASE_BITS)
    assert made == pytest.approx(baud, rel=0.001)


@ratios
def test_a_ping_returns_the_design(clocks):
    cfg = config(**clocks)
    assert rtl(cfg, [ping_request(), answer_time(cfg)]) == model(cfg, ping_request())


@clocks
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("bits", [1, 12, 48])
def test_frames_come_back_computed(bits, buffered, clocks):
    cfg = config(bits=bits, buffered=buffered, **clocks)
    top = (1 << bits) - 1
    frames = [[0, top, 1, top // 2, top // 3], [top] * 5, [5 % (top + 1)] * 5]
    requests = [request_of(cfg, frame) for frame in frames]
    talk = [part for request in requests for part in (request, answer_time(cfg))]
    heard = rtl(cfg, talk)
    size = cfg.reply_bytes
    replies = [heard[start : start + size] for start in range(0, len(heard), size)]
    assert len(replies) == len(frames)
    for frame, reply in zip(frames, replies, strict=True):
        wrap = 1 << 8 * cfg.bytes_out
        expected = b"".join(((beat + 1) % wrap).to_bytes(cfg.bytes_out, "little") for beat in frame)
        assert reply[:2] == bytes((SYNC, FRAME))
        assert reply[2 : 2 + len(expected)] == expected
        assert reply[-3] == 0
        assert reply[-2:] == checksum(reply[2:-2])


class Mixed(wiring.Component):
    """Two inputs of three beats of a byte and two of three; their sums, and the first input plus
    one. The second output is whole before the first one begins.
    """

    INPUTS = (LinkPort("a", "s_axis_a", 3, 8), LinkPort("b", "s_axis_b", 2, 24))
    OUTPUTS = (LinkPort("sum", "m_axis_sum", 2, 24), LinkPort("echo", "m_axis_echo", 3, 8))

    def __init__(self, config):
        super().__init__(
            {
                **{port.prefix: In(axis(port.bytes)) for port in self.INPUTS},
                **{port.prefix: Out(axis(port.bytes)) for port in self.OUTPUTS},
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        a, b, total, echo = self.s_axis_a, self.s_axis_b, self.m_axis_sum, self.m_axis_echo
        kept = Array(Signal(8, name=f"kept_{n}") for n in range(4))
        taken, added = Signal(2), Signal(1)
        m.d.comb += [
            echo.payload.data.eq(a.payload.data + 1),
            echo.payload.last.eq(taken == 2),
            echo.valid.eq(a.valid & (taken != 3)),
            a.ready.eq(echo.ready & (taken != 3)),
            total.payload.data.eq(b.payload.data + kept[added]),
            total.payload.last.eq(added == 1),
            total.valid.eq(b.valid & (taken == 3)),
            b.ready.eq(total.ready & (taken == 3)),
        ]
        with m.If(a.valid & a.ready):
            m.d.sync += [kept[taken].eq(a.payload.data), taken.eq(taken + 1)]
        with m.If(b.valid & b.ready):
            m.d.sync += added.eq(added + 1)
            with m.If(added == 1):
                m.d.sync += taken.eq(0)
        return m


def mixed(beats, cycles):
    """What the board answers for frames of ``Mixed``."""
    cfg = config(inputs=Mixed.INPUTS, outputs=Mixed.OUTPUTS)

    def compute(frame):
        sums = [x + y for x, y in zip(frame["a"], frame["b"], strict=False)]
        return {"echo": [beat + 1 for beat in frame["a"]], "sum": sums}

    board = BoardModel(cfg, compute, cycles)
    return [board.feed(frame_request(cfg, frame)) for frame in beats]


@clocks
@pytest.mark.parametrize("buffered", [True, False])
def test_several_ports_take_turns_on_the_wire(buffered, clocks):
    """Outputs that come in another order than the declared one do not block each other."""
    cfg = config(inputs=Mixed.INPUTS, outputs=Mixed.OUTPUTS, buffered=buffered, **clocks)
    frames = [
        {"a": [1, 2, 3], "b": [0x10000, 0xABCD00]},
        {"a": [250, 0, 9], "b": [0, 0x0F0F0F]},
    ]
    talk = [part for each in frames for part in (frame_request(cfg, each), answer_time(cfg))]
    # Three beats of the first input, two of the second, a cycle each; the last one leaves at once.
    assert rtl(cfg, talk, Mixed) == b"".join(mixed(frames, cycles=4))


@ratios
@pytest.mark.parametrize("period", [1, 7])
def test_a_buffered_frame_is_timed_at_full_speed(period, clocks):
    cfg = config(**clocks)
    request = request_of(cfg, range(5))
    # The last beat goes in 4 periods after the first, and comes out a cycle later.
    expected = model(cfg, request, cycles=4 * period + 1)
    assert rtl(cfg, [request, answer_time(cfg)], period=period) == expected


def test_a_count_passes_from_its_low_half_to_its_high_one():
    cfg = config(beats=3)
    request = request_of(cfg, range(3))
    expected = model(cfg, request, cycles=2 * 33_000 + 1)
    assert rtl(cfg, [request, 66_000, answer_time(cfg)], period=33_000) == expected


@clocks
def test_one_beat_is_a_frame(clocks):
    cfg = config(beats=1, **clocks)
    request = request_of(cfg, [41])
    assert rtl(cfg, [request, answer_time(cfg)]) == model(cfg, request, cycles=1)


def test_noise_before_a_request_is_ignored():
    cfg = config()
    noise = bytes((0, SYNC, SYNC, 7, FRAME, PING))
    assert rtl(cfg, [noise, ping_request(), answer_time(cfg)]) == model(cfg, ping_request())


@ratios
def test_a_damaged_frame_is_reported(clocks):
    cfg = config(**clocks)
    request = bytearray(request_of(cfg, range(5)))
    request[4] ^= 0x10
    expected = model(cfg, bytes(request), cycles=5)
    assert expected[-3] == 1
    assert rtl(cfg, [bytes(request), answer_time(cfg)]) == expected


@ratios
def test_a_frame_that_stops_short_is_given_up_and_the_next_one_works(clocks):
    cfg = config(**clocks)
    request = request_of(cfg, range(5))
    heard = rtl(
        cfg, [request[:6], PAUSE, ping_request(), answer_time(cfg), request, answer_time(cfg)]
    )
    board = BoardModel(cfg, None)
    board.fault = Fault.PAUSE
    ping = board.feed(ping_request())
    assert heard == ping + model(cfg, request, cycles=5)


@ratios
@pytest.mark.parametrize("heard_bytes", [1, 13])
def test_a_frame_replaces_one_whose_answer_is_on_its_way(heard_bytes, clocks):
    cfg = config(**clocks)
    first, second = request_of(cfg, range(5)), request_of(cfg, range(300, 305))
    heard = rtl(cfg, [first, heard_bytes * 10 * BIT, second, answer_time(cfg)])
    expected = model(cfg, second, cycles=5)
    begun = len(heard) - len(expected)
    assert heard[begun:] == expected
    assert heard[:begun] == model(cfg, first, cycles=5)[:begun]
    assert 0 < begun < len(expected)


@clocks
def test_a_ping_ends_a_frame_that_never_would(clocks):
    cfg = config(**clocks)
    request = request_of(cfg, range(5))
    heard = rtl(cfg, [request, answer_time(cfg), ping_request(), answer_time(cfg)], deaf=True)
    body = heard[2:-2]
    assert heard[:2] == bytes((SYNC, PING))
    assert body == cfg.design_id.to_bytes(8, "little") + bytes((Fault.ABANDONED,))
    assert heard[-2:] == checksum(body)


@clocks
def test_an_accelerator_slower_than_the_wire_overruns_an_unbuffered_link(clocks):
    cfg = config(beats=60, bits=8, buffered=False, **clocks)
    request = request_of(cfg, range(60))
    period = 400 * cfg.clock_hz // CLOCK_HZ
    heard = rtl(cfg, [request, answer_time(cfg), ping_request(), answer_time(cfg)], period=period)
    ping = heard[-13:]
    assert ping[:2] == bytes((SYNC, PING))
    assert ping[10] == Fault.OVERRUN


@pytest.mark.parametrize("device", [LFE5U_25F, ICE40UP5K], ids=lambda device: device.name)
@pytest.mark.parametrize("bits", [8, 40])
def test_an_unbuffered_link_takes_the_block_rams_that_a_plan_leaves_it(device, bits, tmp_path):
    cfg = config(bits=bits, buffered=False)
    m = Module()
    for name in DOMAINS:
        m.domains += (domain := ClockDomain(name))
        m.d.comb += domain.clk.eq(ClockSignal())
    m.submodules.link = link = Link(cfg, device.target)
    m.submodules.accelerator = accelerator = AddOne(cfg)
    wiring.connect(m, link.s_axis, accelerator.s_axis)
    wiring.connect(m, accelerator.m_axis, link.m_axis)
    il = tmp_path / "link.il"
    il.write_text(rtlil.convert(m, name="top", ports=[link.rx, link.tx], emit_src=False))
    counts = synthesize([il], flow_of(device.target).synthesis, tmp_path, "top")
    assert 0 <= least_link(device, (bits, bits)).bram - counts["bram"] <= 2 * (bits > 8)


@pytest.mark.parametrize("stop", [0, 1])
def test_a_byte_without_its_stop_bit_is_dropped(stop):
    """The next byte, after the line was idle, is heard again."""
    receiver, heard = UartReceiver(CLOCK_HZ, BAUD), []

    async def line(ctx):
        for bits in ([0, *(1, 0, 1, 0, 0, 1, 0, 1), stop], [0, *(0, 1, 1, 0, 0, 0, 1, 0), 1]):
            for bit in (*bits, *[1] * 12):
                ctx.set(receiver.rx, bit)
                await ctx.tick().repeat(BIT)

    async def listen(ctx):
        async for _, _, valid, byte in ctx.tick().sample(receiver.o.valid, receiver.o.payload):
            if valid:
                heard.append(byte)

    simulator = Simulator(receiver)
    simulator.add_clock(1 / CLOCK_HZ)
    simulator.add_testbench(line)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    assert heard == [0b10100101] * stop + [0b01000110]


def test_a_mailbox_waits_until_a_word_has_settled():
    """A word is read two of the reader's cycles after it was written, and the register is free two
    of the writer's cycles after that: an edge sooner, and the other clock may see half of it.
    """
    mailbox = Mailbox(command_words(config()), "fast", "slow")
    edges, seen = [], []

    async def count(ctx, domain, signal):
        number = 0
        while not ctx.get(signal):
            await ctx.tick(domain)
            number += 1
        edges.append(number)

    async def exchange(ctx):
        ctx.set(mailbox.i.payload.data, 0x5A)
        ctx.set(mailbox.i.valid, 1)
        await ctx.tick("fast")
        ctx.set(mailbox.i.valid, 0)
        assert not ctx.get(mailbox.i.ready)
        await count(ctx, "slow", mailbox.o.valid)
        assert ctx.get(mailbox.o.payload.data) == 0x5A
        await count(ctx, "fast", mailbox.i.ready)
        ctx.set(mailbox.i.payload.data, 0xA5)
        ctx.set(mailbox.i.valid, 1)
        await ctx.tick("fast")
        ctx.set(mailbox.i.valid, 0)
        await ctx.tick("slow").repeat(6)  # the first word is not taken, so it stays
        for _ in range(2):
            ctx.set(mailbox.o.ready, 1)
            (word,) = await ctx.tick("slow").sample(mailbox.o.payload.data).until(mailbox.o.valid)
            seen.append(word)

    simulator = Simulator(mailbox)
    simulator.add_clock(1e-8, domain="fast")
    simulator.add_clock(3.7e-8, domain="slow", phase=2e-8)
    simulator.add_testbench(exchange)
    simulator.run_until(1e-5)  # many times what it takes
    assert edges == [3, 2]
    assert seen == [0x5A, 0xA5]


def test_a_mailbox_takes_a_word_only_when_the_last_one_was_read():
    """Words that are offered all the time arrive in order, each once, with a slow reader."""
    mailbox = Mailbox(command_words(config()), "fast", "slow")
    sent, seen = [], []

    async def write(ctx):
        for word in range(40):
            ctx.set(mailbox.i.payload.data, word)
            ctx.set(mailbox.i.valid, 1)
            await ctx.tick("fast").until(mailbox.i.ready)
            sent.append(word)
            ctx.set(mailbox.i.payload.data, 0xEE)  # what a word that is taken early would be

    async def read(ctx):
        while len(seen) < 40:
            ctx.set(mailbox.o.ready, len(seen) % 3 != 1)
            _, _, valid, ready, word = await ctx.tick("slow").sample(
                mailbox.o.valid, mailbox.o.ready, mailbox.o.payload.data
            )
            if valid and ready:
                seen.append(word)
            elif valid:
                ctx.set(mailbox.o.ready, 1)
                _, _, word = await ctx.tick("slow").sample(mailbox.o.payload.data)
                seen.append(word)

    simulator = Simulator(mailbox)
    simulator.add_clock(1e-8, domain="fast")
    simulator.add_clock(3.7e-8, domain="slow")
    simulator.add_testbench(write)
    simulator.add_testbench(read)
    simulator.run_until(1e-3)
    assert seen == sent == list(range(40))
