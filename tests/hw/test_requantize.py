"""The requantizer narrows accumulators exactly, each with its own constants."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import Requantize, RequantizeConfig, Rounding
from gatewright.hw.target import ECP5, GENERIC
from numpy.testing import assert_array_equal

from .bench import STALLS, flow, random_elements, synthesized


def narrow(t, r):
    """``clip(t >> shift)``, a tie of the wrong parity lowered: one value at a time."""
    quotient = t >> r.shift
    tie = r.tie_bits is not None and t % (1 << r.shift) >> r.tie_bits == 0
    return min(max(quotient - (tie and quotient % 2 == r.tie_parity), r.low), r.high)


def golden(c, beats):
    """Beats that leave."""
    out = []
    for n, beat in enumerate(beats):
        entry = n // c.repeat % len(c.keep)
        if c.keep[entry]:
            at = entry * c.lanes
            out.append(
                [
                    narrow(int(acc) * c.mult[at + lane] + c.offset[at + lane], c.rounding)
                    for lane, acc in enumerate(beat)
                ]
            )
    return np.array(out)


def rtl(c, beats, gap=0.0):
    """Beats that leave; checks when, and how many were said to be dropped."""
    dut = Requantize(c)
    words = [[beat] for beat in beats]
    out, ends, (dropped,) = flow(
        dut, words, gap=gap, also=[dut.dropped], initiation_interval=c.initiation_interval
    )
    kept = [end for n, end in enumerate(ends) if c.keep[n // c.repeat % len(c.keep)]]
    assert [cycle for cycle, _ in out] == [end + c.latency for end in kept]
    assert dropped == len(ends) - len(kept)
    return np.array([elements for _, elements in out])


def near_thresholds(c, seed=0, periods=3):
    """Accumulators where the output takes a step, one beside it, and the ends of the range."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (c.acc.width - 1)), (1 << (c.acc.width - 1)) - 1
    beats = []
    for n in range(periods * len(c.keep) * c.repeat):
        entry, beat = n // c.repeat % len(c.keep), []
        for lane in range(c.lanes):
            mult, offset = c.mult[entry * c.lanes + lane], c.offset[entry * c.lanes + lane]
            step = int(rng.integers(c.rounding.low, c.rounding.high + 1))
            acc = ((step << c.rounding.shift) - offset) // max(mult, 1) + int(rng.integers(-1, 3))
            acc = int(rng.choice([low, high])) if rng.random() < 0.1 else acc
            beat.append(min(max(acc, low), high))
        beats.append(beat)
    return beats


BYTE, ACC = signed(8), signed(20)


def config(mult, offset, rounding, *, lanes=1, keep=None, repeat=1, acc=ACC, out=BYTE):
    keep = keep or (True,) * (len(mult) // lanes)
    return RequantizeConfig(
        lanes, acc, out, tuple(mult), tuple(offset), tuple(keep), rounding, repeat, target=GENERIC
    )


PLAIN, EVEN = Rounding(12, None, -128, 127), Rounding(6, 2, -128, 127)
CASES = {
    "one constant": config([201], [77], PLAIN),
    "one constant, three lanes": config([201] * 3, [77] * 3, PLAIN, lanes=3),
    "three channels": config([201, 5, 4095], [0, -9999, 123456], PLAIN),
    "a multiplier of 0": config([0, 7], [1 << 14, -1 << 14], PLAIN),
    "a multiplier of 1": config([1], [0], Rounding(0, None, -128, 127)),
    "two lanes": config([3, 200, 77, 1], [5, -6, 7, 1000], PLAIN, lanes=2),
    "dropped": config([3, 200, 77], [5, -6, 7], PLAIN, keep=[True, False, True]),
    "dropped lanes": config(
        [3, 200, 77, 8] * 2, [5, -6, 7, 0] * 2, PLAIN, lanes=2, keep=[False, True, True, False]
    ),
    "dropped, one constant": config([9, 9], [4, 4], PLAIN, keep=[True, False]),
    "repeat": config([3, 200, 77], [5, -6, 7], PLAIN, repeat=4),
    "repeat and drop": config([3, 200], [5, -6], PLAIN, repeat=3, keep=[False, True]),
    "unsigned": config([201, 9], [77, 50000], Rounding(12, None, 0, 255), out=unsigned(8)),
    "a clamp": config([201], [77], Rounding(9, None, -3, 21)),
    "half to even": config([16, 48], [32, 32], EVEN),
    "half to odd": config([16, 48], [32 + 64, 32], Rounding(6, 2, -128, 127, 0)),
    "wide": config(
        [(1 << 24) - 1, 1 << 23],
        [-(1 << 40), 1 << 41],
        Rounding(36, None, -128, 127),
        acc=signed(31),
    ),
    "four bits": config([3, 5], [8, 8], Rounding(4, None, -8, 7), acc=signed(9), out=signed(4)),
}


@pytest.mark.parametrize("gap", STALLS)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_golden(name, gap):
    c = CASES[name]
    beats = near_thresholds(c, periods=max(3, 60 // (len(c.keep) * c.repeat)))
    assert_array_equal(rtl(c, beats, gap), golden(c, beats))


@pytest.mark.parametrize("initiation_interval", [2, 3, 4, 5, 7, 12, 13, 30])
@pytest.mark.parametrize("name", CASES)
def test_takes_its_time_and_agrees(name, initiation_interval):
    """The multiplier bit by bit, or some at once, with beats as near as they may come."""
    c = replace(CASES[name], initiation_interval=initiation_interval)
    assert c.timing.digits == -(
        -c.mult_shape.width // -(-c.mult_shape.width // initiation_interval)
    )
    beats = near_thresholds(c, initiation_interval, max(2, 24 // (len(c.keep) * c.repeat)))
    for gap in STALLS:
        assert_array_equal(rtl(c, beats, gap), golden(c, beats))


@pytest.mark.parametrize("initiation_interval", [2, 3, 6, 12])
@pytest.mark.parametrize("entries", [16, 17, 40])
def test_large_tables_are_there_in_time(entries, initiation_interval):
    rng = np.random.default_rng(entries)
    mult = rng.integers(1 << 11, 1 << 12, entries).tolist()
    offset = rng.integers(-(1 << 20), 1 << 20, entries).tolist()
    c = replace(config(mult, offset, PLAIN), initiation_interval=initiation_interval)
    beats = near_thresholds(c, initiation_interval, 2)
    assert_array_equal(rtl(c, beats), golden(c, beats))


@pytest.mark.parametrize("initiation_interval", [1, 2, 3, 5, 16])
def test_the_ends_of_every_range(initiation_interval):
    """The widest product and offset, of either sign, through all digits."""
    offset = [(1 << 35) - 1, -(1 << 35), 0, -(1 << 35)]
    c = replace(
        config([(1 << 13) - 1] * 4, offset, Rounding(29, None, -128, 127)),
        initiation_interval=initiation_interval,
    )
    beats = [[acc] for acc in (-(1 << 19), (1 << 19) - 1, -1, 0) for _ in range(4)]
    assert_array_equal(rtl(c, beats), golden(c, beats))


@pytest.mark.parametrize(
    ("mult", "initiation_interval", "digit"),
    [(12, 1, 12), (12, 2, 6), (12, 5, 3), (12, 12, 1), (24, 16, 2)],
)
def test_digits_are_no_wider_than_the_spacing_asks(mult, initiation_interval, digit):
    c = replace(config([(1 << mult) - 1], [0], PLAIN), initiation_interval=initiation_interval)
    assert c.timing.digit == digit
    assert c.timing.serial == (digit < mult)


@pytest.mark.parametrize("name", CASES)
def test_agrees_anywhere_in_the_range(name):
    c = CASES[name]
    beats = random_elements(c.acc, (len(c.keep) * c.repeat * 8, c.lanes))
    assert_array_equal(rtl(c, beats), golden(c, beats))


def one_by_one(rounding, accs, *, mult=1, offset=0):
    c = config([mult], [offset], rounding, acc=signed(12))
    return rtl(c, [[acc] for acc in accs]).reshape(-1).tolist()


def test_rounds_half_to_even():
    # (acc + 2) >> 2 rounds halves up; ties are the multiples of 4 among acc + 2
    assert one_by_one(Rounding(2, 0, -128, 127), [-10, -6, -2, 2, 6, 10], offset=2) == [
        -2,
        -2,
        0,
        0,
        2,
        2,
    ]


def test_rounds_half_to_odd_where_the_zero_point_is_odd():
    assert one_by_one(Rounding(2, 0, -128, 127, 0), [-10, -6, -2, 2, 6, 10], offset=2) == [
        -3,
        -1,
        -1,
        1,
        1,
        3,
    ]


def test_only_ties_are_lowered():
    assert one_by_one(Rounding(2, 0, -128, 127), [1, 2, 3, 5, 6, 7], offset=2) == [0, 0, 1, 1, 2, 2]


def test_low_bits_are_not_part_of_a_tie():
    assert one_by_one(Rounding(4, 2, -128, 127), [8, 11, 12, 24, 27], offset=8) == [0, 0, 1, 2, 2]


def test_a_tie_is_lowered_before_the_clip():
    assert one_by_one(Rounding(2, 0, -3, 3), [10, 14, 18, -14, -18], offset=2) == [2, 3, 3, -3, -3]


def test_clips_at_both_ends():
    accs = [-2048, -513, -512, -509, 507, 508, 511, 512, 2047]
    assert one_by_one(Rounding(2, None, -128, 127), accs) == [
        -128,
        -128,
        -128,
        -128,
        126,
        127,
        127,
        127,
        127,
    ]


def test_saturates_to_a_clamp_inside_the_type():
    assert one_by_one(Rounding(0, None, -4, 21), [-2048, -5, -4, -3, 20, 21, 22, 2047]) == [
        -4,
        -4,
        -4,
        -3,
        20,
        21,
        21,
        21,
    ]


def test_a_shift_beyond_the_product_leaves_the_sign():
    assert one_by_one(Rounding(40, None, -128, 127), [-2048, -1, 0, 1, 2047]) == [-1, -1, 0, 0, 0]


def test_the_memory_of_many_constants_is_as_wide_as_estimated(tmp_path):
    """Offsets are as large as sums times their multipliers."""
    acc, mult, entries, rng = 26, 12, 264, np.random.default_rng(1)
    most = 1 << (acc + mult - 4)
    config = RequantizeConfig(
        1,
        signed(acc),
        signed(8),
        tuple(rng.integers(1 << (mult - 1), 1 << mult, entries).tolist()),
        tuple(rng.integers(-most, most, entries).tolist()),
        (True,) * entries,
        Rounding(16, None, -128, 127),
        target=ECP5,
    )
    counts, _ = synthesized(Requantize(config), ECP5, tmp_path)
    assert counts["bram"] == RequantizeConfig.estimate(1, acc, entries, 1, ECP5).bram == 2
