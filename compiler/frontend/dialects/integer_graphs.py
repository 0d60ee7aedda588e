"""Integer graphs: integers in float tensors, as NEMO, QuantLab and DORY write them.

    before: t = Conv(x, w);  v = t * k + l;  y = Clip(Floor(v / d), 0, 255)
    after:  t = Conv(x, DequantizeLinear(w, 1));  v = t * k + l
            y = DequantizeLinear(Clip(QuantizeLinear(v / d + shift, 1), 0, 255), 1)

All numbers are multiples of ``1 / grain`` for a known integer ``grain`` (``d`` here), so ``shift =
-1/2 + 1 / (2 grain)`` lets half to even round every one of them down and none of them is a tie.
Integer division, which truncates, is the same where the Clip removes what is below 0.

The file does not say which integers the input holds: they are read as 9 bits, -256 to 255, which is
exact for signed and for unsigned bytes. What leaves the network without a Clip has 16 bits, of
scale 1 where its range fits, else of a power of two up to 256; samples give the range beyond that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, lcm, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import ir
from ...errors import ModelError
from .. import schema
from ..source import Node, Source
from .rewriting import QUANTIZING_OPSET, Nodes, attributes_of, evaluated, fitting

__all__ = ["integer_graphs"]

INPUT = ir.Int(9, True)
BITS = 16
#: the greatest scale of sums that leave the network
COARSEST = 256
#: integer types by their number in ONNX: int32 and int64
INTEGERS = (6, 7)
#: the greatest grain whose shift is a float32
FINEST = 1 << 24
LINEAR = ("Conv", "Gemm", "MatMul")
#: attributes of QuantLab's Add, which scales its operands and its sum
SCALING = frozenset(schema.SCALING)
#: operators that give some of the numbers of their first input, or 0
MOVES = frozenset(
    {
        *("Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
        *("Slice", "Dropout"),
    }
)


def integer_graphs(source: Source) -> Source:
    """A network of integers in floats becomes QuantizeLinear, float operators, DequantizeLinear."""
    constants = _constants(source)
    if not _matches(source, constants):
        for node in source.nodes:
            if node.op == "Add" and not SCALING.isdisjoint(node.attributes):
                raise ModelError(
                    f"{node}: scales its operands by attributes, in a network that is no integer "
                    "graph; accepted: QuantLab's Add between integers, with integer weights and "
                    "Floor and Clip after sums; export the network again"
                )
        return source
    walk = _Walk(Nodes(source), constants)
    for node in source.nodes:
        with fitting(node):
            walk(node)
    for port in source.outputs:
        walk.leave(port.name)
    return walk.nodes.finished()


def _constants(source: Source) -> dict[str, NDArray[Any]]:
    """The constants that linear and elementwise nodes read; empty in another network."""
    if not any(node.op == "Clip" for node in source.nodes):
        return {}
    if any(node.op.endswith(("QuantizeLinear", "Quant")) for node in source.nodes):
        return {}
    kinds = (*LINEAR, "Mul", "Add", "Sub", "Div", "Clip")
    wanted = {name for node in source.nodes if node.op in kinds for name in node.inputs if name}
    return evaluated(source, wanted)


def _matches(source: Source, constants: dict[str, NDArray[Any]]) -> bool:
    """Whether all weights are integers, and a Clip follows Floor or a division of integers."""
    weights = [n.inputs[1] for n in source.nodes if n.op in LINEAR and len(n.inputs) > 1]
    if not weights or not all(_whole(constants.get(name)) for name in weights):
        return False
    rounded: set[str] = set()  # what Floor and casts to integers give, and arithmetic on that
    for node in source.nodes:
        reads = not rounded.isdisjoint(node.inputs)
        if node.op == "Clip" and reads:
            return True
        casts = node.op == "Cast" and node.get("to", 0) in INTEGERS
        if node.op == "Floor" or casts or (reads and node.op in ("Cast", "Mul", "Add", "Div")):
            rounded.update(node.outputs)
    return False


def _whole(array: NDArray[Any] | None) -> bool:
    """Whether a constant holds integers that int32 holds too."""
    if array is None or array.dtype.kind not in "fiu" or not array.size:
        return False
    return bool(np.isfinite(array).all() and (array == np.rint(array)).all()) and bool(
        np.abs(array.astype(np.float64)).max() < 2**31
    )


@dataclass(frozen=True)
class _Held:
    """A tensor of multiples of ``1 / grain`` from ``low`` to ``high``.

    ``name``: the tensor in the new list. ``rounded``: behind a DequantizeLinear. ``integer``: of an
    integer type in the file. ``floored`` (down) and ``truncated`` (towards 0): a rounding that is
    still to be done. ``joined``: a sum of two activations, which nothing can follow before it is
    rounded.
    """

    name: str
    low: Fraction
    high: Fraction
    grain: int = 1
    rounded: bool = False
    integer: bool = False
    floored: bool = False
    truncated: bool = False
    joined: bool = False


class _Walk:
    """Appends what replaces each node; ``held``: the tensors of known range."""

    def __init__(self, nodes: Nodes, constants: dict[str, NDArray[Any]]) -> None:
        self.nodes, self.constants = nodes, constants
        self.held: dict[str, _Held] = {}
        self.makers: dict[str, Node] = {}
        self.rules: dict[str, Callable[[Node, _Held], _Held | None]] = {
            **dict.fromkeys(LINEAR, self._linear),
            **dict.fromkeys(("Mul", "Add", "Sub", "Div"), self._arithmetic),
            **dict.fromkeys(MOVES, self._move),
            "Cast": self._cast,
            "Floor": self._floor,
            "Clip": self._clip,
            "Relu": self._relu,
            "AveragePool": self._average,
        }
        first = nodes.source.nodes[0]
        for port in nodes.source.inputs:
            if port.dtype == "float32":
                entering = _Held(port.name, Fraction(INPUT.low), Fraction(INPUT.high))
                self.held[port.name] = self._quantized(first, entering, port.name)

    def __call__(self, node: Node) -> None:
        self.makers |= dict.fromkeys(node.outputs, node)
        names = [name for name in node.inputs if name in self.held]
        if not names or node.op in ("Shape", "Size"):
            self.nodes.keep(node)
            return
        rule = self.rules.get(node.op)
        result = rule(node, self.held[names[0]]) if rule else None
        if result is not None:
            self.held[node.outputs[0]] = result
            return
        inputs = [self._real(node, name) for name in node.inputs]
        attributes = node.attributes
        self.nodes.add(node, node.op, inputs, output=node.outputs[0], **attributes)

    def leave(self, name: str) -> None:
        """Give an output of the network its own name again."""
        if name in self.held:
            node = self.makers[name]
            real = self._rounded(node, self.held[name], wide=True).name
            self.nodes.add(node, "Identity", [real], "/leave", name)

    # -- rounding ----------------------------------------------------------------------------------

    def _real(self, node: Node, name: str) -> str:
        """A tensor as another operator may read it: rounded."""
        return self._rounded(node, self.held[name], wide=True).name if name in self.held else name

    def _rounded(self, node: Node, x: _Held, wide: bool = False) -> _Held:
        """The tensor behind QuantizeLinear and DequantizeLinear; ``wide``: where 16 bits do not
        hold its range, the last bits are rounded away, but the tensor stays as it is where they
        would be too many.
        """
        if x.rounded:
            return x
        if x.truncated and x.low < 0:
            raise ModelError(
                f"{node}: reads integers that were divided with truncation, of which some are "
                "below 0; accepted: Floor, or a Clip to 0 or above; export the network again"
            )
        low, high = x.low, x.high
        if x.floored or x.truncated:
            low, high = Fraction(floor(low)), Fraction(floor(high))
        elif x.grain > 1 and not wide:
            raise ModelError(
                f"{node}: reads numbers that are no integers; accepted: Floor before it; export "
                "the network again"
            )
        step = Fraction(1)
        while ir.Int.holding(floor(low / step), ceil(high / step)).bits > BITS:
            step *= 2
        if wide and step > COARSEST:
            return x  # samples will show what occurs of the range
        if step > 1 and not wide:
            raise ModelError(
                f"{node}: reads integers from {floor(low)} to {ceil(high)}; accepted: {BITS} bits; "
                "put a Clip before it, or export the network in QDQ format"
            )
        return self._quantized(node, replace(x, low=low, high=high), "", step)

    def _quantized(
        self, node: Node, x: _Held, prefix: str = "", step: Fraction = Fraction(1)
    ) -> _Held:
        """Rounded to integers from ``low`` to ``high`` of the scale ``step``."""
        name, nodes, suffix = x.name, self.nodes, f"/{prefix}" if prefix else ""
        if (x.floored or x.truncated) and x.grain > 1:
            shift = -0.5 + 1 / (2 * min(x.grain, FINEST))
            name = self._with(node, "Add", name, shift, "/floor")
        low, high = floor(x.low / step), ceil(x.high / step)
        held = ir.Int.holding(min(low, 0), max(high, 0))
        stored = ir.Int(8 * held.numpy.itemsize, held.signed)
        pair = [
            nodes.constant(f"{node.name}{suffix}/scale", np.float32(float(step))),
            nodes.constant(f"{node.name}{suffix}/zero_point", np.zeros((), stored.numpy)),
        ]
        q = nodes.add(
            node, "QuantizeLinear", [name, *pair], f"{suffix}/quantize", opset=QUANTIZING_OPSET
        )
        if (low, high) != (stored.low, stored.high):
            ends = [
                nodes.constant(f"{node.name}{suffix}/end", np.array(end, stored.numpy))
                for end in (low, high)
            ]
            q = nodes.add(node, "Clip", [q, *ends], f"{suffix}/clip", opset=QUANTIZING_OPSET)
        real = nodes.dequantize(node, [q, *pair], f"{suffix}/dequantize")
        return _Held(real, low * step, high * step, rounded=True)

    def _with(self, node: Node, op: str, x: str, number: Any, suffix: str) -> str:
        constant = self.nodes.constant(f"{node.name}{suffix}/number", np.float32(number))
        return self.nodes.add(node, op, [x, constant], suffix)

    # -- operators ---------------------------------------------------------------------------------

    def _linear(self, node: Node, x: _Held) -> _Held | None:
        if node.inputs[0] not in self.held or node.inputs[1] not in self.constants:
            return None
        x = self._rounded(node, x)
        weight = self.constants[node.inputs[1]]
        inputs = [x.name, self._integers(node, weight, "/weight")]
        axes = tuple(range(1, weight.ndim)) if node.op == "Conv" or node.get("transB", 0) else (0,)
        low, high = self._spread(x, weight.astype(np.float64), axes)
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = self.constants.get(node.inputs[2])
            if bias is None or not _whole(bias):
                return None
            inputs.append(self._integers(node, bias, "/bias"))
            low, high = low + min(0, int(bias.min())), high + max(0, int(bias.max()))
        name = self.nodes.add(node, node.op, inputs, **attributes_of(node, node.op))
        return _Held(name, low, high, x.grain)

    def _integers(self, node: Node, array: NDArray[Any], suffix: str) -> str:
        """DequantizeLinear of integers, of scale 1."""
        low, high = int(array.min()), int(array.max())
        held = ir.Int.holding(min(low, -1), high)
        values = array.astype(held.numpy)
        name = self.nodes.constant(f"{node.name}{suffix}/integers", values)
        one = self.nodes.constant(f"{node.name}{suffix}/one", np.float32(1))
        return self.nodes.dequantize(node, [name, one, ""], suffix)

    def _spread(
        self, x: _Held, weight: NDArray[np.float64], axes: tuple[int, ...]
    ) -> tuple[Fraction, Fraction]:
        """The least and the greatest sum of products; padding is 0."""
        above, below = np.maximum(weight, 0), np.minimum(weight, 0)
        low, high = min(float(x.low), 0.0), max(float(x.high), 0.0)
        sums = [
            above.sum(axis=axes) * a + below.sum(axis=axes) * b
            for a, b in ((low, high), (high, low))
        ]
        return Fraction(float(sums[0].min())), Fraction(float(sums[1].max()))

    def _arithmetic(self, node: Node, x: _Held) -> _Held | None:
        a, b = node.inputs
        if a in self.held and b in self.held:
            return self._joined(node) if node.op == "Add" else None
        constant = self.constants.get(b if a in self.held else a)
        if constant is None or not constant.size or (node.op in ("Sub", "Div") and b in self.held):
            return None
        if x.floored or x.truncated or x.joined:
            x = self._rounded(node, x)
        real = constant.astype(np.float64)
        if not np.isfinite(real).all() or (node.op == "Div" and not real.all()):
            return None
        grain, ends = _computed(node.op, x, real)
        if grain >= 1 << 62:
            return None
        number = self.nodes.constant(f"{node.name}/number", constant.astype(np.float32))
        inputs = [x.name, number] if a in self.held else [number, x.name]
        name = self.nodes.add(node, node.op, inputs)
        divides = x.integer and node.op == "Div"
        return _Held(
            name, min(ends), max(ends), grain, integer=x.integer, truncated=divides and grain > 1
        )

    def _joined(self, node: Node) -> _Held:
        """The sum of two activations, each rounded before."""
        a, b = (self._rounded(node, self.held[name]) for name in node.inputs)
        scales = not SCALING.isdisjoint(node.attributes)
        if scales:
            a, b = self._rescaled(node, a, "in1"), self._rescaled(node, b, "in2")
        name = self.nodes.add(node, "Add", [a.name, b.name])
        total = _Held(name, a.low + b.low, a.high + b.high, joined=True)
        return self._rescaled(node, total, "out") if scales else total

    def _rescaled(self, node: Node, x: _Held, which: str) -> _Held:
        """An operand or the sum of QuantLab's Add: ``(x * mul + add) >> shift`` if ``rq``, then
        clipped to ``n_levels`` from 0 up.
        """
        names = ("rq", "mul", "add", "shift", "n_levels")
        found = [node.get(f"{which}_{name}", None) for name in names]
        if not all(isinstance(n, int) for n in found) or not 0 <= found[3] <= 31 or found[4] < 1:
            raise ModelError(
                f"{node}: its attributes {', '.join(f'{which}_{name}' for name in names)} are "
                f"{found}; accepted: five integers, a shift of 0 to 31; export the network again"
            )
        applies, factor, offset, shift, levels = found
        if applies:
            x = self._rounded(node, x)
            name = self._with(node, "Mul", x.name, factor * 2.0**-shift, f"/{which}/mul")
            name = self._with(node, "Add", name, offset * 2.0**-shift, f"/{which}/add")
            ends = [(end * factor + offset) / Fraction(1 << shift) for end in (x.low, x.high)]
            x = _Held(name, min(ends), max(ends), 1 << shift, floored=True)
        elif which != "out":
            return x
        low, high = max(x.low, Fraction(0)), min(x.high, Fraction(levels - 1))
        return self._quantized(node, replace(x, low=low, high=max(low, high)), which)

    def _move(self, node: Node, x: _Held) -> _Held | None:
        if node.inputs[0] not in self.held:
            return None
        if not (x.rounded or x.low >= 0 or node.op != "Pad"):
            x = self._rounded(node, x)
        inputs = [x.name, *node.inputs[1:]]
        name = self.nodes.add(node, node.op, inputs, **attributes_of(node, node.op))
        if node.op == "Pad":
            return replace(x, name=name, low=min(x.low, Fraction(0)), high=max(x.high, Fraction(0)))
        return replace(x, name=name)

    def _cast(self, node: Node, x: _Held) -> _Held:
        integer = int(node.get("to", 0)) in INTEGERS
        truncated = x.truncated or (integer and x.grain > 1 and not x.floored)
        return replace(x, integer=integer, truncated=truncated)

    def _floor(self, node: Node, x: _Held) -> _Held:
        return replace(x, floored=x.grain > 1 and not x.truncated)

    def _clip(self, node: Node, x: _Held) -> _Held | None:
        ends = [self._end(node, 1, "min", x.low), self._end(node, 2, "max", x.high)]
        between = x.grain > 1 and not (x.floored or x.truncated)
        if between or not all(np.isfinite(end) and end == round(end) for end in ends):
            return None
        low, high = max(x.low, Fraction(ends[0])), min(x.high, Fraction(ends[1]))
        if x.truncated and ends[0] >= 0:
            x = replace(x, low=max(x.low, Fraction(0)))
        if low > high:
            return None
        return self._rounded(node, replace(x, low=low, high=high))

    def _end(self, node: Node, place: int, name: str, default: Fraction) -> float:
        if len(node.inputs) > place and node.inputs[place]:
            found = self.constants.get(node.inputs[place])
            return float(found.reshape(-1)[0]) if found is not None and found.size == 1 else np.nan
        return float(node.get(name, float(default)))

    def _relu(self, node: Node, x: _Held) -> _Held:
        name = self.nodes.add(node, "Relu", [x.name])
        low, high = max(x.low, Fraction(0)), max(x.high, Fraction(0))
        return replace(x, name=name, low=low, high=high, rounded=False)

    def _average(self, node: Node, x: _Held) -> _Held | None:
        kernel: Sequence[int] = node.get("kernel_shape", ())
        counted = not any(node.get("pads", ())) or node.get("count_include_pad", 0)
        if not counted or not kernel or node.get("ceil_mode", 0):
            return None
        x = self._rounded(node, x)
        name = self.nodes.add(node, node.op, [x.name], **attributes_of(node, node.op))
        return _Held(
            name, min(x.low, Fraction(0)), max(x.high, Fraction(0)), x.grain * prod(kernel)
        )


def _computed(op: str, x: _Held, constant: NDArray[np.float64]) -> tuple[int, list[Fraction]]:
    """The grain of ``x op constant``, and its ends."""
    numbers = [Fraction(float(n)) for n in np.unique(constant)]
    extremes = (numbers[0], numbers[-1])
    if op in ("Add", "Sub"):
        sign = 1 if op == "Add" else -1
        grain = lcm(x.grain, *(n.denominator for n in numbers))
        return grain, [x.low + sign * extremes[sign < 0], x.high + sign * extremes[sign > 0]]
    if op == "Mul":
        grain = x.grain * lcm(*(n.denominator for n in numbers))
        return grain, [end * n for end in (x.low, x.high) for n in extremes]
    grain = x.grain * lcm(*(abs(n.numerator) for n in numbers))
    return grain, [end / n for end in (x.low, x.high) for n in numbers]
