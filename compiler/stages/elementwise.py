"""Operators of two streams, element by element: a design for each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ... import hw
from ...hw.arithmetic.extremum import Extremum, ExtremumConfig
from ...hw.arithmetic.multiply import Multiply, MultiplyConfig
from ...hw.arithmetic.prelu import PRelu, PReluConfig
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.add import Adder, for_add
from ..quantize.proofs.multiply import for_prelu
from .base import ConfiguredDesign, StageKind, StagePlan, StagePort, StagePorts, hw_shape
from .rounding import proven, rounding
from .streaming import StreamDesign, beats, even_widths

__all__ = ["Elementwise"]


@dataclass(frozen=True)
class PairDesign(StreamDesign):
    """Two streams that wait for each other, and one result."""

    target: hw.Target

    @property
    def op(self) -> ir.Elementwise:
        (op,) = self.ops
        assert isinstance(op, ir.Elementwise)
        return op

    @property
    def ports(self) -> StagePorts:
        a, b = self.op.inputs
        pe = self.stage.pe
        return StagePorts(
            (StagePort(a, pe, "a"), StagePort(b, pe, "b")), (StagePort(self.op.output, pe, "o"),)
        )

    @property
    def shapes(self) -> tuple[hw.Shape, hw.Shape, hw.Shape]:
        """The types of both operands and of the result."""
        a, b = self.op.inputs
        shapes = (hw_shape(self.graph.quant(name).dtype) for name in (a, b, self.op.output))
        return next(shapes), next(shapes), next(shapes)


@dataclass(frozen=True)
class AddDesign(PairDesign):
    """A sum or a difference, whose constants are proven when it is built."""

    @property
    def latency(self) -> int:
        return hw.AddConfig.usual_latency(self.target)

    def resources(self, device: Device) -> hw.Resources:
        return hw.AddConfig.estimate(self.stage.pe, *self.shapes, device.target)

    def constants(self) -> Adder:
        op = self.op
        assert isinstance(op, ir.Additive)
        return for_add(self.graph, op)

    def build(self, constants: Adder) -> hw.Component:
        return hw.Add(
            hw.AddConfig(
                self.stage.pe,
                *self.shapes,
                constants.mult_a,
                constants.mult_b,
                constants.offset,
                rounding(constants),
                self.beats,
                target=self.target,
            )
        )


@dataclass(frozen=True)
class MultiplyDesign(ConfiguredDesign, PairDesign):
    """A product."""

    @cached_property
    def config(self) -> MultiplyConfig:
        exact = proven(self.op, self.graph)
        a, b = (self.graph.quant(name).zero for name in self.op.inputs)
        return MultiplyConfig(
            self.stage.pe,
            *self.shapes,
            a,
            b,
            exact.mult[0],
            exact.offset[0],
            rounding(exact),
            self.beats,
            target=self.target,
        )

    def build(self, constants: MultiplyConfig) -> hw.Component:
        return Multiply(constants)


@dataclass(frozen=True)
class PReluDesign(ConfiguredDesign, PairDesign):
    """A value, or its product with a slope where it is negative."""

    @cached_property
    def config(self) -> PReluConfig:
        op = self.op
        assert isinstance(op, ir.ops.PRelu)
        exact = for_prelu(self.graph, op)
        a, b = (self.graph.quant(name).zero for name in op.inputs)
        return PReluConfig(
            self.stage.pe,
            *self.shapes,
            a,
            b,
            (exact.mult[0], exact.mult[1]),
            (exact.offset[0], exact.offset[1]),
            rounding(exact),
            self.beats,
            target=self.target,
        )

    def build(self, constants: PReluConfig) -> hw.Component:
        return PRelu(constants)


@dataclass(frozen=True)
class ExtremumDesign(ConfiguredDesign, PairDesign):
    """The larger or the smaller."""

    @cached_property
    def config(self) -> ExtremumConfig:
        element, _, _ = self.shapes
        return ExtremumConfig(
            self.stage.pe,
            element,
            isinstance(self.op, ir.ops.Max),
            self.beats,
            target=self.target,
        )

    def build(self, constants: ExtremumConfig) -> hw.Component:
        return Extremum(constants)


#: the design of each operator
DESIGNS: Mapping[type[ir.Op], type[PairDesign]] = {
    ir.Add: AddDesign,
    ir.ops.Sub: AddDesign,
    ir.ops.Mul: MultiplyDesign,
    ir.ops.PRelu: PReluDesign,
    ir.ops.Max: ExtremumDesign,
    ir.ops.Min: ExtremumDesign,
}


class Elementwise(StageKind):
    """An operator of two streams."""

    name = "elementwise"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and type(ops[0]) in DESIGNS

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        return even_widths(ops[0], graph)

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> PairDesign:
        lanes = beats(ops[0], graph, stage.pe)
        return DESIGNS[type(ops[0])](stage, ops, graph, lanes, device.target)
