"""Several products of one operand in one multiplier come out whole, carry included."""

from itertools import product

import numpy as np
import pytest
from amaranth import C, Cat, Module, Signal, signed, unsigned
from gatewright.hw.arithmetic.packed_multiplier import (
    PackedConfig,
    PackedMultiplier,
    add_with_carry,
    borrow,
    packed_products,
)
from gatewright.hw.target import ECP5, ICE40
from gatewright.hw.target.dsp import Multiplier
from numpy.testing import assert_array_equal

from .bench import simulate
from .test_multiplier import MODELS, PRODUCT, Products, corners, everything, in_verilog

BLOCK = ECP5.dsp

#: operand, largest weight, products a block and their distance
CASES = {
    "int8 by 5 bits": (signed(8), 15, 2, 12),
    "uint8 by 5 bits": (unsigned(8), 15, 2, 13),
    "int7 by 6 bits": (signed(7), 31, 2, 12),
    "int4 by 4 bits": (signed(4), 7, 3, 7),
    "uint4 by 3 bits": (unsigned(4), 3, 3, 7),
    "int5 by 3 bits": (signed(5), 3, 3, 7),
    "uint7 by 2 bits": (unsigned(7), 1, 3, 8),
    "int4 by 2 bits": (signed(4), 1, 4, 5),
}


def config_of(name):
    x, most, products, _ = CASES[name]
    return PackedConfig(x, signed(most.bit_length() + 1), most, products)


def weights_of(config, values=None):
    """All combinations of ``values`` (default: of all weights), [products, n]."""
    values = range(-config.most, config.most + 1) if values is None else values
    return np.array(list(product(values, repeat=config.products))).T


def extremes(config):
    most = config.most
    return sorted(
        {value for value in (-most, 1 - most, -1, 0, 1, most - 1, most) if abs(value) <= most}
    )


@pytest.mark.parametrize("name", CASES)
def test_how_many_products_a_block_gives(name):
    x, most, products, shift = CASES[name]
    assert packed_products(BLOCK, x, most) == packed_products(Multiplier, x, most) == products
    assert config_of(name).shift == shift


@pytest.mark.parametrize(
    ("x", "most"),
    [
        (signed(8), 16),
        (unsigned(8), 16),
        (signed(7), 32),
        (signed(8), 128),
        (signed(18), 1),
    ],
)
def test_weights_too_wide_to_pack(x, most):
    assert packed_products(BLOCK, x, most) == 1


def test_an_ice40_block_packs_nothing():
    assert packed_products(ICE40.dsp, signed(4), 1) == 1


@pytest.mark.parametrize("name", CASES)
def test_every_product_can_be_told_apart(name):
    """The arithmetic itself, over all weights and all operands."""
    config = config_of(name)
    weights = weights_of(config)
    digits = borrow(weights)
    shift, low, high = config.shift, -(1 << (config.w.width - 1)), 1 << (config.w.width - 1)
    assert ((low <= digits) & (digits < high)).all()
    operand = sum(w << (n * shift) for n, w in enumerate(weights))
    bits = sum(
        (d % (1 << shift) if n < config.products - 1 else d) << (n * shift)
        for n, d in enumerate(digits)
    )
    assert_array_equal(bits, operand)
    assert np.abs(operand).max() < 1 << 17
    for x in everything(config.x):
        result, half = operand * x, 1 << (shift - 1)
        for n, w in enumerate(weights):
            p = ((result >> (n * shift)) + half) % (2 * half) - half
            carry = result >> (n * shift - 1) & 1 if n else 0
            assert_array_equal(p + carry, w * x, f"x = {x}, product {n}")


def rtl(config, cases):
    """Products [cases, products] of (x, weights) pairs, a pair a cycle."""
    dut, seen = PackedMultiplier(config, Multiplier), []

    async def bench(ctx):
        for n in range(len(cases) + dut.latency):
            x, digits = cases[min(n, len(cases) - 1)]
            ctx.set(dut.x, int(x))
            for w, digit in zip(dut.w, digits, strict=True):
                ctx.set(w, int(digit))
            _, _, *found = await ctx.tick().sample(*dut.p, *dut.carry)
            seen.append(np.add(found[: config.products], found[config.products :]))

    simulate(dut, bench)
    return np.array(seen[dut.latency :])


@pytest.mark.parametrize("name", CASES)
def test_the_generic_twin_over_all_corner_values(name):
    config = config_of(name)
    weights = weights_of(config, extremes(config))
    cases = [(x, digits) for x in corners(config.x) for digits in borrow(weights).T]
    golden = [w * x for x in corners(config.x) for w in weights.T]
    assert_array_equal(rtl(config, cases), golden)


def test_fewer_products_than_fit():
    config = PackedConfig(signed(4), signed(4), 7, 2)
    weights = weights_of(config, extremes(config))
    cases = [(x, digits) for x in everything(config.x) for digits in borrow(weights).T]
    assert_array_equal(rtl(config, cases), [w * x for x in everything(config.x) for w in weights.T])


def test_weights_that_leave_no_room_for_a_borrow_are_refused():
    with pytest.raises(ValueError, match="borrow"):
        PackedConfig(signed(8), signed(4), 8, 2)


def test_more_products_than_fit_are_refused():
    with pytest.raises(ValueError, match="products=3, but a block gives at most 2"):
        PackedMultiplier(PackedConfig(signed(8), signed(5), 15, 3), Multiplier)


def test_a_carry_enters_the_adder_at_its_lowest_bit():
    a, b, carry = Signal(signed(4)), Signal(signed(3)), Signal()
    m, total, seen = Module(), Signal(signed(6)), []
    m.d.comb += total.eq(add_with_carry(a, b, carry))
    cases = list(product(range(-8, 8), range(-4, 4), range(2)))

    async def bench(ctx):
        for values in cases:
            for signal, value in zip((a, b, carry), values, strict=True):
                ctx.set(signal, value)
            await ctx.delay(1e-7)
            seen.append(ctx.get(total))

    simulate(m, bench)
    assert seen == [sum(values) for values in cases]


class PackedProducts(Products):
    """The same with one operand in the first word, and all weights in the second."""

    def latency(self):
        return BLOCK.latency

    def arithmetic(self, m: Module, words):
        x, w = words
        results = []
        for n, (_, config) in enumerate(self.blocks):
            m.submodules[f"block_{n}"] = block = PackedMultiplier(config, BLOCK)
            m.d.comb += [block.x.eq(x), Cat(block.w).eq(w)]
            for k in range(config.products):
                whole = Signal(signed(36), name=f"product_{n}_{k}")
                m.d.comb += whole.eq(add_with_carry(block.p[k], C(0, signed(1)), block.carry[k]))
                results.append(whole)
        return Cat(results)


def words_of(config, digits):
    """Weights [products, n] side by side in a word."""
    width = config.w.width
    return sum((d % (1 << width)) << (n * width) for n, d in enumerate(digits))


def test_the_ecp5_block_agrees_over_all_corner_values(tmp_path):
    """In Verilog, with the model of the block; each kind on the words that are meant for it."""
    configs = [config_of(name) for name in CASES]
    words, wanted = [], []
    for config in configs:
        weights = weights_of(config, extremes(config))
        for x in corners(config.x):
            words += [(x % (1 << 18), int(word)) for word in words_of(config, borrow(weights))]
            wanted += [(config, tuple(w * x % (1 << PRODUCT.width))) for w in weights.T]
    found = in_verilog(
        [(PackedMultiplier, config) for config in configs], MODELS, words, tmp_path, PackedProducts
    )
    at = 0
    for config in configs:
        rows = [n for n, (kind, _) in enumerate(wanted) if kind is config]
        assert_array_equal(found[rows, at : at + config.products], [wanted[n][1] for n in rows])
        at += config.products
