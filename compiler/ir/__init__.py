"""The intermediate representation: one graph language for the float and the integer network."""

from .graph import (Dequantize, Graph, HostArgMax, HostOp, InputPort, OutputPort, Quantize, Softmax)
from .ops import (Add, ArgMax, AveragePool, Clamp, Concat, Conv, Function, HardSigmoid, HardSwish, Identity,
                  LeakyRelu, MaxPool, Op, Pad, Reshape, Sigmoid, Tanh, Unary, Window)
from .text import to_text
from .types import Int, Quant, Shape, Value
from .verify import IRError, verify

__all__ = ["Int", "Quant", "Shape", "Value",
           "Window", "Clamp", "Function", "Identity", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish",
           "Op", "Conv", "MaxPool", "AveragePool", "Pad", "Add", "Unary", "Concat", "Reshape", "ArgMax",
           "HostOp", "Dequantize", "Quantize", "Softmax", "HostArgMax", "InputPort", "OutputPort", "Graph",
           "IRError", "verify", "to_text"]
