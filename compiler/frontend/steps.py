"""Operators of ONNX that stand for several operators of the graph."""

from dataclasses import dataclass, replace

import numpy as np

from .. import ir
from .builder import Builder
from .elementwise import pair, unary
from .linear import offset
from .reductions import REDUCTIONS, reduced
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["Steps"]


@dataclass(frozen=True)
class Steps:
    """The operators that ``node`` stands for, each named after it and its own word."""

    build: Builder
    node: Node

    def step(self, word: str) -> Node:
        """A node for one of the operators; the one without a word gives the node's output."""
        if not word:
            return replace(self.node, attributes={})
        name, output = f"{self.node.name}/{word}", f"{self.node.outputs[0]}/{word}"
        return replace(self.node, name=name, outputs=(output,), attributes={})

    def reduce(self, kind: str, x: Tensor, axes: tuple[int, ...], word: str) -> Tensor:
        return reduced(self.build, self.step(word), x, axes, True, REDUCTIONS[kind])

    def unary(self, x: Tensor, function: ir.Function, word: str) -> Tensor:
        return unary(self.build, self.step(word), x, function)

    def add(self, a: Tensor, b: Tensor, word: str) -> Tensor:
        return pair(self.build, replace(self.step(word), op="Add"), a, b)

    def sub(self, a: Tensor, b: Tensor, word: str) -> Tensor:
        return pair(self.build, replace(self.step(word), op="Sub"), a, b)

    def mul(self, a: Tensor, b: Tensor, word: str) -> Tensor:
        return pair(self.build, replace(self.step(word), op="Mul"), a, b)

    def plus(self, x: Tensor, number: float, word: str) -> Tensor:
        shift = Constant(self.node.name, np.array(number, np.float32))
        return offset(self.build, self.step(word), x, shift)
