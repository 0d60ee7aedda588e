"""The intermediate representation: one graph language for the float and the integer network.

Operators and functions that nothing but their own proof, stage and ONNX name need are
``ir.ops.NAME``, ``ir.functions.NAME`` and ``ir.expressions.NAME``; the others are ``ir.NAME``.
"""

from . import expressions, functions, loops, ops
from .expressions import Expression
from .feeds import Feeds, feeds
from .functions import Function, Identity
from .graph import (
    Dequantize,
    Graph,
    Hardmax,
    HostArgMax,
    HostOp,
    LogSoftmax,
    OutputPort,
    OverClasses,
    Quantize,
    Softmax,
)
from .ops import (
    Add,
    Additive,
    ArgMax,
    Arithmetic,
    AveragePool,
    Clamp,
    Clampable,
    Concat,
    Conv,
    Delay,
    Elementwise,
    Extremum,
    FrameDelay,
    Gather,
    MaxPool,
    Op,
    Pad,
    Reshape,
    Unary,
    Window,
    Windowed,
)
from .ports import InputPort
from .text import to_text
from .types import Int, Quant, Shape, Value
from .verify import IRError, verify

__all__ = [
    "Int",
    "Quant",
    "Shape",
    "Value",
    "Window",
    "Clamp",
    "Function",
    "Identity",
    "functions",
    "Expression",
    "expressions",
    "loops",
    "ops",
    "Op",
    "Clampable",
    "Elementwise",
    "Windowed",
    "Conv",
    "MaxPool",
    "AveragePool",
    "Pad",
    "Unary",
    "Arithmetic",
    "Additive",
    "Add",
    "Extremum",
    "Concat",
    "Delay",
    "FrameDelay",
    "Gather",
    "Reshape",
    "ArgMax",
    "HostOp",
    "Dequantize",
    "Quantize",
    "LogSoftmax",
    "OverClasses",
    "Softmax",
    "Hardmax",
    "HostArgMax",
    "Feeds",
    "feeds",
    "InputPort",
    "OutputPort",
    "Graph",
    "IRError",
    "verify",
    "to_text",
]
