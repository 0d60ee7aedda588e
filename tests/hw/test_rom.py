"""Memories cut to block RAMs: as few as can be, each one alone, and what was stored comes out."""

import json
import random
from collections import defaultdict
from math import ceil

import pytest
from amaranth.back import rtlil
from gatewright.boards.flow import flow_of
from gatewright.boards.flow.synthesis import synthesize
from gatewright.hw import Ram, RamConfig, Rom, cover
from gatewright.hw.target import ECP5, GENERIC, ICE40

from .bench import simulate

SHAPES = {
    ECP5: ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    ICE40: ((256, 16), (512, 8), (1024, 4), (2048, 2)),
}

ODD = [
    (ECP5, 1, 8),
    (ECP5, 2, 1),
    (ECP5, 37, 45),
    (ECP5, 512, 36),
    (ECP5, 513, 36),
    (ECP5, 1440, 40),
    (ECP5, 2049, 9),
    (ECP5, 2600, 31),
    (ECP5, 360, 41),
    (ECP5, 2100, 45),
    (ECP5, 20000, 9),
    (ECP5, 150, 9),
    (ECP5, 1900, 1),
    (ICE40, 300, 17),
    (ICE40, 1801, 5),
    (GENERIC, 700, 20),
]

SYNTHESIZED = [(ECP5, 720, 72), (ECP5, 1500, 64), (ECP5, 360, 41), (ICE40, 700, 24)]


def random_words(depth, width):
    rng = random.Random(depth * width)
    return [rng.getrandbits(width) for _ in range(depth)]


# The cover.


@pytest.mark.parametrize("logic", [False, True])
@pytest.mark.parametrize("target", SHAPES)
@pytest.mark.parametrize("seed", range(40))
def test_every_bit_is_covered_once_by_native_shapes(target, seed, logic):
    rng = random.Random(seed)
    depth, width = rng.randint(1, 20000), rng.randint(1, 200)
    strips = cover(depth, width, target, logic)
    assert sum(strip.width for strip in strips) == width
    for strip in strips:
        held = [n for s in strip.segments for n in range(s.start, s.start + s.words)]
        assert held == list(range(depth))
        for segment in strip.segments:
            assert (segment.depth, segment.bits) in SHAPES[target] or (logic and not segment.bits)
            assert 0 < segment.words <= segment.depth
            assert segment.start % segment.depth == 0


@pytest.mark.parametrize("logic", [False, True])
@pytest.mark.parametrize("target", SHAPES)
@pytest.mark.parametrize("seed", range(40))
def test_never_more_block_rams_than_one_shape_needs(target, seed, logic):
    rng = random.Random(seed)
    depth, width = rng.randint(1, 20000), rng.randint(1, 200)
    assert _count(cover(depth, width, target, logic)) <= target.block_rams(depth, width)


@pytest.mark.parametrize("logic", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_a_strip_is_its_own_cover(seed, logic):
    """So a part of a memory may be built alone."""
    rng = random.Random(seed)
    depth, width = rng.randint(1, 20000 if seed % 2 else 700), rng.randint(1, 200)
    for strip in cover(depth, width, ECP5, logic):
        assert cover(depth, strip.width, ECP5, logic) == (strip,)


@pytest.mark.parametrize(
    ("depth", "width", "count"),
    [
        (60, 300, 0),
        (80, 72, 2),
        (360, 112, 3),  # four bits of each word are in logic
        (2100, 45, 5),  # the last 52 words are
        (360, 4, 0),
    ],
)
def test_what_is_small_is_in_logic(depth, width, count):
    strips = cover(depth, width, ECP5, logic=True)
    assert _count(strips) == count
    in_logic = sum(s.width * g.words for s in strips for g in s.segments if not g.bits)
    saved = _count(cover(depth, width, ECP5)) - count
    assert in_logic <= saved * 512 * 36 // 8


@pytest.mark.parametrize(
    ("target", "depth", "width", "count"),
    [
        (ECP5, 48, 352, 9),  # 28 bits are in logic
        (ECP5, 17, 72, 2),
        (ECP5, 60, 35, 0),
        (ECP5, 64, 352, 9),  # as without
        (ECP5, 2100, 45, 5),
        (ICE40, 20, 100, 6),
    ],
)
def test_few_words_are_in_block_ram_where_that_is_asked_for(target, depth, width, count, tmp_path):
    assert _count(cover(depth, width, target, logic=True, whole=True)) == count
    rom = Rom(random_words(depth, width), width, target, whole=True)
    counts, cells = _netlist(rom, [rom.address, rom.data], target, tmp_path)
    assert counts["bram"] == rom.resources().bram == count
    _assert_registered(target, cells, tmp_path)


@pytest.mark.parametrize(("depth", "width"), [(512, 36), (1024, 90), (2048, 45), (1536, 72)])
def test_whole_shapes_are_filled(depth, width):
    assert _count(cover(depth, width, ECP5)) * 512 * 36 == depth * width


@pytest.mark.parametrize(
    ("depth", "width", "count"),
    [
        (1440, 104, 9),  # 1024 and 416 words of 36 bits take three
        (720, 27, 2),  # 18 bits and 9
        (1440, 8, 1),
        (1440, 20, 3),
        (9000, 8, 5),  # 8192 words four times, and the rest once
        (16384, 3, 3),
    ],
)
def test_the_fewest_block_rams(depth, width, count):
    assert _count(cover(depth, width, ECP5)) == count


@pytest.mark.parametrize(("depth", "width"), [(720, 72), (1024, 8), (2048, 20), (16384, 8)])
def test_no_choice_where_it_saves_nothing(depth, width):
    assert not any(strip.has_choice for strip in cover(depth, width, ECP5))


def _count(strips):
    return sum(ceil(s.width / g.bits) for s in strips for g in s.segments if g.bits)


# What they hold.


@pytest.mark.parametrize(("target", "depth", "width"), ODD)
@pytest.mark.parametrize("whole", [False, True])
def test_every_word_of_a_rom_comes_out(target, depth, width, whole):
    words = random_words(depth, width)
    rom = Rom(words, width, target, whole)
    order = [*random.Random(1).choices(range(depth), k=200), 0, depth - 1]
    seen = []

    async def bench(ctx):
        for n in range(len(order) + rom.latency):
            ctx.set(rom.address, order[min(n, len(order) - 1)])
            seen.append(ctx.get(rom.data))
            await ctx.tick()

    simulate(rom, bench)
    assert seen[rom.latency :] == [words[n] for n in order]


@pytest.mark.parametrize(("target", "depth", "width"), ODD)
def test_a_ram_gives_back_what_was_written(target, depth, width):
    """From the second cycle after a write on; in the first one the word may be anything."""
    ram = Ram(RamConfig(depth, width, target))
    rng = random.Random(depth)
    places = [0, depth - 1, *rng.choices(range(depth), k=6)]
    writes = [(rng.choice(places), rng.getrandbits(width), rng.random() < 0.7) for _ in range(400)]
    reads = rng.choices(places, k=400)
    seen = []

    async def bench(ctx):
        for (place, word, enable), address in zip(writes, reads, strict=True):
            ctx.set(ram.write_address, place)
            ctx.set(ram.write_data, word)
            ctx.set(ram.write_enable, enable)
            ctx.set(ram.address, address)
            seen.append(ctx.get(ram.data))
            await ctx.tick()

    simulate(ram, bench)
    stored, checked = {}, 0
    for cycle, found in enumerate(seen[ram.config.latency :]):
        if cycle >= 2 and writes[cycle - 2][2]:
            stored[writes[cycle - 2][0]] = writes[cycle - 2][1]
        written = cycle >= 1 and writes[cycle - 1][2] and writes[cycle - 1][0] == reads[cycle]
        if not written and reads[cycle] in stored:
            assert found == stored[reads[cycle]]
            checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    ("depth", "width", "latency"),
    [(128, 16, 2), (512, 80, 2), (2048, 8, 2), (1440, 40, 3), (20000, 9, 4)],
)
def test_the_latency_of_a_ram(depth, width, latency):
    assert RamConfig(depth, width, ECP5).latency == latency


# What synthesis makes of them.


def _netlist(component, ports, target, folder):
    """Counts of the synthesized cells, and the cells."""
    il = folder / "memory.il"
    il.write_text(rtlil.convert(component, name="top", ports=ports, emit_src=False))
    counts = synthesize([il], flow_of(target).synthesis, folder / target.name, "top")
    netlist = json.loads((folder / target.name / "netlist.json").read_text())
    return counts, netlist["modules"]["top"]["cells"].values()


def _is_block_ram(cell):
    return cell["type"] == "DP16KD" or cell["type"].startswith("SB_RAM40_4K")


def _after_block_rams(cells):
    """The types and ports that block RAMs' outputs go to."""
    takers = defaultdict(set)
    for cell in cells:
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    takers[bit].add((cell["type"], port))
    outputs = [
        bit
        for cell in cells
        if _is_block_ram(cell)
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] == "output"
        for bit in bits
    ]
    return {taker for bit in outputs for taker in takers[bit]}


def _assert_registered(target, cells, folder):
    """Every block RAM is followed by a register: packed into it, or nothing but a register."""
    if target == ECP5:
        assert "not packed" not in (folder / target.name / "packing.log").read_text()
    else:
        assert _after_block_rams(cells) <= {("SB_DFF", "D"), ("SB_DFFSR", "D")}


@pytest.mark.parametrize(("target", "depth", "width"), SYNTHESIZED)
def test_each_tile_of_a_rom_is_one_block_ram_before_a_register(target, depth, width, tmp_path):
    rom = Rom(random_words(depth, width), width, target)
    counts, cells = _netlist(rom, [rom.address, rom.data], target, tmp_path)
    assert counts["bram"] == rom.resources().bram == _count(rom.strips)
    _assert_registered(target, cells, tmp_path)


@pytest.mark.parametrize(("target", "depth", "width"), SYNTHESIZED)
def test_each_tile_of_a_ram_is_one_block_ram_before_a_register(target, depth, width, tmp_path):
    ram = Ram(RamConfig(depth, width, target))
    ports = [ram.address, ram.data, ram.write_address, ram.write_data, ram.write_enable]
    counts, cells = _netlist(ram, ports, target, tmp_path)
    assert counts["bram"] == ram.config.resources().bram
    _assert_registered(target, cells, tmp_path)


@pytest.mark.parametrize(("depth", "width", "bram"), [(64, 32, 0), (128, 16, 1), (64, 33, 1)])
def test_small_rams_are_in_logic(depth, width, bram, tmp_path):
    ram = Ram(RamConfig(depth, width, ECP5))
    ports = [ram.address, ram.data, ram.write_address, ram.write_data, ram.write_enable]
    counts, cells = _netlist(ram, ports, ECP5, tmp_path)
    assert counts["bram"] == ram.config.resources().bram == bram
    assert any(cell["type"] == "TRELLIS_DPR16X4" for cell in cells) == (bram == 0)
