"""The gateware link, heard from its two wires, agrees with its Python model byte for byte."""

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from gatewright.boards import uart
from gatewright.boards.emulator import BoardModel
from gatewright.boards.link import Link, LinkConfig, axis
from gatewright.boards.protocol import (
    FRAME,
    PING,
    SYNC,
    Fault,
    checksum,
    frame_request,
    ping_request,
)
from gatewright.boards.uart import UartReceiver, UartTransmitter

CLOCK_HZ, BAUD = 1_000_000, 125_000
BIT = CLOCK_HZ // BAUD


class AddOne(wiring.Component):
    """Adds one to every beat, ``period`` cycles a beat; swallows all when ``deaf``."""

    def __init__(self, config, *, period=1, deaf=False):
        self.config, self.period, self.deaf = config, period, deaf
        super().__init__({"s_axis": In(axis(config.bytes_in)),
                          "m_axis": Out(axis(config.bytes_out)), "clear": In(1)})

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
            m.d.sync += [self.m_axis.payload.data.eq(self.s_axis.payload.data + 1),
                         self.m_axis.payload.last.eq(self.s_axis.payload.last),
                         self.m_axis.valid.eq(0 if self.deaf else 1),
                         wait.eq(self.period - 1)]
        return m


def config(**changes):
    given = {"beats_in": 5, "bits_in": 12, "beats_out": 5, "bits_out": 12, "clock_hz": CLOCK_HZ,
             "baud": BAUD, "design_id": 0x1122334455667788, "pause_seconds": 0.005}
    return LinkConfig(**{**given, **changes})


async def say(ctx, line, data):
    for byte in data:
        for bit in (0, *(byte >> place & 1 for place in range(8)), 1):
            ctx.set(line, bit)
            await ctx.tick().repeat(BIT)


def rtl(cfg, conversation, **behaviour):
    """What comes back for ``conversation``: bytes to say, or a number of cycles to wait."""
    m = Module()
    m.submodules.link = link = Link(cfg)
    m.submodules.accelerator = accelerator = AddOne(cfg, **behaviour)
    m.submodules.ear = ear = UartReceiver(CLOCK_HZ, BAUD)
    wiring.connect(m, link.s_axis, accelerator.s_axis)
    wiring.connect(m, accelerator.m_axis, link.m_axis)
    m.d.comb += [accelerator.clear.eq(link.clear), ear.rx.eq(link.tx)]
    heard = bytearray()

    async def host(ctx):
        for part in conversation:
            if isinstance(part, int):
                await ctx.tick().repeat(part)
            else:
                await say(ctx, link.rx, part)

    async def listen(ctx):
        async for _clk, _rst, valid, byte in ctx.tick().sample(ear.o.valid, ear.o.payload):
            if valid:
                heard.append(byte)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    return bytes(heard)


def answer_time(cfg):
    return (cfg.reply_bytes + 4) * 11 * BIT


def model(cfg, *requests, cycles=0):
    board = BoardModel(cfg, lambda beats: [(beat + 1) % 65536 for beat in beats], cycles)
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


@pytest.mark.parametrize("clock_hz", [4 * BAUD, 1_000_000, 1_437_000])
def test_a_uart_hears_what_a_uart_says(clock_hz):
    data = bytes((0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80)) + bytes(range(0, 256, 23))
    assert bytes_through(clock_hz, data) == data


def test_a_uart_refuses_a_clock_that_is_too_slow():
    with pytest.raises(ValueError, match="less than 4 cycles"):
        uart._step(300_000, BAUD)


def test_a_ping_returns_the_design():
    cfg = config()
    assert rtl(cfg, [ping_request(), answer_time(cfg)]) == model(cfg, ping_request())


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("bits", [1, 8, 12, 24])
def test_frames_come_back_computed(bits, buffered):
    cfg = config(bits_in=bits, bits_out=bits, buffered=buffered)
    top = (1 << bits) - 1
    frames = [[0, top, 1, top // 2, top // 3], [top] * 5, [5 % (top + 1)] * 5]
    requests = [frame_request(cfg, frame) for frame in frames]
    talk = [part for request in requests for part in (request, answer_time(cfg))]
    heard = rtl(cfg, talk)
    size = cfg.reply_bytes
    replies = [heard[start:start + size] for start in range(0, len(heard), size)]
    assert len(replies) == len(frames)
    for frame, reply in zip(frames, replies, strict=True):
        wrap = 1 << 8 * cfg.bytes_out
        expected = b"".join(((beat + 1) % wrap).to_bytes(cfg.bytes_out, "little")
                            for beat in frame)
        assert reply[:2] == bytes((SYNC, FRAME))
        assert reply[2:2 + len(expected)] == expected
        assert reply[-3] == 0
        assert reply[-2:] == checksum(reply[2:-2])


@pytest.mark.parametrize("period", [1, 2, 7])
def test_a_buffered_frame_is_timed_at_full_speed(period):
    cfg = config()
    request = frame_request(cfg, range(5))
    # The last beat goes in 4 periods after the first, and comes out a cycle later.
    expected = model(cfg, request, cycles=4 * period + 1)
    assert rtl(cfg, [request, answer_time(cfg)], period=period) == expected


def test_one_beat_is_a_frame():
    cfg = config(beats_in=1, beats_out=1)
    request = frame_request(cfg, [41])
    assert rtl(cfg, [request, answer_time(cfg)]) == model(cfg, request, cycles=1)


def test_noise_before_a_request_is_ignored():
    cfg = config()
    noise = bytes((0, SYNC, SYNC, 7, FRAME, PING))
    assert rtl(cfg, [noise, ping_request(), answer_time(cfg)]) == model(cfg, ping_request())


def test_a_damaged_frame_is_reported():
    cfg = config()
    request = bytearray(frame_request(cfg, range(5)))
    request[4] ^= 0x10
    expected = model(cfg, bytes(request), cycles=5)
    assert expected[-3] == 1
    assert rtl(cfg, [bytes(request), answer_time(cfg)]) == expected


def test_a_frame_that_stops_short_is_given_up_and_the_next_one_works():
    cfg = config()
    request = frame_request(cfg, range(5))
    pause = CLOCK_HZ // 50
    heard = rtl(cfg, [request[:6], pause, ping_request(), answer_time(cfg), request,
                      answer_time(cfg)])
    board = BoardModel(cfg, None)
    board.fault = Fault.PAUSE
    ping = board.feed(ping_request())
    assert heard == ping + model(cfg, request, cycles=5)


def test_a_ping_ends_a_frame_that_never_would():
    cfg = config()
    request = frame_request(cfg, range(5))
    heard = rtl(cfg, [request, answer_time(cfg), ping_request(), answer_time(cfg)], deaf=True)
    body = heard[2:-2]
    assert heard[:2] == bytes((SYNC, PING))
    assert body == cfg.design_id.to_bytes(8, "little") + bytes((Fault.ABANDONED,))
    assert heard[-2:] == checksum(body)


def test_an_accelerator_slower_than_the_wire_overruns_an_unbuffered_link():
    cfg = config(beats_in=40, beats_out=40, bits_in=8, bits_out=8, buffered=False)
    request = frame_request(cfg, range(40))
    heard = rtl(cfg, [request, answer_time(cfg), ping_request(), answer_time(cfg)], period=400)
    ping = heard[-13:]
    assert ping[:2] == bytes((SYNC, PING))
    assert ping[10] == Fault.OVERRUN
