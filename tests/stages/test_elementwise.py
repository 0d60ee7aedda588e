"""Every operator of two activations, as a stage of its own: for all values that matter it computes
what golden does, in the cycles that the plan counts, by a proof of the sums that occur.
"""

from dataclasses import dataclass, replace
from inspect import isabstract
from itertools import product
from math import ceil, floor

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.quantize.proofs import requantizer
from gatewright.compiler.stages.elementwise import DESIGNS
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from ..hw.bench import exchange, port
from ..operators import PAIRS, blamed, every, file_of
from ..plan.networks import GENERIC_DEVICE, ICE40UP5K, design, stage_plan

LANES = 4
NO_CLAMP = ir.Clamp()


def quant(bits, scale, zero, signed=True):
    return ir.Quant(ir.Int(bits, signed), float(np.float32(scale)), zero)


@dataclass(frozen=True)
class Case:
    """Quantizations of both operands and of the result, whose scale is such that the results take
    ``share`` of its range, unless that is 0.
    """

    a: ir.Quant
    b: ir.Quant
    y: ir.Quant
    share: float = 1
    clamp: ir.Clamp = NO_CLAMP
    device: object = GENERIC_DEVICE


CASES = {
    "ties": Case(quant(4, 0.5, -3), quant(4, 0.25, 2), quant(8, 1, 4), 0),
    "ties, odd zero point": Case(quant(4, 0.5, 3), quant(4, 0.25, -2), quant(8, 1, 1), 0),
    "clamped": Case(
        quant(8, 0.0213, -7),
        quant(8, 0.0171, 33, signed=False),
        quant(8, 1, -12),
        1.5,
        ir.Clamp(-0.3, 0.7),
    ),
    "one bit": Case(quant(4, 0.5, 1), quant(1, 0.25, 0), quant(8, 1, 1)),
    "many steps": Case(quant(8, 0.03, 19), quant(8, 0.0101, -40), quant(12, 1, -12)),
    "zero points at the ends": Case(
        quant(8, 0.03, 127), quant(8, 0.02, -128), quant(8, 1, 77, signed=False), device=ICE40UP5K
    ),
}


class Pair:
    """A stage of one operator, and raw operands for it, [2, beats, LANES]: all pairs of those of up
    to four bits, else of the ends, of what is next to zero, and of some between.
    """

    def __init__(self, kind, case):
        a, b, y = (case.a,) * 3 if kind.selecting else (case.a, case.b, case.y)
        clamp = {"clamp": case.clamp} if issubclass(kind, ir.Clampable) else {}
        self.op, self.a, self.b = kind("pair", ("a", "b"), "y", **clamp), a, b
        pairs = np.array([*product(_values(a), _values(b))])
        np.random.default_rng(0).shuffle(pairs)
        self.operands = pairs[: len(pairs) // LANES * LANES].T.reshape(2, -1, LANES)
        if case.share and not kind.selecting:
            room = (y.dtype.high - abs(y.zero)) / case.share
            y = replace(y, scale=float(np.float32(max(map(abs, self.exact())) / room)))
        shape = ir.Shape(self.operands.shape[1], 1, LANES)
        values = {n: ir.Value(n, shape, q) for n, q in (("a", a), ("b", b), ("y", y))}
        self.y, self.graph = y, ir.Graph("pair", (), (), (self.op,), values)
        plan = stage_plan("stage", self.op, 1, LANES)
        self.design = design(self.op, self.graph, plan, case.device)

    def exact(self):
        """The results as real numbers, but for those that are infinite or undefined."""
        results = (
            self.op.result(int(a - self.a.zero) * self.a.step, int(b - self.b.zero) * self.b.step)
            for a, b in self.operands.reshape(2, -1).T
        )
        return [y for y in results if abs(y) < ir.functions.INFINITE]

    def golden(self):
        raw = (each[None, :, None] for each in self.operands)
        return golden.step(self.op, self.graph, *raw).reshape(-1, LANES)


def _values(q):
    low, high = q.dtype.low, q.dtype.high
    few = range(low, high + 1) if q.dtype.bits <= 4 else np.linspace(low, high, 12).astype(int)
    return np.unique(np.clip([*few, q.zero - 1, q.zero, q.zero + 1], low, high))


@pytest.fixture
def proven(monkeypatch):
    """The staircases, one a channel, of each requantizer that a test proves."""
    noted, prove = [], requantizer._proven

    def note(stairs, name):
        noted.append(stairs)
        return prove(stairs, name)

    monkeypatch.setattr(requantizer, "_proven", note)
    return noted


@pytest.mark.parametrize("case", CASES)
@every(PAIRS)
def test_computes_what_golden_does(subject, case, proven):
    assert subject in DESIGNS, f"compiler/stages/elementwise.py: DESIGNS has no {subject.__name__}"
    kind = DESIGNS[subject]
    piece = f"{file_of(kind)}: {kind.__name__}"
    assert not isabstract(kind), f"{piece} has no {', '.join(sorted(kind.__abstractmethods__))}"
    pair = Pair(subject, CASES[case])
    with blamed(f"{piece}, its proof", NotImplementedError):
        dut = pair.design.build(pair.design.constants())
    component = file_of(type(dut))
    sources = [
        (port(getattr(dut, end.member)), pair.operands["ab".index(end.value)])
        for end in pair.design.ports.inputs
    ]
    (seen,), (went, _) = exchange(dut, sources, [(port(dut.o), len(pair.operands[0]))])

    assert_array_equal(seen.values, pair.golden(), f"{piece}, its proof, {component}")
    late, planned = dut.config.latency, pair.design.latency
    assert set(np.subtract(seen.cycles, went)) == {late}, f"{component}: latency"
    assert late <= planned <= late + 5, f"{piece}: latency"  # constants may be unknown yet
    for stairs in proven:
        sums = [_sums(pair, one) for one in stairs]
        held = all(_held(stairs, each) for each in zip(*sums, strict=True))
        assert held, f"{piece}, its proof: a range is too small"
        for one, found in zip(stairs, sums, strict=True):
            bits = ir.Int.holding(one.acc_low, one.acc_high).bits
            least = ir.Int.holding(floor(min(found)), ceil(max(found))).bits
            assert bits <= least + 1, f"{piece}, its proof: a range of {bits} bits, not {least}"


def _sums(pair, one):
    """The sums that a channel of a requantizer makes the results of."""
    steps = [y / pair.y.step + pair.y.zero for y in pair.exact()]
    return [(y * one.unit - one.start) / one.slope for y in steps]


def _held(stairs, sums):
    """Whether one of the channels takes the sum that it makes the result of."""
    return any(
        x.denominator == 1 and one.acc_low <= x <= one.acc_high
        for one, x in zip(stairs, sums, strict=True)
    )
