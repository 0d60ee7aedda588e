"""Trees of adders give the sum of products of every code of weights, and cost what they say."""

from itertools import product

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import ECP5, ICE40, WeightCode
from gatewright.hw.arithmetic.dot_product import DotProduct, DotProductConfig

from .bench import simulate, synthesized

PLANES, TERNARY, SIGN = WeightCode
ACTIVATIONS = [unsigned(1), signed(2), unsigned(2), unsigned(4), signed(4), unsigned(8)]
#: a code, the width of its weights, and all of them
WEIGHTS = {
    "signs": (SIGN, 2, [-1, 1]),
    "ternary": (TERNARY, 2, [-1, 0, 1]),
    "two bits": (PLANES, 2, [-2, -1, 0, 1]),
    "three bits": (PLANES, 3, [-4, -3, -1, 0, 1, 3]),
    "four bits": (PLANES, 4, [-8, -7, -1, 0, 1, 7]),
}


def ends(shape):
    return (
        (-(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1)
        if shape.signed
        else (0, (1 << shape.width) - 1)
    )


def operands(config, weights, count=24):
    """Activations and weights [n, products]: all pairs of extremes first, then random ones."""
    rng = np.random.default_rng(config.products)
    low, high = ends(config.x)
    x = rng.integers(low, high, (count, config.products), endpoint=True)
    w = rng.choice(weights, (count, config.products))
    for n, (a, b) in enumerate(product((low, high), (min(weights), max(weights)))):
        x[n], w[n] = a, b
    return x, w


def rtl(config, x, w):
    """The sums, each ``config.latency`` cycles after its operands, which change every cycle."""
    dut = DotProduct(config)
    width = config.code.bits(config.w.width)
    words = [
        sum(int(code) << k * width for k, code in enumerate(codes))
        for codes in config.code.encode(w, config.w.width)
    ]
    seen = []

    async def bench(ctx):
        for n in range(len(x) + config.latency):
            here = min(n, len(x) - 1)
            for element, value in zip(dut.x, x[here].tolist(), strict=True):
                ctx.set(element, value)
            ctx.set(dut.w, words[here])
            _, _, value = await ctx.tick().sample(dut.p)
            seen.append(value)

    simulate(dut, bench)
    return seen[config.latency :]


@pytest.mark.parametrize("adders", [1, 2, 3])
@pytest.mark.parametrize("products", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_tree_sums_products(name, products, adders):
    code, width, weights = WEIGHTS[name]
    for shape in ACTIVATIONS:
        config = DotProductConfig(products, shape, signed(width), code, adders)
        x, w = operands(config, weights)
        inverted = -1 if shape.signed else ends(shape)[1]
        excess = 0 if code is PLANES else inverted * np.sum(w < 0, 1)
        assert rtl(config, x, w) == (np.sum(x * w, 1) + excess).tolist()


@pytest.mark.parametrize(
    ("w", "code"), [(unsigned(2), PLANES), (signed(1), PLANES), (signed(3), TERNARY)]
)
def test_what_no_code_holds_is_refused(w, code):
    with pytest.raises(
        ValueError, match="must be signed and of 2 bits or, unless it is ternary, more"
    ):
        DotProductConfig(4, unsigned(4), w, code)


@pytest.mark.parametrize(
    ("x", "name"), [(unsigned(4), "four bits"), (unsigned(4), "ternary"), (unsigned(4), "signs")]
)
def test_the_estimate_counts_gates_where_adders_take_none(x, name, tmp_path):
    code, width, _ = WEIGHTS[name]
    config = DotProductConfig(16, x, signed(width), code, 2)
    counts, _ = synthesized(DotProduct(config), ICE40, tmp_path)
    assert 0.85 < config.lut(ICE40.gated_adders) / counts["lut"] < 1.25


@pytest.mark.parametrize(
    ("x", "name", "luts"),
    [
        (unsigned(4), "four bits", 27.5),
        (unsigned(2), "two bits", 10.5),
        (unsigned(4), "ternary", 8.4),
        (unsigned(2), "ternary", 6.5),
        (unsigned(1), "signs", 2.8),
        (unsigned(8), "four bits", 43),
    ],
    ids=str,
)
def test_the_estimate_is_what_synthesis_makes(x, name, luts, tmp_path):
    """At most ``luts`` a product, with the carry into each chain: a multiplier for each of four
    bits takes 39.
    """
    code, width, _ = WEIGHTS[name]
    config = DotProductConfig(16, x, signed(width), code, 2)
    counts, around = synthesized(DotProduct(config), ECP5, tmp_path)
    assert counts["lut"] <= luts * config.products
    assert 0.75 < config.lut(ECP5.gated_adders) / counts["lut"] < 1.1
    assert 0.75 < config.ff / (counts["ff"] - around) < 1.33
