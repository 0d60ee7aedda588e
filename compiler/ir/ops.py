"""The operators: everything the compiler knows how to put into hardware, on one screen.

One set serves the float graph and the integer graph. In the float graph weights are float32 and
``weight_scale`` is None; in the integer graph weights are integers and every value has a
:class:`~.types.Quant`. The meaning is the same in both: an operator computes its function on the
real numbers its inputs stand for, exactly, and the output's ``Quant`` rounds once, half to even,
and saturates.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf

import numpy as np
from numpy.typing import NDArray

from .types import Shape

__all__ = [
    "Window",
    "Clamp",
    "Function",
    "Identity",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "HardSwish",
    "Op",
    "Conv",
    "MaxPool",
    "AveragePool",
    "Pad",
    "Add",
    "Unary",
    "Concat",
    "Reshape",
    "ArgMax",
]


@dataclass(frozen=True)
class Window:
    """Where a sliding kernel looks. ``pads`` are (top, left, bottom, right); pairs are (rows,
    columns).
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns from the first tap to the last, both counted."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1, (self.kernel[1] - 1) * self.dilation[
            1
        ] + 1

    def output(self, shape: Shape, channels: int) -> Shape:
        """Shape of the output for an input of ``shape`` (floor rule; exporters' ceil is in the
        pads).
        """
        top, left, bottom, right = self.pads
        return Shape(
            (shape.height + top + bottom - self.span[0]) // self.stride[0] + 1,
            (shape.width + left + right - self.span[1]) // self.stride[1] + 1,
            channels,
        )


@dataclass(frozen=True)
class Clamp:
    """A fused ``min(max(x, low), high)`` on real numbers, before the output is rounded. Relu is
    ``Clamp(0)``.
    """

    low: float = -inf
    high: float = inf


@dataclass(frozen=True)
class Function:
    """A function of one real variable, computed in hardware by a table over all input integers."""

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError


@dataclass(frozen=True)
class Identity(Function):
    """``x``: changes the quantization only, or carries a :class:`Clamp`."""

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x


@dataclass(frozen=True)
class LeakyRelu(Function):
    """``x if x >= 0 else alpha * x`` (``alpha`` is a float32)."""

    alpha: float

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(x >= 0, x, self.alpha * x)


@dataclass(frozen=True)
class Sigmoid(Function):
    """``1 / (1 + exp(-x))``."""

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x))


@dataclass(frozen=True)
class Tanh(Function):
    """Hyperbolic tangent."""

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.tanh(x)


@dataclass(frozen=True)
class HardSigmoid(Function):
    """``min(max(alpha * x + beta, 0), 1)`` (``alpha``, ``beta`` are float32)."""

    alpha: float = float(np.float32(0.2))
    beta: float = 0.5

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(self.alpha * x + self.beta, 0, 1)


@dataclass(frozen=True)
class HardSwish(Function):
    """``x * min(max(x / 6 + 1/2, 0), 1)``."""

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x * np.clip(x / 6 + 0.5, 0, 1)


@dataclass(frozen=True, eq=False)
class Op:
    """A node: ``name`` is the ONNX node it came from, ``inputs`` and ``output`` name values."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Convolution; a dense layer is the 1x1 convolution of a one-pixel map.

    ``y[o] = clamp(bias[o] + sum over window, channels of x * weight[o] * weight_scale[o])``.
    ``weight``: [out, kernel rows, kernel columns, in / groups], float32 or integer (zero point
    removed).
    ``weight_scale``: float32 [out], None in the float graph. ``bias``: float32 or integer [out];
    an integer bias stands for ``bias * bias_scale`` with ``bias_scale`` float32 [out].
    Padding reads as the real number 0.
    """

    weight: NDArray[np.number]
    weight_scale: NDArray[np.float32] | None = None
    bias: NDArray[np.number] | None = None
    bias_scale: NDArray[np.float32] | None = None
    window: Window = Window()
    groups: int = 1
    clamp: Clamp = Clamp()

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.weight.shape[0])

    @property
    def reduction(self) -> int:
        """Number of products summed for one output."""
        return int(np.prod(self.weight.shape[1:]))

    @property
    def depthwise(self) -> bool:
        """One input channel for one output channel."""
        return self.groups == self.channels and self.weight.shape[3] == 1 and self.groups > 1

    def exact_bias(self) -> list[Fraction]:
        """The bias of each channel as an exact real number."""
        if self.bias is None:
            return [Fraction(0)] * self.channels
        if self.bias_scale is None:
            return [Fraction(float(b)) for b in self.bias]
        return [
            int(b) * Fraction(float(s)) for b, s in zip(self.bias, self.bias_scale, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class MaxPool(Op):
    """Largest value under the window; padding never wins. The output has the input's ``Quant``."""

    window: Window


@dataclass(frozen=True, eq=False)
class AveragePool(Op):
    """``clamp(sum under the window / count)``.

    ``count`` is the whole kernel when ``count_padding``, else the taps that lie inside the map.
    """

    window: Window
    count_padding: bool = False
    clamp: Clamp = Clamp()


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """A border of the real number ``fill`` (rounded and saturated); ``pads`` as in :class:`Window`.

    Input and output have the same ``Quant``.
    """

    pads: tuple[int, int, int, int]
    fill: float = 0.0


@dataclass(frozen=True, eq=False)
class Add(Op):
    """``clamp(a + b)`` of two values of one shape."""

    clamp: Clamp = Clamp()


@dataclass(frozen=True, eq=False)
class Unary(Op):
    """``clamp(function(x))``, element by element."""

    function: Function = Identity()
    clamp: Clamp = Clamp()


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Inputs side by side on the channel axis. Inputs and output have the same ``Quant``."""


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The same elements in the same stream order under another shape: no hardware."""


@dataclass(frozen=True, eq=False)
class ArgMax(Op):
    """Index of the largest of all elements (the first of equals), as one value of scale 1 and zero
    0.
    """
