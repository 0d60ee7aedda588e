"""The systolic array computes matrix products, in order and at full rate, in every shape."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import ArrayConfig, SystolicArray
from gatewright.hw.arithmetic.dot_product import WeightCode
from gatewright.hw.array.placement import REACH
from gatewright.hw.target import ECP5, GENERIC, ICE40
from numpy.testing import assert_array_equal

from .bench import STALLS, flow, random_elements, synthesized

REDUCTIONS = 7


BYTE, NARROW, ACC = signed(8), signed(2), signed(26)
ONES = {"tree": WeightCode.TERNARY, "max_abs_weight": 1}


def array(simd, pe, folds, *, lanes=None, turns=1, x=BYTE, w=BYTE, acc=ACC, **more):
    """``turns`` words of each weight follow one another before the first comes again."""
    lanes = lanes or next(q for q in range(1, pe + 1) if pe % q == 0 and pe // q <= folds)
    return ArrayConfig(
        simd, pe, folds, folds * turns, lanes, x, w, acc, **{"target": GENERIC, **more}
    )


CASES = {
    "one multiplier": array(1, 1, 1),
    "one multiplier, folds": array(1, 1, 5, turns=2),
    "a row": array(1, 4, 4),
    "a column": array(5, 1, 3),
    "square": array(4, 4, 4, turns=2),
    "one fold": array(4, 3, 1, turns=3),
    "fewer folds than columns": array(3, 6, 2, turns=2),
    "as many folds as columns": array(3, 6, 6),
    "more folds than columns": array(2, 3, 9),
    "three lanes": array(2, 6, 2, lanes=3),
    "two lanes": array(2, 6, 4, lanes=2, turns=3),
    "all lanes": array(2, 5, 3, lanes=5),
    "unsigned activations": array(3, 3, 3, x=unsigned(8)),
    "narrow": array(3, 2, 2, x=unsigned(4), w=signed(3), acc=signed(11)),
    "one-bit activations": array(3, 2, 2, x=unsigned(1), w=signed(2), acc=signed(6)),
    "wide": array(2, 2, 2, x=signed(16), w=signed(12), acc=signed(34)),
    "soft": array(3, 2, 2, dsp_multipliers=0),
    "some soft": array(3, 4, 4, dsp_multipliers=5),
    "one soft": array(3, 2, 2, dsp_multipliers=5),
    "soft of one row": array(1, 4, 4, dsp_multipliers=3, turns=2),
    "columns of their own": array(3, 4, 4, shared=False),
    "columns of their own, lanes": array(2, 6, 3, shared=False, turns=2),
    "columns of their own, one fold": array(4, 3, 1, shared=False, turns=2),
    "columns of their own, soft": array(2, 3, 3, shared=False, dsp_multipliers=2),
    "memory": array(3, 3, 3, turns=3, memory="block_ram"),
    "memory, a row": array(1, 4, 4, turns=2, memory="block_ram"),
    "memory, lanes": array(5, 6, 3, turns=2, memory="block_ram"),
    "memory, columns of their own": array(3, 4, 4, shared=False, memory="block_ram"),
    "memory, one word": array(3, 2, 1, lanes=2, memory="block_ram"),
    "memory, half filled": array(5, 3, 3, w=signed(5), memory="block_ram"),
    "dense": array(3, 3, 3, turns=3, memory="packed_rows"),
    "dense, a row": array(1, 4, 4, turns=2, memory="packed_rows"),
    "dense, lanes": array(5, 6, 3, turns=2, memory="packed_rows"),
    "dense, a byte": array(1, 1, 6, turns=7, memory="packed_rows"),
    "dense, two words": array(3, 2, 2, memory="packed_rows"),
    "dense, packed": array(
        3, 4, 4, lanes=2, turns=5, w=signed(5), max_abs_weight=15, memory="packed_rows"
    ),
    "packed": array(3, 4, 4, lanes=2, turns=2, w=signed(5), max_abs_weight=15),
    "packed, one fold": array(4, 4, 1, turns=2, w=signed(5), max_abs_weight=15),
    "packed, one row": array(1, 4, 2, lanes=2, w=signed(5), max_abs_weight=15),
    "packed, unsigned activations": array(
        3, 2, 3, lanes=2, x=unsigned(8), w=signed(5), max_abs_weight=15
    ),
    "packed, a column alone": array(3, 6, 2, lanes=3, turns=2, w=signed(5), max_abs_weight=15),
    "packed, some soft": array(3, 4, 4, lanes=2, w=signed(5), max_abs_weight=15, dsp_multipliers=7),
    "packed, alone and soft": array(2, 5, 1, w=signed(5), max_abs_weight=15, dsp_multipliers=9),
    "packed, memory": array(
        3, 4, 4, lanes=2, turns=3, w=signed(5), max_abs_weight=15, memory="block_ram"
    ),
    "along the rows, some soft": array(20, 4, 1, lanes=4, dsp_multipliers=70),
    "along the rows, packed": array(20, 4, 1, w=signed(5), max_abs_weight=15, dsp_multipliers=70),
    "packed, six bits": array(2, 4, 2, lanes=2, x=signed(7), w=signed(6), max_abs_weight=31),
    "packed by three": array(3, 6, 2, lanes=3, turns=2, x=signed(4), w=signed(4), max_abs_weight=7),
    "packed by three, two left": array(
        2, 5, 1, x=unsigned(4), w=signed(3), max_abs_weight=3, turns=3
    ),
    "packed by three, lanes of two": array(
        2, 4, 2, lanes=2, x=signed(4), w=signed(4), max_abs_weight=7
    ),
    "narrow, in columns of their own": array(
        2, 4, 2, lanes=2, w=signed(5), max_abs_weight=15, shared=False
    ),
    "fast": array(4, 4, 4, turns=2, fast=True),
    "fast, one pair": array(2, 1, 1, fast=True),
    "fast, one product": array(1, 2, 3, turns=2, fast=True),
    "fast, an odd word": array(5, 3, 4, fast=True, x=unsigned(8)),
    "fast, one fold": array(4, 3, 1, turns=3, fast=True),
    "fast, lanes": array(6, 6, 4, lanes=2, turns=3, fast=True),
    "fast, two groups": array(3, 4, 2, turns=2, fast=True),
    "fast, results apart": array(4, 3, 12, initiation_interval=4, fast=True),
    "fast, soft": array(4, 2, 2, dsp_multipliers=0, fast=True),
    "fast, some soft": array(5, 4, 4, dsp_multipliers=5, fast=True),
    "fast, memory": array(5, 6, 3, turns=2, memory="block_ram", fast=True),
    "fast, dense": array(3, 4, 4, turns=5, memory="packed_rows", fast=True),
    "fast, narrow": array(4, 2, 2, x=unsigned(4), w=signed(3), acc=signed(13), fast=True),
    "fast, wide": array(3, 2, 2, x=signed(16), w=signed(12), acc=signed(36), fast=True),
}
SIGN = WeightCode.SIGN
CASES |= {
    "tree": array(5, 3, 3, turns=2, tree=WeightCode.PLANES),
    "tree, one product": array(1, 2, 2, turns=2, tree=WeightCode.PLANES),
    "tree, several rows": array(37, 4, 4, x=unsigned(4), w=signed(4), tree=WeightCode.PLANES),
    "tree, one fold": array(16, 3, 1, turns=3, x=signed(3), w=signed(5), tree=WeightCode.PLANES),
    "tree, two groups": array(19, 4, 2, turns=2, x=unsigned(2), w=NARROW, tree=WeightCode.PLANES),
    "tree, lanes": array(18, 6, 3, lanes=2, turns=3, x=unsigned(8), w=NARROW, **ONES),
    "tree, memory": array(
        33, 6, 3, turns=2, x=unsigned(4), w=signed(4), tree=WeightCode.PLANES, memory="block_ram"
    ),
    "tree, dense": array(35, 4, 4, turns=5, x=signed(4), w=NARROW, memory="packed_rows", **ONES),
    "tree, results apart": array(4, 3, 12, initiation_interval=4, tree=WeightCode.PLANES),
    "tree, ternary": array(9, 3, 4, turns=2, x=unsigned(4), w=NARROW, **ONES),
    "tree, ternary, signed": array(17, 3, 3, turns=2, x=signed(4), w=NARROW, **ONES),
    "tree, ternary, a bit": array(17, 3, 3, turns=2, x=unsigned(1), w=NARROW, **ONES),
    "tree, signs": array(9, 3, 4, turns=2, x=unsigned(3), w=NARROW, tree=SIGN, max_abs_weight=1),
    "tree, signs of bits": array(
        33, 2, 2, turns=2, x=unsigned(1), w=NARROW, tree=SIGN, max_abs_weight=1
    ),
    "tree, signs of signs": array(20, 2, 2, x=signed(2), w=NARROW, tree=SIGN, max_abs_weight=1),
}
PACKED = [name for name in CASES if name.startswith("packed")]


def golden(c, weights, reductions):
    """Results [reductions, pe]; ``reductions`` [n, folds, simd (, pe)]."""
    turns = c.depth // c.folds
    wanted = []
    for n, words in enumerate(reductions):
        turn = weights[:, :, n % turns * c.folds : (n % turns + 1) * c.folds]
        kind = "fr,prf->p" if c.shared else "frp,prf->p"
        squares = sum(np.sum(turn[:, n - 1] * turn[:, n], 1) for n in range(1, c.simd, 2))
        inverted = (1 << c.x.width) - 1 if not c.x.signed else -1
        negative = inverted * np.sum(turn < 0, (1, 2)) * (c.tree not in (None, WeightCode.PLANES))
        wanted.append(np.einsum(kind, words, turn) + c.fast * squares + negative)
    return np.array(wanted)


def rtl(c, weights, reductions, gap=0.0, seed=0):
    """Results [reductions, pe]; checks when they leave."""
    words = reductions.reshape(len(reductions), c.folds, -1)
    out, ends, _ = flow(SystolicArray(c, weights), words, gap=gap, seed=seed)
    expected = [
        end + c.latency + group * c.initiation_interval for end in ends for group in range(c.groups)
    ]
    assert [cycle for cycle, _ in out] == expected
    return np.array([elements for _, elements in out]).reshape(len(reductions), c.pe)


def stimuli(c, count=REDUCTIONS, seed=0):
    columns = () if c.shared else (c.pe,)
    weights = random_elements(c.w, (c.pe, c.simd, c.depth), seed)
    if c.tree is WeightCode.SIGN:
        weights = np.where(weights < 0, -1, 1)
    return (
        weights if c.max_abs_weight is None else weights.clip(-c.max_abs_weight, c.max_abs_weight),
        random_elements(c.x, (count, c.folds, c.simd, *columns), seed + 1),
    )


@pytest.mark.parametrize("gap", STALLS)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_matrix_product(name, gap):
    weights, reductions = stimuli(CASES[name])
    assert_array_equal(
        rtl(CASES[name], weights, reductions, gap), golden(CASES[name], weights, reductions)
    )


@pytest.mark.parametrize("gap", STALLS)
@pytest.mark.parametrize(
    ("pe", "folds", "initiation_interval", "lanes"),
    [
        (1, 5, 5, 1),
        (2, 4, 2, 1),
        (2, 5, 2, 1),
        (3, 6, 2, 1),
        (3, 12, 4, 1),
        (4, 12, 3, 1),
        (4, 6, 3, 2),
        (7, 14, 2, 1),
        (6, 20, 3, 1),
    ],
)
def test_results_leave_apart(pe, folds, initiation_interval, lanes, gap):
    """Up to one after the other without a pause; the next reduction's follow on the last's."""
    c = array(2, pe, folds, lanes=lanes, initiation_interval=initiation_interval)
    weights, reductions = stimuli(c)
    assert_array_equal(rtl(c, weights, reductions, gap), golden(c, weights, reductions))


@pytest.mark.parametrize("dsp_multipliers", [None, 0, 3])
@pytest.mark.parametrize(("x", "w"), [(-128, -128), (127, 127), (-128, 127), (127, -128)])
def test_the_ends_of_the_range(x, w, dsp_multipliers):
    c = array(3, 2, 2, dsp_multipliers=dsp_multipliers, acc=signed(18))
    weights = np.full((2, 3, 2), w)
    reductions = np.full((3, 2, 3), x)
    assert_array_equal(rtl(c, weights, reductions), np.full((3, 2), 6 * x * w))


def test_large_partial_sums_that_cancel():
    """The accumulator holds every partial sum, in any order, even where the total is small."""
    c = array(4, 1, 2, acc=signed(18))
    weights = np.array([[[127, -128]] * 4])
    reductions = np.full((2, 2, 4), -128)
    assert_array_equal(rtl(c, weights, reductions), [[4 * 128], [4 * 128]])


@pytest.mark.parametrize("dsp_multipliers", [None, 0])
@pytest.mark.parametrize(("x", "w"), [(signed(8), signed(8)), (unsigned(8), signed(8))])
def test_the_ends_of_the_range_of_the_fast_inner_product(x, w, dsp_multipliers):
    """All corner values of both pairs of operands, in an accumulator that just holds results."""
    low, high = (-128, 127) if x.signed else (0, 255)
    c = array(2, 1, 1, turns=9, x=x, acc=signed(19), dsp_multipliers=dsp_multipliers, fast=True)
    weights = np.array(list(product((-128, 0, 127), repeat=2))).T.reshape(1, 2, 9)
    corners = product((low, low + 1, 0, high), repeat=2)
    reductions = np.array([pair for pair in corners for _ in range(9)]).reshape(-1, 1, 2)
    assert_array_equal(rtl(c, weights, reductions), golden(c, weights, reductions))


def test_results_of_the_fast_inner_product_may_wrap_on_the_way():
    """The sums of products need more bits than the results, and than the accumulator."""
    c = array(4, 2, 3, acc=signed(14), fast=True)
    weights = np.zeros((2, 4, 3), np.int64)
    weights[:, 0] = [[5, -7, 3], [-9, 0, 1]]
    reductions = np.full((3, 3, 4), -128)
    assert_array_equal(rtl(c, weights, reductions), golden(c, weights, reductions))


def test_the_fast_inner_product_needs_activations_that_columns_share():
    with pytest.raises(ValueError, match="fast=True with shared=False"):
        array(4, 4, 4, fast=True, shared=False)


@pytest.mark.parametrize("dsp_multipliers", [None, 7])
def test_the_fast_inner_product_halves_the_blocks(dsp_multipliers, tmp_path):
    """Synthesis makes as many DSP blocks as the estimate says: half, and the correction column."""
    c = array(6, 4, 4, turns=2, target=ECP5, dsp_multipliers=dsp_multipliers, fast=True)
    counts, _ = synthesized(SystolicArray(c, stimuli(c)[0]), ECP5, tmp_path)
    assert counts["dsp"] == c.resources().dsp == (dsp_multipliers or 3 * (4 + 1))
    assert len(c.places()[0]) == c.blocks(c.multipliers_in_dsp)
    assert 0.75 < counts["ff"] / c.resources().ff < 1.33


@pytest.mark.parametrize("memory", ["logic", "block_ram", "packed_rows"])
def test_each_weight_is_in_its_place(memory):
    """One weight at a time is not 0, and one activation: no two places may be exchanged."""
    c = array(2, 4, 4, lanes=2, turns=2, memory=memory)
    weights = np.arange(2 * 4 * 8).reshape(4, 2, 8)
    reductions = np.zeros((c.folds * c.simd * 2, c.folds, c.simd), np.int64)
    for n, words in enumerate(reductions):
        words.reshape(-1)[n // 2 % words.size] = 1
    assert_array_equal(rtl(c, weights, reductions), golden(c, weights, reductions))


@pytest.mark.parametrize(
    ("target", "depth", "bits", "count"),
    [
        (ECP5, 512, 8, 4),  # 128 bits by 36
        (ECP5, 1024, 8, 7),  # and two bits of each word in logic
        (ECP5, 2048, 8, 15),
        (ECP5, 512, 4, 2),
        (ECP5, 512, 36, 16),
        (ICE40, 256, 8, 8),
        (ICE40, 512, 8, 16),
        (ICE40, 256, 3, 3),
    ],
)
def test_weights_fill_the_familys_block_rams(target, depth, bits, count):
    c = ArrayConfig(
        4, 4, 4, depth, 2, signed(8), signed(bits), signed(30), target=target, memory="block_ram"
    )
    assert c.resources().bram == count


@pytest.mark.parametrize(("simd", "pe", "lanes"), [(1, 7, 1), (9, 1, 1), (5, 6, 2), (4, 4, 4)])
def test_each_weight_has_a_place_near_the_one_before(simd, pe, lanes):
    c = ArrayConfig(simd, pe, 8, 16, lanes, BYTE, BYTE, ACC, memory="block_ram", target=GENERIC)
    order = c.order()
    assert sorted(order) == [(row, column) for row in range(simd) for column in range(pe)]
    for (row, column), (row_, column_) in pairwise(order):
        assert abs(row - row_) + abs(column // lanes - column_ // lanes) <= 3


@pytest.mark.parametrize(
    "c",
    [
        array(4, 4, 9, turns=64, target=ECP5, memory="block_ram", dsp_multipliers=16),
        array(3, 7, 12, turns=120, target=ECP5, memory="block_ram", dsp_multipliers=21),
        array(3, 7, 12, turns=120, target=ECP5, memory="packed_rows", dsp_multipliers=21),
        array(2, 5, 5, turns=30, target=ECP5, memory="block_ram", dsp_multipliers=10, shared=False),
        array(4, 6, 6, turns=8, target=ECP5, memory="block_ram", dsp_multipliers=24),
        array(3, 3, 3, turns=90, w=signed(5), target=ICE40, memory="block_ram", dsp_multipliers=0),
    ],
)
def test_the_estimate_of_block_rams_is_what_synthesis_makes(c, tmp_path):
    counts, _ = synthesized(SystolicArray(c, stimuli(c)[0]), c.target, tmp_path)
    assert counts["bram"] == c.resources().bram
    assert 0.75 < counts["ff"] / c.resources().ff < 1.33


@pytest.mark.parametrize(
    ("target", "bits", "simd"),
    [
        (ECP5, 8, 5),
        (ECP5, 4, 3),
        (ECP5, 12, 4),
        (ICE40, 8, 3),
        (ICE40, 4, 3),
        (ICE40, 2, 2),
        (ICE40, 3, 7),
    ],
)
def test_packed_weights_compute_the_same(target, bits, simd):
    """The shapes of a family's memories, around soft multipliers, which need no family's block."""
    c = array(
        simd, 4, 4, w=signed(bits), turns=2, target=target, memory="block_ram", dsp_multipliers=0
    )
    weights, reductions = stimuli(c)
    assert_array_equal(rtl(c, weights, reductions), golden(c, weights, reductions))


@pytest.mark.parametrize("seed", range(8))
def test_random_shapes(seed):
    rng = np.random.default_rng(seed)
    pe, folds = (int(n) for n in rng.integers(1, 7, 2))
    simd = int(rng.integers(1, 6))
    c = array(
        simd,
        pe,
        folds,
        turns=int(rng.integers(1, 4)),
        dsp_multipliers=int(rng.integers(0, simd * pe + 1)),
        shared=bool(rng.integers(2)),
        memory=str(rng.choice(["logic", "block_ram", "packed_rows"])),
    )
    weights, reductions = stimuli(c, seed=seed)
    assert_array_equal(rtl(c, weights, reductions, 0.3, seed), golden(c, weights, reductions))


@pytest.mark.parametrize("name", PACKED)
def test_narrow_weights_share_blocks(name):
    """Each product is made once; a block holds columns of one group and one row."""
    c = CASES[name]
    blocks, soft = c.places()
    assert c.pack == max(len(places) for places in blocks) > 1
    assert len(blocks) == c.blocks(c.multipliers_in_dsp) == c.resources().dsp
    assert sum(len(places) for places in blocks) == c.multipliers_in_dsp
    made = sorted([place for places in blocks for place in places] + soft)
    assert made == [(row, column) for row in range(c.simd) for column in range(c.pe)]
    for places in blocks:
        assert len({row for row, _ in places}) == 1
        assert len({column // c.lanes for _, column in places}) == 1


@pytest.mark.parametrize(
    ("simd", "pe", "lanes", "dsp_multipliers"), [(16, 4, 1, 64), (25, 2, 2, 50), (25, 8, 8, 156)]
)
def test_an_operand_reaches_all_blocks_that_take_it_at_once(simd, pe, lanes, dsp_multipliers):
    c = array(simd, pe, pe, lanes=lanes, dsp_multipliers=dsp_multipliers, target=ECP5)
    at = {place: n for n, places in enumerate(c.places()[0]) for place in places}
    assert len(at) == dsp_multipliers
    for row, first in product(range(simd), range(0, pe, lanes)):
        together = [
            at[row, column] for column in range(first, first + lanes) if (row, column) in at
        ]
        assert max(together) - min(together) <= REACH


@pytest.mark.parametrize("name", PACKED)
def test_blocks_are_counted_for_any_share_in_them(name):
    c = CASES[name]
    for dsp_multipliers in range(c.multipliers + 1):
        part = replace(c, dsp_multipliers=dsp_multipliers)
        assert part.blocks(dsp_multipliers) == len(part.places()[0])


@pytest.mark.parametrize(
    ("change", "each", "blocks"),
    [
        ({"max_abs_weight": 15}, 2, 6),
        ({"max_abs_weight": 16}, 1, 12),
        ({"max_abs_weight": None}, 1, 12),
        ({"max_abs_weight": 15, "lanes": 1}, 1, 12),
        ({"max_abs_weight": 15, "shared": False}, 1, 12),
        ({"max_abs_weight": 15, "target": ICE40}, 2, 6),
        ({"max_abs_weight": 15, "target": ICE40, "x": signed(9)}, 1, 12),
        ({"max_abs_weight": 15, "target": ICE40, "x": signed(17)}, 0, 0),
    ],
    ids=str,
)
def test_products_a_block(change, each, blocks):
    c = replace(array(3, 4, 4, lanes=2, w=signed(5), target=ECP5), **change)
    assert (c.products_per_block, c.blocks(c.multipliers_in_dsp)) == (each, blocks)


@pytest.mark.parametrize(("x", "w"), [*product([-128, 127], [(15, 15), (-15, -15), (-15, 15)])])
def test_the_ends_of_the_range_of_packed_products(x, w):
    c = array(3, 2, 2, lanes=2, w=signed(5), acc=signed(15), max_abs_weight=15)
    weights = np.broadcast_to(np.array(w)[:, None, None], (2, 3, 2)).copy()
    assert_array_equal(rtl(c, weights, np.full((3, 2, 3), x)), [[6 * x * each for each in w]] * 3)


def test_a_weight_beyond_what_was_said_is_refused():
    c = CASES["packed"]
    with pytest.raises(ValueError, match="a weight of 16, but max_abs_weight=15"):
        SystolicArray(c, np.full((c.pe, c.simd, c.depth), -16))


def test_operands_too_wide_for_a_block_are_multiplied_in_soft_logic():
    c = replace(CASES["wide"], x=signed(20), target=ECP5, dsp_multipliers=4)
    assert c.multipliers_in_dsp == 0


@pytest.mark.parametrize(
    "change",
    [{"lanes": 4}, {"folds": 5}, {"lanes": 1, "folds": 3, "depth": 3}, {"initiation_interval": 3}],
)
def test_a_shape_that_can_not_work_is_refused(change):
    with pytest.raises(ValueError, match="ArrayConfig: "):
        replace(array(2, 6, 6), **change)


@pytest.mark.parametrize("code", [WeightCode.TERNARY, WeightCode.SIGN])
def test_a_weight_without_a_code_is_refused(code):
    c = array(4, 2, 2, w=NARROW, tree=code)
    with pytest.raises(ValueError, match="has no code for some of them"):
        SystolicArray(c, np.full((c.pe, c.simd, c.depth), -2))
