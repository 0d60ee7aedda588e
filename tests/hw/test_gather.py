"""A reordering buffer gives any selection of a frame's elements, in any order."""

import numpy as np
import pytest
from amaranth import signed
from gatewright.hw import Gather, GatherConfig
from gatewright.hw.target import GENERIC
from gatewright.hw.target.ice40 import ICE40
from numpy.testing import assert_array_equal

from .bench import STALLS, exchange, port, random_elements

FRAMES = 4
PIXELS = np.arange(60).reshape(5, 4, 3)  # rows, columns, channels


def config(order, words=60, *, lanes=1, fill=-5, target=GENERIC, bits=6):
    """Of words of ``lanes`` elements each."""
    order = np.asarray(order).reshape(-1)
    pattern = (order < 0).astype(int)
    patterns = [tuple(range(lanes)), (-1,) * lanes][: 2 if pattern.any() else 1]
    return GatherConfig(words, order, tuple(patterns), pattern, lanes, signed(bits), fill, target)


def frames_of(c, seed=0):
    return random_elements(c.element, (FRAMES, c.words, c.lanes_in), seed=seed)


def wanted(c, frames):
    """By the definition: [frames, beats, lanes]."""
    lanes = np.array(c.patterns)[c.pattern]
    taken = frames[:, c.source[:, None], lanes]
    return np.where(lanes < 0, c.fill, taken)


def rtl(c, frames, stall=0.0, seed=0):
    """What comes out, and the cycles in which frames end."""
    dut = Gather(c)
    beats = frames.reshape(-1, c.lanes_in)
    (seen,), (went,) = exchange(
        dut, [(port(dut.i), beats)], [(port(dut.o), FRAMES * c.reads)], stall=stall, seed=seed
    )
    values = np.array(seen.values).reshape(FRAMES, c.reads, c.lanes_out)
    return values, np.array(seen.cycles).reshape(FRAMES, -1)[:, -1], went


ORDERS = {
    "as it comes": PIXELS,
    "transposed": PIXELS.transpose(1, 0, 2),
    "channels first": PIXELS.transpose(2, 0, 1),
    "reversed": PIXELS[::-1, ::-1, ::-1],
    "some rows": PIXELS[1:3],
    "the last row": PIXELS[-1],
    "some columns": PIXELS[:, 1:3],
    "every other row": PIXELS[::2],
    "a channel": PIXELS[..., 1],
    "channels shuffled": PIXELS[..., [2, 0, 1]],
    "columns twice": PIXELS.repeat(2, axis=1),
    "rows twice": PIXELS.repeat(2, axis=0),
    "twice": PIXELS.repeat(2, axis=0).repeat(2, axis=1),
    "three tiles": np.tile(PIXELS, (3, 1, 1)),
    "a pixel for all": np.broadcast_to(PIXELS[:1, :1], (5, 4, 3)),
    "the last element": PIXELS[-1, -1, -1],
    "blocks": PIXELS[:4].reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4),
    "more channels": np.pad(PIXELS, ((0, 0), (0, 0), (2, 1)), constant_values=-1),
    "a border": np.pad(PIXELS, ((1, 1), (1, 1), (0, 0)), constant_values=-1),
    "a border below": np.pad(PIXELS, ((0, 3), (0, 0), (0, 0)), constant_values=-1),
    "mirrored": np.pad(PIXELS, ((2, 2), (2, 2), (0, 0)), mode="reflect"),
    "any": np.random.default_rng(1).permutation(60),
    "any, with gaps": np.random.default_rng(2).integers(-1, 60, 41),
    "any, more": np.random.default_rng(3).integers(0, 60, 77),
}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", ORDERS)
def test_beats_come_in_order(name, stall):
    c = config(ORDERS[name])
    frames = frames_of(c)
    values, ends, _ = rtl(c, frames, stall)
    assert_array_equal(values, wanted(c, frames))
    if not stall:
        assert set(np.diff(ends)[1:]) == {c.cycles()}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("seed", range(12))
def test_any_selection_in_any_order(seed, stall):
    rng = np.random.default_rng(seed)
    words, lanes_in, lanes_out = (int(n) for n in rng.integers(1, (40, 4, 5)))
    reads = int(rng.integers(1, 60))
    count = int(rng.integers(1, 4))
    patterns = tuple(map(tuple, rng.integers(-1, lanes_in, (count, lanes_out)).tolist()))
    c = GatherConfig(
        words,
        rng.integers(-1, words, reads),
        patterns,
        rng.integers(0, count, reads),
        lanes_in,
        signed(int(rng.integers(1, 9))),
        0,
        (GENERIC, ICE40)[seed % 2],
    )
    frames = frames_of(c, seed)
    values, ends, _ = rtl(c, frames, stall, seed)
    lanes = np.array(c.patterns)[c.pattern]
    free = (c.source[:, None] < 0) & (lanes >= 0)
    assert_array_equal(np.where(free, 0, values), np.where(free, 0, wanted(c, frames)))
    if not stall:
        assert set(np.diff(ends)[1:]) == {c.cycles()}


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("early", [range(12), [3, 0, 9, 1, 7, 2, 8, 4], [5] * 7])
def test_latency(early, fill):
    """From the last beat in to the last beat out, which waits for nothing else."""
    c = config([*early, *[-1] * fill, 59])
    dut = Gather(c)
    (seen,), (went,) = exchange(dut, [(port(dut.i), frames_of(c)[0])], [(port(dut.o), c.reads)])
    assert seen.cycles[-1] - went[-1] == c.latency


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("as it comes", 10),
        ("some rows", 10),
        ("every other row", 10),
        ("columns twice", 10),
        ("twice", 2 * 12 + 10),
        ("rows twice", 2 * 12 + 10),
        ("a pixel for all", 60 + 10),
        ("reversed", 2 * 60 + 10),
        ("any", 2 * 60 + 20),
    ],
)
def test_the_memory_holds_no_more_than_it_must(name, most):
    assert config(ORDERS[name]).depth <= most


@pytest.mark.parametrize(
    "name",
    ["transposed", "channels first", "reversed", "some columns", "twice", "three tiles", "blocks"],
)
def test_regular_orders_take_no_rom(name):
    c = config(ORDERS[name])
    assert c.steps.nest or not c.steps.sequence.in_rom
    if c.steps.nest:
        assert_array_equal(c.steps.nest.addresses(), c.source)


def test_words_move_whole():
    order = np.arange(20).reshape(5, 4).T
    c = config(order, 20, lanes=3)
    frames = frames_of(c)
    assert_array_equal(rtl(c, frames)[0], wanted(c, frames))


def test_an_order_beyond_the_frame_is_refused():
    with pytest.raises(ValueError, match="source=0 to 60, but a frame has 60 words"):
        config([0, 60])
    with pytest.raises(ValueError, match="a word has 1 lanes"):
        GatherConfig(4, np.arange(4), ((1,),), np.zeros(4, int), 1, signed(4), 0, GENERIC)
