"""The sliding window reads what a convolution looks at, a word a cycle."""

import random
from dataclasses import replace
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import SlidingWindow, WindowConfig
from gatewright.hw.target import ECP5, GENERIC, ICE40
from numpy.testing import assert_array_equal

from .bench import _Pauses, _Source, beats_of, port, random_elements, simulate, synthesized

FRAMES = 4
FILL = -3


def window(
    height,
    width,
    channels,
    kernel,
    *,
    chunk=None,
    stride=(1, 1),
    dilation=(1, 1),
    pads=(0, 0, 0, 0),
    **more,
):
    return WindowConfig(
        height,
        width,
        channels,
        signed(8),
        chunk or channels,
        kernel,
        stride,
        dilation,
        pads,
        FILL,
        **{"target": GENERIC, **more},
    )


SAME = (1, 1, 1, 1)
CASES = {
    "pointwise": window(3, 4, 5, (1, 1), chunk=2),
    "three by three": window(5, 5, 4, (3, 3), chunk=2, pads=SAME),
    "no padding": window(5, 6, 2, (3, 3)),
    "rows at once": window(5, 5, 4, (3, 3), chunk=2, pads=SAME, parallel=(3, 1)),
    "columns at once": window(5, 5, 4, (3, 3), chunk=2, pads=SAME, parallel=(1, 3)),
    "all taps at once": window(6, 5, 3, (3, 3), chunk=1, pads=SAME, parallel=(3, 3)),
    "all taps, all channels": window(6, 5, 3, (3, 3), pads=SAME, parallel=(3, 3)),
    "padded on one corner": window(5, 5, 2, (3, 3), pads=(0, 0, 1, 1), parallel=(3, 1)),
    "padded unevenly": window(4, 5, 2, (3, 3), pads=(2, 0, 1, 2), parallel=(1, 3)),
    "padded unevenly, all taps": window(4, 5, 2, (3, 3), pads=(0, 2, 2, 1), parallel=(3, 3)),
    "stride two": window(7, 7, 3, (3, 3), stride=(2, 2), pads=SAME, chunk=1),
    "stride two, rows": window(7, 8, 2, (3, 3), stride=(2, 2), pads=(0, 0, 1, 1), parallel=(3, 1)),
    "stride two, columns": window(8, 7, 2, (3, 3), stride=(2, 2), pads=SAME, parallel=(1, 3)),
    "stride two, all taps": window(
        8, 7, 4, (3, 3), stride=(2, 2), pads=SAME, parallel=(3, 3), chunk=1
    ),
    "stride above kernel": window(7, 7, 2, (2, 2), stride=(3, 3), parallel=(2, 1), chunk=1),
    "uneven stride": window(8, 8, 3, (3, 2), stride=(1, 3), chunk=1, parallel=(1, 2)),
    "dilation two, rows": window(
        7, 6, 2, (3, 3), dilation=(2, 2), pads=(2, 2, 2, 2), parallel=(3, 1)
    ),
    "dilation two, columns": window(
        6, 7, 2, (3, 3), dilation=(2, 2), pads=(2, 2, 2, 2), parallel=(1, 3)
    ),
    "dilation two, all taps": window(
        7, 7, 2, (3, 3), dilation=(2, 2), pads=(2, 2, 2, 2), parallel=(3, 3), chunk=1
    ),
    "dilation three, all taps": window(
        9, 8, 2, (3, 3), dilation=(3, 3), pads=(1, 2, 0, 1), parallel=(3, 3), chunk=1
    ),
    "dilation three, two by two": window(
        6, 7, 3, (2, 2), dilation=(3, 3), parallel=(2, 2), chunk=1
    ),
    "dilation two, two by two": window(6, 7, 3, (2, 2), dilation=(2, 2), parallel=(2, 2), chunk=1),
    "dilation without parallel taps": window(7, 8, 2, (3, 3), dilation=(3, 2), pads=(0, 1, 2, 3)),
    "uneven dilation and stride": window(
        9, 8, 3, (3, 3), stride=(2, 1), dilation=(1, 2), pads=(0, 1, 0, 1), parallel=(3, 3), chunk=1
    ),
    "rows left over": window(6, 4, 2, (2, 2), stride=(4, 2), chunk=1),
    "rows left over, all taps": window(7, 5, 4, (2, 2), stride=(3, 3), chunk=1, parallel=(2, 2)),
    "kernel is the map": window(4, 3, 2, (4, 3)),
    "kernel is the map, all taps": window(4, 3, 4, (4, 3), parallel=(4, 3), chunk=1, passes=12),
    "kernel beyond the map": window(2, 2, 3, (5, 4), pads=(2, 1, 1, 1), chunk=1),
    "groups": window(4, 4, 6, (3, 3), pads=SAME, groups=3, chunk=2),
    "groups of words": window(4, 4, 8, (3, 2), groups=2, chunk=2, parallel=(1, 2)),
    "groups, all taps": window(4, 4, 6, (3, 3), pads=SAME, groups=3, chunk=1, parallel=(3, 3)),
    "passes": window(4, 4, 4, (3, 3), chunk=2, passes=3, parallel=(3, 1)),
    "groups and passes": window(3, 4, 4, (2, 2), chunk=1, groups=2, passes=2, parallel=(2, 1)),
    "one dimension": window(9, 1, 4, (5, 1), chunk=2, pads=(2, 0, 2, 0)),
    "one dimension, all taps": window(9, 1, 4, (3, 1), chunk=1, dilation=(2, 1), parallel=(3, 1)),
    "one dimension, across": window(1, 9, 3, (1, 4), chunk=1, pads=(0, 1, 0, 2), parallel=(1, 4)),
    "one pixel": window(1, 1, 7, (1, 1), chunk=3),
    "one pixel, one word": window(1, 1, 3, (1, 1)),
    "one row of padding": window(3, 3, 1, (1, 1), pads=(0, 1, 1, 0)),
}


def golden(c, frames):
    """Words [reads, elements] of every reduction, in order; None where no weight looks."""
    order = c.order()
    depth = c.channels // c.groups
    words = []
    for frame, row, column, group, _ in np.ndindex(
        len(frames), c.height_out, c.width_out, c.groups, c.passes
    ):
        for index in order.reshape(-1):
            tap, channel = divmod(int(index), depth)
            y = row * c.stride[0] + tap // c.kernel[1] * c.dilation[0] - c.pads[0]
            x = column * c.stride[1] + tap % c.kernel[1] * c.dilation[1] - c.pads[1]
            if index < 0:
                words.append(None)
            elif 0 <= y < c.height and 0 <= x < c.width:
                words.append(frames[frame, y, x, group * depth + channel])
            else:
                words.append(c.fill)
    return np.array(words, object).reshape(-1, order.shape[1])


class _Pace(_Pauses):
    """Of a source that gives ``beats`` in ``cycles``, evenly, and can not make up for lost time."""

    def __init__(self, beats, cycles):
        super().__init__(0.0, 0)
        self.beats, self.cycles, self.credit = beats, cycles, cycles

    def __call__(self):
        self.credit += self.beats
        if self.credit < self.cycles:
            return True
        self.credit -= self.cycles
        return False


def rtl(c, frames, stall=0.0, seed=0, pace=None):
    """Words (cycle, first, last, elements) that come out, and the cycles of ``start``."""
    dut = SlidingWindow(c)
    source = _Source(
        port(dut.i), beats_of(frames, c.chunk), pace or _Pauses(stall, f"source {seed}")
    )
    pauses = _Pauses(stall, f"grant {seed}")
    wanted = len(frames) * c.cycles()
    out, starts = [], []
    taken = replace(port(dut.i), payload=dut.o.payload.as_value(), lanes=c.taps * c.chunk)

    async def bench(ctx):
        cycle, patience = 0, 3000
        while len(out) < wanted:
            source.drive(ctx)
            ctx.set(dut.grant, not pauses())
            _, _, ready, start, valid, first, last, payload = await ctx.tick().sample(
                dut.i.ready, dut.start, dut.o.valid, dut.o.first, dut.o.last, taken.payload
            )
            source.look(cycle, ready)
            if start:
                starts.append(cycle)
            if valid:
                out.append((cycle, first, last, taken.unpack(payload)))
            assert cycle < (out[-1][0] if out else 0) + patience, f"stuck at word {len(out)}"
            cycle += 1

    simulate(dut, bench)
    return out, starts


def frames_of(c, count=FRAMES, seed=0):
    return random_elements(signed(8), (count, c.height, c.width, c.channels), seed)


def check_values(c, words, frames):
    wanted = golden(c, frames)
    seen = np.array([elements for *_, elements in words], object)
    looked_at = np.not_equal(wanted, None)
    assert_array_equal(np.where(looked_at, seen, None), wanted)


@pytest.mark.parametrize("name", CASES)
def test_windows_are_read_without_a_pause(name):
    c, frames = CASES[name], frames_of(CASES[name])
    words, _ = rtl(c, frames)
    check_values(c, words, frames)
    ends = [words[(n + 1) * c.cycles() - 1][0] for n in range(FRAMES)]
    intervals = [b - a for a, b in pairwise(ends)]
    assert intervals[1:] == [max(c.cycles(), c.beats_in())] * (FRAMES - 2)


#: maps that a tight line buffer holds fewer rows of
TIGHT = {
    "three by three": window(8, 8, 4, (3, 3), chunk=2, pads=SAME, passes=2),
    "narrow": window(6, 4, 4, (3, 3), chunk=1, pads=SAME, passes=2),
    "no padding": window(9, 9, 2, (3, 3), chunk=1, passes=2),
    "padded unevenly": window(9, 12, 2, (3, 3), chunk=1, pads=(1, 0, 0, 1), passes=2),
    "stride two": window(12, 12, 4, (3, 3), stride=(2, 2), pads=(0, 0, 1, 1), passes=3),
    "pointwise, stride two": window(12, 12, 4, (1, 1), chunk=1, stride=(2, 2), passes=4),
    "stride three": window(12, 12, 4, (2, 2), chunk=1, stride=(3, 3), passes=3),
    "five by five": window(10, 10, 2, (5, 5), chunk=1, pads=(2, 2, 2, 2)),
    "dilation": window(10, 10, 2, (3, 3), chunk=1, dilation=(2, 2), pads=(2, 2, 2, 2)),
    "groups": window(8, 8, 6, (3, 3), chunk=1, pads=SAME, groups=3),
    "rows at once": window(
        12, 12, 4, (3, 3), chunk=1, stride=(2, 2), pads=(0, 0, 1, 1), parallel=(3, 1), passes=4
    ),
    "the whole map": window(6, 6, 8, (6, 6), chunk=1, stride=(6, 6)),
}


@pytest.mark.parametrize("name", TIGHT)
def test_tight_lines_are_fewer_and_lose_no_cycle(name):
    """Not even to a neighbour that is no faster and can not make up for what it waits."""
    c = replace(TIGHT[name], minimal_rows=True)
    assert c.rows < TIGHT[name].rows
    frames = frames_of(c, 6)
    words, _ = rtl(c, frames, pace=_Pace(c.beats_in(), c.cycles()))
    check_values(c, words, frames)
    ends = [words[(n + 1) * c.cycles() - 1][0] for n in range(6)]
    assert abs(ends[-1] - ends[1] - 4 * c.cycles()) <= 1


@pytest.mark.parametrize("name", CASES)
def test_stalls_change_nothing(name):
    c, frames = CASES[name], frames_of(CASES[name], 2)
    words, starts = rtl(c, frames, stall=0.5)
    check_values(c, words, frames)
    check_reductions(c, words, starts)


def check_reductions(c, words, starts):
    """Each reduction is marked at both ends, runs without a pause, and comes after its start."""
    for n in range(0, len(words), c.reads):
        reduction = words[n : n + c.reads]
        cycles = [cycle for cycle, *_ in reduction]
        assert cycles == list(range(cycles[0], cycles[0] + c.reads))
        assert [first for _, first, _, _ in reduction] == [1] + [0] * (c.reads - 1)
        assert [last for _, _, last, _ in reduction] == [0] * (c.reads - 1) + [1]
        assert cycles[0] == starts[n // c.reads] + c.latency


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_unsigned_maps_pad_with_their_own_fill(stall):
    c = replace(CASES["padded unevenly"], element=unsigned(8), fill=200)
    frames = random_elements(unsigned(8), (2, c.height, c.width, c.channels))
    check_values(c, rtl(c, frames, stall)[0], frames)


@pytest.mark.parametrize("seed", range(16))
def test_random_windows(seed):
    rng = random.Random(seed)
    c = None
    while c is None or not 1 <= c.cycles() <= 600:
        c = random_window(rng)
    frames = frames_of(c, 2, seed)
    words, starts = rtl(c, frames, rng.choice([0.0, 0.3, 0.7]), seed)
    check_values(c, words, frames)
    check_reductions(c, words, starts)


def random_window(rng):
    kernel = rng.randint(1, 4), rng.randint(1, 4)
    groups, chunk, words = rng.choice([(1, 1, 1), (1, 2, 2), (1, 3, 2), (2, 1, 2), (3, 2, 1)])
    channels = groups * chunk * words - (groups == 1 and chunk > 1)
    try:
        return window(
            rng.randint(1, 9),
            rng.randint(1, 9),
            channels,
            kernel,
            chunk=chunk,
            groups=groups,
            passes=rng.randint(1, 2),
            stride=(rng.randint(1, 4), rng.randint(1, 4)),
            dilation=(rng.randint(1, 4), rng.randint(1, 4)),
            pads=tuple(rng.randint(0, 3) for _ in range(4)),
            parallel=tuple(rng.choice([1, k]) for k in kernel),
        )
    except ValueError:
        return None


def test_every_weight_is_met_once():
    for c in CASES.values():
        order = c.order()
        depth = c.channels // c.groups
        assert order.shape == (c.reads, c.taps * c.chunk)
        assert sorted(order[order >= 0]) == list(range(c.kernel[0] * c.kernel[1] * depth))


def test_the_line_buffer_holds_little_more_than_the_kernel():
    c = window(64, 64, 8, (3, 3), pads=SAME, parallel=(3, 3))
    assert c.rows <= 6
    assert c.memory_bits == 9 * ceil(64 / 3) * (c.rows // 3) * 8 * 8


@pytest.mark.parametrize(
    "c",
    [
        window(1, 1, 128, (1, 1), chunk=16, passes=16, target=ECP5),
        window(16, 16, 32, (1, 1), chunk=8, passes=4, target=ECP5),
        window(16, 16, 32, (3, 3), chunk=16, pads=SAME, passes=4, target=ECP5),
        window(16, 16, 32, (3, 3), chunk=4, pads=SAME, parallel=(3, 1), target=ECP5),
        window(13, 13, 4, (3, 3), chunk=1, parallel=(3, 1), passes=4, target=ICE40),
    ],
    ids=["one pixel", "pointwise", "padded", "three rows", "three rows on iCE40"],
)
def test_the_estimate_is_near_what_synthesis_makes(c, tmp_path):
    counts, around = synthesized(SlidingWindow(c), c.target, tmp_path)
    registers = counts["ff"] - around
    need = c.resources()
    assert counts["bram"] == need.bram
    assert 0.8 < need.ff / registers < 1.25
    assert 0.8 < need.lut / counts["lut"] < 1.4
