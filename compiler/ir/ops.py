"""The operators: everything the compiler knows how to put into hardware, on one screen.

One set serves the float graph and the integer graph. In the float graph weights are float32 and
``weight_scale`` is None; in the integer graph weights are integers and every value has a
:class:`~.types.Quant`. The meaning is the same in both: an operator computes its function on the
real numbers its inputs stand for, exactly, and the output's ``Quant`` rounds once, half to even,
and saturates.
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import inf
from typing import ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from .functions import Function, Identity
from .ports import InputPort
from .types import Shape

__all__ = [
    "Window",
    "Clamp",
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
    "Sub",
    "Mul",
    "PRelu",
    "Extremum",
    "Max",
    "Min",
    "MatMul",
    "Concat",
    "Gather",
    "Reshape",
    "Delay",
    "FrameDelay",
    "ArgMax",
]

Floats = NDArray[np.float64]
Number = TypeVar("Number", Floats, Fraction)


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

    def padded(self, pads: tuple[int, int, int, int]) -> "Window":
        """The window with more padding."""
        top, left, bottom, right = (a + b for a, b in zip(self.pads, pads, strict=True))
        return replace(self, pads=(top, left, bottom, right))

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


@dataclass(frozen=True, eq=False)
class Op:
    """A node: ``name`` is the ONNX node it came from, ``inputs`` and ``output`` name values.

    Its class declares the traits that passes, verifier, quantizer and writer ask for:

    ``arity``: number of inputs; None for any number from one up.
    ``selecting``: every output value is an input value (or a padding of the input's type), so that
    inputs and output have one ``Quant`` and nothing is rounded.
    ``passes_clamp``: to clamp the output is the same as to clamp the only input.
    ``view``: the output is the input's stream under another shape, without hardware.
    ``delaying``: a row of the output depends on earlier rows of the first input only, so that this
    input may be computed from the output.
    ``keeping``: a ``delaying`` operator whose output depends on earlier frames only.
    ``jumps``: an operator computed element by element whose result steps from one number to another
    at some input, as a comparison does.

    Further traits are the base classes :class:`Clampable`, :class:`Elementwise`, :class:`Windowed`.
    """

    arity: ClassVar[int | None] = 1
    selecting: ClassVar[bool] = False
    passes_clamp: ClassVar[bool] = False
    view: ClassVar[bool] = False
    delaying: ClassVar[bool] = False
    keeping: ClassVar[bool] = False

    name: str
    inputs: tuple[str, ...]
    output: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """The values that the operator computes."""
        return (self.output,)

    @property
    def quantized(self) -> bool:
        """Whether its constants, if it has any, are integers."""
        return True

    @property
    def rowwise(self) -> bool:
        """Whether each row of the output is the same function of that row of every input, of maps
        that are one pixel wide.
        """
        return False

    @property
    def jumps(self) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class Clampable(Op):
    """An operator that limits its result to ``clamp`` before it is rounded."""

    clamp: Clamp = field(default=Clamp(), kw_only=True)


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """``compute(a, b, ...)`` of values of one shape, element by element, limited where the operator
    is clampable.
    """

    @property
    def rowwise(self) -> bool:
        return True

    def compute(self, *inputs: Floats) -> Floats:
        """In float64, off by a few units in the last place."""
        raise NotImplementedError(f"compiler/ir/ops.py: {type(self).__name__} has no compute")


@dataclass(frozen=True, eq=False)
class Windowed(Op):
    """An operator of what lies under a window that slides over the map.

    ``border``: the real number that padding reads as.
    """

    border: ClassVar[float] = 0.0

    window: Window = field(kw_only=True)

    def padded(self, pads: tuple[int, int, int, int]) -> Self | None:
        """The operator over a map that has not got the padding ``pads`` of ``border`` yet; None
        where no window does the same.
        """
        return replace(self, window=self.window.padded(pads))


@dataclass(frozen=True, eq=False)
class Conv(Windowed, Clampable):
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
    window: Window = field(default=Window(), kw_only=True)
    groups: int = field(default=1, kw_only=True)

    @property
    def quantized(self) -> bool:
        return self.weight_scale is not None

    @property
    def rowwise(self) -> bool:
        return self.window == Window()

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
class MaxPool(Windowed):
    """Largest value under the window; padding never wins. The output has the input's ``Quant``."""

    selecting = True
    passes_clamp = True
    border = -inf

    window: Window

    def padded(self, pads: tuple[int, int, int, int]) -> Self | None:
        """None where a window might see nothing but padding."""
        window = self.window.padded(pads)
        if any(pad >= window.span[side % 2] for side, pad in enumerate(window.pads)):
            return None
        return replace(self, window=window)


@dataclass(frozen=True, eq=False)
class AveragePool(Windowed, Clampable):
    """``clamp(sum under the window / count)``.

    ``count`` is the whole kernel when ``count_padding``, else the taps that lie inside the map.
    """

    window: Window
    count_padding: bool = False

    def padded(self, pads: tuple[int, int, int, int]) -> Self | None:
        """Padding then counts: the same where it did so already, or where there was none."""
        if any(self.window.pads) and not self.count_padding:
            return None
        return replace(self, window=self.window.padded(pads), count_padding=True)


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """A border of the real number ``fill`` (rounded and saturated); ``pads`` as in :class:`Window`.

    Input and output have the same ``Quant``.
    """

    selecting = True

    pads: tuple[int, int, int, int]
    fill: float = 0.0


@dataclass(frozen=True, eq=False)
class Unary(Elementwise, Clampable):
    """``clamp(function(x))``, element by element."""

    function: Function = field(default=Identity())

    @property
    def jumps(self) -> bool:
        return self.function.jumps

    def compute(self, *inputs: Floats) -> Floats:
        (x,) = inputs
        return self.function(x)


@dataclass(frozen=True, eq=False)
class Arithmetic(Elementwise, Clampable):
    """``clamp(result(a, b))``, a rational function of two values of one shape."""

    arity = 2

    def result(self, a: Number, b: Number) -> Number:
        """Of fractions exactly, of float64 off by a unit in the last place of ``a``, ``b`` or the
        result.
        """
        raise NotImplementedError(f"compiler/ir/ops.py: {type(self).__name__} has no result")

    def compute(self, *inputs: Floats) -> Floats:
        a, b = inputs
        return self.result(a, b)


@dataclass(frozen=True, eq=False)
class Additive(Arithmetic):
    """``clamp(a + sign * b)``."""

    sign: ClassVar[int]

    def result(self, a: Number, b: Number) -> Number:
        return a + self.sign * b


@dataclass(frozen=True, eq=False)
class Add(Additive):
    """``clamp(a + b)``."""

    sign = 1


@dataclass(frozen=True, eq=False)
class Sub(Additive):
    """``clamp(a - b)``."""

    sign = -1


@dataclass(frozen=True, eq=False)
class Mul(Arithmetic):
    """``clamp(a * b)``."""

    def result(self, a: Number, b: Number) -> Number:
        return a * b


@dataclass(frozen=True, eq=False)
class PRelu(Arithmetic):
    """``clamp(a)`` where ``a`` is not negative, else ``clamp(a * b)``."""

    def result(self, a: Number, b: Number) -> Number:
        return (abs(a) + a) / 2 - (abs(a) - a) / 2 * b


@dataclass(frozen=True, eq=False)
class Extremum(Elementwise):
    """The larger or the smaller of two values of one shape; all have the same ``Quant``."""

    arity = 2
    selecting = True


@dataclass(frozen=True, eq=False)
class Max(Extremum):
    """``max(a, b)``."""

    def compute(self, *inputs: Floats) -> Floats:
        return np.maximum(*inputs)


@dataclass(frozen=True, eq=False)
class Min(Extremum):
    """``min(a, b)``."""

    def compute(self, *inputs: Floats) -> Floats:
        return np.minimum(*inputs)


@dataclass(frozen=True, eq=False)
class MatMul(Clampable):
    """``clamp(a @ b)`` for each of ``products`` pairs of matrices.

    The rows of all left operands are the rows of ``a``, [products * m, 1, k], those of the right
    operands the rows of ``b``, [products * k, 1, n]; the output is [products * m, 1, n].
    """

    arity = 2

    products: int = field(default=1, kw_only=True)


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Inputs side by side on the channel axis. Inputs and output have the same ``Quant``."""

    arity = None
    selecting = True


@dataclass(frozen=True, eq=False)
class Gather(Op):
    """Element ``i``, in stream order, is the input's ``order[i]``; where that is -1 the number
    ``fill`` (rounded and saturated).

    Input and output have the same ``Quant``.
    """

    selecting = True

    order: NDArray[np.int64]
    fill: float = 0.0


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The same elements in the same stream order under another shape: no hardware."""

    selecting = True
    passes_clamp = True
    view = True


@dataclass(frozen=True, eq=False)
class Delay(Op):
    """Row ``t`` of a map [steps, 1, channels] is the first input's row ``t - 1``: a state between
    the steps of a frame. Row 0 is the second input, [1, 1, channels]; without one it is
    ``initial``, [channels], real numbers (rounded and saturated).

    The first input may depend on the output, through operators that are :attr:`~Op.rowwise`; the
    second one comes before. All have the same ``Quant``.
    """

    arity = None
    selecting = True
    delaying = True

    initial: NDArray[np.float32]

    @property
    def rowwise(self) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class FrameDelay(Op):
    """The input's map of the frame before; of the first frame after a reset ``initial``, [height,
    width, channels], real numbers (rounded and saturated): a state between frames.

    The input may depend on the output. Both have the same ``Quant``. In the model an input and an
    output stand for it, whose elements are arranged alike: ``port`` and the output ``sink``.
    """

    selecting = True
    delaying = True
    keeping = True

    initial: NDArray[np.float32]
    port: InputPort
    sink: str


@dataclass(frozen=True, eq=False)
class ArgMax(Op):
    """Index of the largest of all elements (the first of equals), as one value of scale 1 and zero
    0.
    """
