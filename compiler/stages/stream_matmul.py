"""Matrix products of two streams."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ... import hw
from ...hw.array.stream_matmul import StreamMatMul as Component
from ...hw.array.stream_matmul import StreamMatMulConfig
from ...hw.target.base import Device
from .. import ir
from .base import (
    Buffering,
    ConfiguredDesign,
    StageKind,
    StagePlan,
    StagePort,
    StagePorts,
    StageTiming,
    WindowNeeds,
    check_range,
    hw_shape,
)
from .rounding import proven, rounding
from .streaming import even_widths

__all__ = ["StreamMatMul"]


@dataclass(frozen=True)
class StreamMatMulDesign(ConfiguredDesign):
    """The right operand is stored; rows of the left one pass by."""

    target: hw.Target

    @property
    def op(self) -> ir.ops.MatMul:
        (op,) = self.ops
        assert isinstance(op, ir.ops.MatMul)
        return op

    @cached_property
    def config(self) -> StreamMatMulConfig:
        a, b = (self.graph.quant(name) for name in self.op.inputs)
        left, right = (self.graph.shape(name) for name in self.op.inputs)
        exact = proven(self.op, self.graph)
        return StreamMatMulConfig(
            self.op.products,
            left.height // self.op.products,
            left.channels,
            right.channels,
            self.stage.pe,
            hw_shape(a.dtype),
            hw_shape(b.dtype),
            hw_shape(self.graph.quant(self.op.output).dtype),
            a.zero,
            b.zero,
            exact.mult[0],
            exact.offset[0],
            rounding(exact),
            target=self.target,
        )

    @property
    def ports(self) -> StagePorts:
        a, b = self.op.inputs
        pe = self.stage.pe
        return StagePorts(
            (StagePort(b, pe, "b"), StagePort(a, 1, "a")), (StagePort(self.op.output, pe, "o"),)
        )

    def cycles(self) -> int:
        return self.config.cycles()

    def products_of(self, op: ir.Op) -> int:
        return self.config.products * self.config.rows * self.config.inner * self.config.columns

    @property
    def timing(self) -> StageTiming:
        c = self.config
        return StageTiming(
            self.cycles() // self.pixels_out,
            self.latency,
            writing=c.folds,
            arrival=c.arrival,
            room=c.matrix.held[0] // c.folds,
        )

    @property
    def buffering(self) -> Buffering:
        """Rows of the right operand: a product is computed when the whole operand is stored."""
        c = self.config
        first = np.arange(1, c.products + 1).repeat(c.rows) * c.inner
        released = ([0] * (c.rows - 1) + [c.inner]) * c.products
        (least, most), (few, many) = c.matrix.held, c.row.held
        return Buffering(
            least // c.folds,
            most // c.folds + 1,
            WindowNeeds(first.reshape(-1, 1), released, 1),
            (few // c.inner, many // c.inner + 1),
        )

    @property
    def memory_bits(self) -> int:
        return self.config.memory_bits

    def build(self, constants: StreamMatMulConfig) -> hw.Component:
        return Component(constants)


class StreamMatMul(StageKind):
    """Products of two activations, such as those of attention: a term of `pe` sums each cycle."""

    name = "stream_matmul"
    folding = "`pe`: columns at once"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.ops.MatMul)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        return even_widths(ops[0], graph)

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> StreamMatMulDesign:
        (op,) = ops
        columns = graph.shape(op.output).channels
        check_range(op, "pe", stage.pe, columns, f"the result has {columns} columns")
        return StreamMatMulDesign(stage, ops, graph, device.target)
