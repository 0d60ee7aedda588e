"""Operators of ONNX that stand for several operators of the graph."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .builder import Builder
from .elementwise import pair, unary
from .linear import offset, scaled
from .reductions import REDUCTIONS, reduced
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["Steps"]


@dataclass(frozen=True)
class Steps:
    """The operators that ``node`` stands for, each named after it and its own word."""

    build: Builder
    node: Node

    def step(self, word: str, op: str = "") -> Node:
        """A node for one of the operators; the one without a word gives the node's output."""
        if word:
            return self.node.step(word, op)
        return replace(self.node, op=op or self.node.op, attributes={})

    def reduce(self, kind: str, x: Tensor, axes: tuple[int, ...], word: str) -> Tensor:
        return reduced(self.build, self.step(word), x, axes, True, REDUCTIONS[kind])

    def unary(self, x: Tensor, function: ir.Function, word: str) -> Tensor:
        return unary(self.build, self.step(word), x, function)

    def add(self, a: Tensor, b: Tensor, word: str) -> Tensor:
        return pair(self.build, self.step(word, "Add"), a, b)

    def sub(self, a: Tensor, b: Tensor, word: str) -> Tensor:
        return pair(self.build, self.step(word, "Sub"), a, b)

    def mul(self, a: Tensor, b: Tensor, word: str) -> Tensor:
        return pair(self.build, self.step(word, "Mul"), a, b)

    def plus(self, x: Tensor, number: float, word: str) -> Tensor:
        shift = Constant(self.node.name, np.array(number, np.float32))
        return offset(self.build, self.step(word), x, shift)

    def scaled(
        self, x: Tensor, scale: NDArray[Any], bias: NDArray[Any] | None, word: str
    ) -> Tensor:
        """``x * scale + bias`` in floats."""
        name = self.node.name
        shift = None if bias is None else Constant(name, bias.astype(np.float32))
        factor = Constant(name, scale.astype(np.float32))
        return scaled(self.build, self.step(word), x, factor, shift)
