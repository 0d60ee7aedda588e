"""Words stored in fewer, wider rows: they come out in order, and fill their block RAMs."""

import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gatewright.hw import Resources
from gatewright.hw.memory.packed_rows import PackedRows, PackedRowsRom, fewest_block_rams
from gatewright.hw.memory.tiles import cover, estimate
from gatewright.hw.target import ECP5, GENERIC, ICE40

from .bench import STALLS, simulate, synthesized

#: (depth, width, run)
SHAPES = [
    (2, 8, 1),
    (3, 5, 1),
    (3, 7, 2),
    (9, 8, 8),
    (10, 8, 8),
    (17, 3, 8),
    (42, 9, 4),
    (600, 30, 3),
    (1300, 12, 2),
]


class InTurn(wiring.Component):
    """A memory with what counts its words: ``steps`` goes to the next."""

    def __init__(self, words, config):
        self.words, self.config = words, config
        super().__init__({"steps": In(1), "data": Out(config.width)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = PackedRowsRom(self.words, self.config)
        m.d.comb += [rom.address.eq(self.config.steps(m, self.steps)), self.data.eq(rom.data)]
        return m


def drawn(depth, width):
    rng = random.Random(depth * width)
    return [rng.getrandbits(width) for _ in range(depth)]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(("depth", "width", "run"), SHAPES)
def test_words_come_in_order_however_they_are_asked_for(depth, width, run, stall):
    words = drawn(depth, width)
    rom = InTurn(words, PackedRows(depth, width, run, GENERIC))
    rng = random.Random(run)
    wanted, seen = [], []

    async def bench(ctx):
        at = 0
        for _ in range(2 * depth + 60):
            steps = rng.random() >= stall
            ctx.set(rom.steps, steps)
            wanted.append(words[at % depth])
            seen.append(ctx.get(rom.data))
            at += steps
            await ctx.tick()

    simulate(rom, bench)
    assert seen[PackedRowsRom.latency :] == wanted[: -PackedRowsRom.latency]


@pytest.mark.parametrize(("depth", "width", "run"), SHAPES)
def test_every_bit_has_one_place(depth, width, run):
    c = PackedRows(depth, width, run, ECP5)
    rows = c.stored(drawn(depth, width))
    assert len(rows) == c.rows == depth - depth // (run + 1)
    assert max(rows) < 1 << c.width + c.part
    assert run * c.part >= width > run * (c.part - 1)


@pytest.mark.parametrize(
    ("depth", "width", "target", "count"),
    [
        (36864, 8, ECP5, 16),  # the ninth bits of 8 bytes are another one
        (9216, 32, ECP5, 16),
        (1328, 224, ECP5, 17),  # 16.1 by its bits
        (1792, 368, ECP5, 37),
        (300, 128, ICE40, 10),
    ],
)
def test_fills_block_rams_whatever_the_shape(depth, width, target, count):
    pieces = fewest_block_rams(depth, width, target)
    assert sum(piece.width for piece in pieces) == width
    assert len({piece.run for piece in pieces}) == 1
    assert sum((piece.resources() for piece in pieces), Resources()).bram == count
    assert count < estimate(depth, width, target, 3, True).bram


@pytest.mark.parametrize(
    ("depth", "width", "target"),
    [(2304, 8, ECP5), (1328, 54, ECP5), (4700, 32, ECP5), (600, 26, ICE40)],
)
def test_the_estimate_is_near_what_synthesis_makes(depth, width, target, tmp_path):
    (c, *_) = fewest_block_rams(depth, width, target)
    rom = InTurn(drawn(depth, c.width), c)
    counts, around = synthesized(rom, target, tmp_path)
    need = c.resources()
    assert counts["bram"] == need.bram
    counter = 3 * c.address
    assert 0.75 < (need.ff + counter) / (counts["ff"] - around) < 1.33


def test_pieces_are_cut_as_their_memories_are():
    """A piece's own cover is what its estimate counts."""
    for depth, width in [(1328, 224), (300, 128), (5504, 48)]:
        for piece in fewest_block_rams(depth, width, ECP5):
            strips = cover(piece.rows, piece.width + piece.part, ECP5, logic=True)
            assert sum(strip.width for strip in strips) == piece.width + piece.part
            counted = sum(strip.resources(3, ECP5).bram for strip in strips)
            assert counted == piece.resources().bram
