"""Queues keep order, hold what they promise, and pass a beat a cycle."""

import json
import random

import pytest
from amaranth import (
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Elaboratable,
    Module,
    Signal,
    signed,
    unsigned,
)
from amaranth.back import rtlil
from gatewright.boards.flow import flow_of
from gatewright.boards.flow.synthesis import synthesize
from gatewright.hw import Fifo, RegisterSlice, ReuseBufferConfig
from gatewright.hw.stream.fifo import CreditFifo, Queue
from gatewright.hw.target import ECP5, GENERIC, ICE40
from gatewright.hw.window.reuse_buffer import ReuseBuffer
from numpy.testing import assert_array_equal

from .bench import STALLS, port, random_elements, run, simulate, synthesized

REPLAY = ReuseBufferConfig(72, 8, 3, 4, signed(8), target=ICE40)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("depth", [1, 2, 3, 16, 50])
def test_keeps_the_order(depth, stall):
    beats = random_elements(signed(8), (100, 3))
    seen = run(Fifo(3, signed(8), depth, GENERIC), beats, len(beats), stall=stall)
    assert_array_equal(seen.values, beats)
    if not stall:
        late = seen.cycles[50:]
        assert late == list(range(late[0], late[0] + len(late)))


@pytest.mark.parametrize("depth", [1, 2, 5, 16, 40])
def test_holds_at_least_its_depth_while_nobody_takes(depth):
    assert depth <= beats_taken(Fifo(1, signed(8), depth, GENERIC), depth + 50) < depth + 32


def beats_taken(dut, cycles):
    """Beats that a queue accepts while none leaves."""
    taken = 0

    async def bench(ctx):
        nonlocal taken
        ctx.set(port(dut.i).valid, 1)
        for _ in range(cycles):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken += ready

    simulate(dut, bench)
    return taken


@pytest.mark.parametrize(("width", "depth"), [(8, 16), (50, 16), (40, 48)])
def test_an_inlets_words_come_two_cycles_after_they_were_taken(width, depth):
    dut, rng = CreditFifo(width, depth, GENERIC), random.Random(width)
    words = [rng.getrandbits(width) for _ in range(200)]
    seen = []

    async def bench(ctx):
        written = inside = 0
        under_way = [False] * dut.latency
        while len(seen) < len(words):
            if under_way.pop(0):
                seen.append(ctx.get(dut.word))
            write = written < len(words) and inside < depth and rng.random() < 0.7
            take = bool(ctx.get(dut.any)) and rng.random() < 0.7
            ctx.set(dut.write, write)
            ctx.set(dut.data, words[written] if write else 0)
            ctx.set(dut.take, take)
            under_way.append(take)
            await ctx.tick()
            written += write
            inside += write - ctx.get(dut.freed)

    simulate(dut, bench)
    assert seen == words


@pytest.mark.parametrize("taken", [1.0, 0.5])
@pytest.mark.parametrize(
    ("width", "depth", "target"),
    [(8, 16, GENERIC), (8, 144, GENERIC), (8, 64, ECP5), (50, 65, ECP5), (8, 144, ECP5)],
)
def test_a_queue_is_full_and_empty_and_keeps_the_order(width, depth, target, taken):
    dut, rng = Queue(width, depth, target), random.Random(depth)
    words = [rng.getrandbits(width) for _ in range(5 * depth)]
    seen = []

    async def bench(ctx):
        written = inside = cycle = 0
        while len(seen) < len(words):
            # some time to fill it, some to empty it
            filling = cycle // (2 * depth) % 2 == 0
            write = written < len(words) and inside < depth and (filling or rng.random() < 0.5)
            ctx.set(dut.write, write)
            ctx.set(dut.data, words[written] if write else 0)
            ready = rng.random() < (0.1 if filling else taken)
            ctx.set(dut.o.ready, ready)
            if ready and ctx.get(dut.o.valid):
                seen.append(ctx.get(dut.o.payload))
            await ctx.tick()
            written += write
            inside += write - ctx.get(dut.freed)
            cycle += 1

    simulate(dut, bench)
    assert seen == words


class Resettable(Elaboratable):
    def __init__(self, inner):
        self.inner, self.reset = inner, Signal()

    def elaborate(self, platform):
        m = Module()
        m.domains.inner = inner = ClockDomain()
        m.d.comb += [inner.clk.eq(ClockSignal()), inner.rst.eq(self.reset)]
        m.submodules.inner = DomainRenamer("inner")(self.inner)
        return m


@pytest.mark.parametrize("waiting", [1, 5, 32])
def test_a_queue_runs_out_while_a_reset_is_held(waiting):
    depth, words = 32, [7, 8, 9]
    queue = Queue(8, depth, GENERIC)
    dut, seen = Resettable(queue), []

    async def bench(ctx):
        for word in range(waiting):
            ctx.set(queue.write, 1)
            ctx.set(queue.data, word)
            await ctx.tick()
        ctx.set(queue.write, 0)
        ctx.set(dut.reset, 1)
        await ctx.tick().repeat(depth + 4)
        ctx.set(dut.reset, 0)
        for word in words:
            ctx.set(queue.write, 1)
            ctx.set(queue.data, word)
            await ctx.tick()
        ctx.set(queue.write, 0)
        ctx.set(queue.o.ready, 1)
        for _ in range(2 * depth):
            if ctx.get(queue.o.valid):
                seen.append(ctx.get(queue.o.payload))
            await ctx.tick()

    simulate(dut, bench)
    assert seen == words


@pytest.mark.parametrize("target", [GENERIC, ICE40])
@pytest.mark.parametrize("stall", STALLS)
def test_a_register_slice_keeps_the_order_and_passes_a_beat_a_cycle(stall, target):
    beats = random_elements(signed(8), (100, 12))
    seen = run(RegisterSlice(12, signed(8), target), beats, len(beats), stall=stall)
    assert_array_equal(seen.values, beats)
    if not stall:
        assert seen.cycles == list(range(seen.cycles[0], seen.cycles[0] + len(beats)))


@pytest.mark.parametrize(("target", "beats"), [(GENERIC, 2), (ECP5, 2), (ICE40, 1)])
def test_a_register_slice_holds_two_or_one(target, beats):
    assert beats_taken(RegisterSlice(1, signed(8), target), 10) == beats


def test_no_logic_of_a_register_slice_is_behind_other_logic(tmp_path):
    """Its neighbours may be far away: their wires and one LUT fill a cycle."""
    m, width = Module(), 14 * 8
    m.submodules.dut = dut = RegisterSlice(14, signed(8), ECP5)
    i, o = Signal(width), Signal(width)
    i_valid, i_ready, o_valid, o_ready = Signal(), Signal(), Signal(), Signal()
    m.d.comb += [
        dut.i.payload.as_value().eq(i),
        dut.i.valid.eq(i_valid),
        i_ready.eq(dut.i.ready),
        o.eq(dut.o.payload.as_value()),
        o_valid.eq(dut.o.valid),
        dut.o.ready.eq(o_ready),
    ]
    il = tmp_path / "slice.il"
    il.write_text(
        rtlil.convert(
            m, name="top", ports=[i, i_valid, i_ready, o, o_valid, o_ready], emit_src=False
        )
    )
    counts = synthesize([il], flow_of(ECP5).synthesis, tmp_path, "top")
    cells = json.loads((tmp_path / "netlist.json").read_text())["modules"]["top"]["cells"].values()
    luts = [cell["connections"] for cell in cells if cell["type"] == "LUT4"]
    made = {lut["Z"][0] for lut in luts}
    assert not [lut for lut in luts for pin in "ABCD" if lut[pin][0] in made]
    estimate = RegisterSlice.estimate(width, ECP5)
    assert counts["lut"] <= estimate.lut + 4
    assert counts["ff"] <= estimate.ff


@pytest.mark.parametrize("depth", [10, 16, 40])
def test_no_reset_of_a_queue_is_behind_logic(depth, tmp_path):
    """What takes a word may be far away: what it does to an address is one gate behind it."""
    synthesized(Queue(unsigned(8), depth, ECP5), ECP5, tmp_path)
    netlist = json.loads((tmp_path / "out" / "netlist.json").read_text())
    cells = netlist["modules"]["top"]["cells"].values()
    made = {cell["connections"]["Z"][0] for cell in cells if cell["type"] == "LUT4"}
    registers = [cell["connections"] for cell in cells if cell["type"] == "TRELLIS_FF"]
    assert registers
    assert not [register for register in registers if register["LSR"][0] in made]


@pytest.mark.parametrize(
    ("part", "resources"),
    [
        (Queue(40, 32, ICE40), Queue.estimate(40, ICE40)),
        (Fifo(3, signed(8), 300, ICE40), Fifo.estimate(300, 24, ICE40)),
        (ReuseBuffer(REPLAY), REPLAY.resources()),
    ],
    ids=["queue", "fifo", "reuse buffer"],
)
def test_queues_are_block_rams_on_ice40(part, resources, tmp_path):
    counts, _ = synthesized(part, ICE40, tmp_path)
    assert counts["bram"] == resources.bram
