"""The reuse buffer cuts reductions to another width and repeats them, without a pause."""

import random

import numpy as np
import pytest
from amaranth import signed
from gatewright.hw.target import GENERIC
from gatewright.hw.window.reuse_buffer import ReuseBuffer, ReuseBufferConfig
from numpy.testing import assert_array_equal

from .bench import STALLS, Port, _Pauses, random_elements, simulate

REDUCTIONS = 6

CASES = {
    "same width": ReuseBufferConfig(12, 4, 4, 2, signed(8), target=GENERIC),
    "half": ReuseBufferConfig(12, 4, 2, 1, signed(8), target=GENERIC),
    "half, three passes": ReuseBufferConfig(12, 4, 2, 3, signed(8), target=GENERIC),
    "one element a word": ReuseBufferConfig(10, 5, 1, 2, signed(8), target=GENERIC),
    "neither divides": ReuseBufferConfig(27, 9, 5, 2, signed(8), target=GENERIC),
    "neither divides, one pass": ReuseBufferConfig(27, 9, 5, 1, signed(8), target=GENERIC),
    "just less": ReuseBufferConfig(36, 9, 8, 1, signed(6), target=GENERIC),
    "two thirds": ReuseBufferConfig(18, 6, 4, 1, signed(8), target=GENERIC),
    "one word in": ReuseBufferConfig(9, 9, 4, 1, signed(8), target=GENERIC),
    "one word out": ReuseBufferConfig(3, 3, 3, 4, signed(8), target=GENERIC),
    "last word in is short": ReuseBufferConfig(7, 3, 2, 2, signed(8), target=GENERIC),
    "last word in is one element": ReuseBufferConfig(10, 3, 3, 1, signed(8), target=GENERIC),
    "two words out": ReuseBufferConfig(9, 9, 5, 1, signed(8), target=GENERIC),
    "two words out of one, the second short": ReuseBufferConfig(
        9, 9, 8, 1, signed(8), target=GENERIC
    ),
    "two words out, two passes": ReuseBufferConfig(9, 9, 5, 2, signed(8), target=GENERIC),
    "two words out of a wide one": ReuseBufferConfig(25, 25, 13, 1, signed(4), target=GENERIC),
    "three words out": ReuseBufferConfig(25, 25, 9, 1, signed(4), target=GENERIC),
    "one-bit elements": ReuseBufferConfig(11, 4, 3, 2, signed(1), target=GENERIC),
}


def golden(c, reductions):
    """Words that leave, None where a word is padded."""
    padded = np.full((len(reductions), c.folds * c.width_out), None, object)
    padded[:, : c.length] = reductions
    return padded.reshape(-1, 1, c.folds, c.width_out).repeat(c.passes, 1).reshape(-1, c.width_out)


def rtl(c, reductions, stall=0.0, seed=0):
    """Words (cycle, first, last, elements) that leave."""
    dut = ReuseBuffer(c)
    padded = np.zeros((len(reductions), c.reads * c.width_in), np.int64)
    padded[:, : c.length] = reductions
    words = padded.reshape(-1, c.reads, c.width_in)
    given = Port(dut.i.valid, None, dut.i.payload.as_value(), c.width_in, c.element)
    taken = Port(dut.o.valid, None, dut.o.payload.as_value(), c.width_out, c.element)
    pauses, grants = _Pauses(stall, f"source {seed}"), _Pauses(stall, f"grant {seed}")
    wanted = len(reductions) * c.passes * c.folds
    out = []

    async def bench(ctx):
        """As the window does: a reduction that has room is promised, and comes later."""
        promised = []
        sent = cycle = 0
        while len(out) < wanted:
            room = ctx.get(dut.room)
            take = room and sent < len(reductions) and not promised and not pauses()
            ctx.set(dut.taken, take)
            if take:
                promised = [(n == 0, n == c.reads - 1, word) for n, word in enumerate(words[sent])]
                sent += 1
            first, last, word = promised.pop(0) if promised else (0, 0, None)
            ctx.set(dut.i.valid, word is not None)
            ctx.set(dut.i.first, first)
            ctx.set(dut.i.last, last)
            ctx.set(given.payload, 0 if word is None else given.pack(word))
            ctx.set(dut.grant, not grants())
            _, _, valid, first, last, payload = await ctx.tick().sample(
                dut.o.valid, dut.o.first, dut.o.last, taken.payload
            )
            if valid:
                out.append((cycle, first, last, taken.unpack(payload)))
            assert cycle < (out[-1][0] if out else 0) + 500, f"stuck at word {len(out)}"
            cycle += 1

    simulate(dut, bench)
    return out


def check(c, stall, seed=0, count=REDUCTIONS):
    reductions = random_elements(c.element, (count, c.length), seed)
    words = rtl(c, reductions, stall, seed)
    wanted = golden(c, reductions)
    found = np.array([elements for *_, elements in words], object)
    assert_array_equal(np.where(np.equal(wanted, None), None, found), wanted)
    for n in range(0, len(words), c.folds):
        run = words[n : n + c.folds]
        assert [cycle for cycle, *_ in run] == list(range(run[0][0], run[0][0] + c.folds))
        assert [first for _, first, _, _ in run] == [1] + [0] * (c.folds - 1)
        assert [last for _, _, last, _ in run] == [0] * (c.folds - 1) + [1]
    return [cycle for cycle, *_ in words]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", CASES)
def test_cuts_and_repeats(name, stall):
    check(CASES[name], stall)


@pytest.mark.parametrize("name", CASES)
def test_a_word_leaves_every_cycle(name):
    assert_no_pause(check(CASES[name], 0.0, count=8))


def assert_no_pause(cycles):
    late = cycles[len(cycles) // 2 :]
    assert late == list(range(late[0], late[0] + len(late)))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("folds", [2, 3, 4, 5])
@pytest.mark.parametrize("reads", [1, 2, 3])
def test_few_words_a_reduction_leave_every_cycle(folds, reads, passes):
    """The banks change hands most often when a reduction has few words."""
    widths = ((i, o) for i in range(1, 12) for o in range(1, i) if -(-reads * i // o) == folds)
    for width_in, width_out in list(widths)[:1]:
        c = ReuseBufferConfig(
            reads * width_in, width_in, width_out, passes, signed(3), target=GENERIC
        )
        assert_no_pause(check(c, 0.0, count=8))


@pytest.mark.parametrize("seed", range(12))
def test_random_widths(seed):
    rng = random.Random(seed)
    width_in = rng.randint(1, 9)
    c = ReuseBufferConfig(
        rng.randint(width_in, 30),
        width_in,
        rng.randint(1, width_in),
        rng.randint(1, 3),
        signed(5),
        target=GENERIC,
    )
    check(c, rng.choice([0.0, 0.3, 0.7]), seed)


def test_the_words_in_may_not_be_narrower_than_the_words_out():
    with pytest.raises(ValueError, match="width_in=3"):
        ReuseBufferConfig(12, 3, 4, 1, signed(8), target=GENERIC)
