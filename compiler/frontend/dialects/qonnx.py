"""QONNX: quantizers of any width as one node, as Brevitas, FINN and hls4ml exchange them.

    before: y = Quant(x, s, z, bits)
    after:  q = Clip(QuantizeLinear(x, s, z), low, high);  y = DequantizeLinear(q, s, z)

A quantizer of a constant is computed here; what is left is DequantizeLinear of the integers. Quant
rounds ``x / s + z`` where QuantizeLinear rounds ``x / s``: for an odd zero point ties go the other
way. A BipolarQuant is -s below 0, else s. That is one bit, then a change of scale:

    before: y = BipolarQuant(x, s)
    after:  t = Clip(QuantizeLinear(x - s, 2 s, 1), 0, 1), which is 1 if x >= 0, else 0
            y = DequantizeLinear(QuantizeLinear(DequantizeLinear(t, 2 s, 1) + s, s, 0), s, 0)

Half to even rounds ``(0 - s) / 2 s = -1/2`` up to 0, so a tie is on the right side. A quantizer of
the network's input has no operator before it that could subtract s. It uses a scale of 2^-64
instead, for which all numbers from -2^-65 up count as 0.

A Trunc drops k bits of the integers ``m`` behind its input. ``m / 2^k - 1/2 + 2^-(k+1)`` lies
between the integers around it, never on a tie, and half to even rounds it to ``floor(m / 2^k)``:

    before: y = Trunc(x, s, 0, bits + k, bits), floor(m / 2^k) s for x = m s
    after:  y = DequantizeLinear(QuantizeLinear(x / 2^k + s (2^-(k+1) - 1/2), s), s)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import ir
from ...errors import ModelError
from ..source import Node, Source, read
from .rewriting import QUANTIZING_OPSET, Nodes, evaluated, fitting

__all__ = ["OPERATORS", "in_qonnx", "quantizers"]

DOMAINS = ("", "qonnx.custom_op.general::", "finn.custom_op.general::", "onnx.brevitas::")

#: what each operator becomes
OPERATORS: Mapping[str, str] = {
    "Quant": "QuantizeLinear, Clip, DequantizeLinear",
    "IntQuant": "QuantizeLinear, Clip, DequantizeLinear",
    "Trunc": "Mul and Add, QuantizeLinear, DequantizeLinear",
    "BipolarQuant": "QuantizeLinear, DequantizeLinear to one bit, Add, again to ±1",
}
#: how many inputs each takes
INPUTS: Mapping[str, tuple[int, ...]] = {
    "Quant": (4,),
    "IntQuant": (4,),
    "BipolarQuant": (2,),
    "Trunc": (5, 6),
}
#: bits of activations, and of constants (a bias has up to 32)
ACTIVATION_BITS, CONSTANT_BITS = 16, 32
#: the scale of an input of one bit: a power of two far below any number that matters
TINY = 2.0**-64

Floats = NDArray[np.floating[Any]]

#: how constants are rounded; activations are rounded half to even
ROUNDING: Mapping[str, Callable[[Floats], Floats]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}
_TO_EVEN = ("ROUND", "HALF_EVEN")
#: how Trunc rounds, and the sign of the shift that makes half to even do the same
TRUNCATING: Mapping[str, int] = {"FLOOR": -1, "ROUND": 0, "HALF_EVEN": 0, "CEIL": 1}
#: operators that pass on the numbers of the network's input
_MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def quantizers(source: Source) -> Source:
    """Quant, IntQuant and BipolarQuant nodes become QuantizeLinear and DequantizeLinear."""
    found = [node for node in source.nodes if _name(node) in (*OPERATORS, "FloatQuant")]
    if not found:
        return source
    nodes = Nodes(source)
    walk = _Walk(nodes, evaluated(source, {name for node in found for name in node.inputs}))
    for node in source.nodes:
        with fitting(node):
            walk(node)
    return nodes.finished()


def in_qonnx(model: Path) -> bool:
    """Whether the network in this file has nodes of QONNX, which no runtime of ONNX computes."""
    return any(_name(node) in OPERATORS for node in read(model).nodes)


def _name(node: Node) -> str:
    """The operator without a domain of :data:`DOMAINS`; another one's stays."""
    domain, mark, name = node.op.rpartition("::")
    return name if domain + mark in DOMAINS else node.op


@dataclass(frozen=True)
class _Integers:
    """Integers ``low`` to ``high`` with a scale and a zero point."""

    scale: Floats
    zero: NDArray[np.int64]
    low: int
    high: int

    @property
    def stored(self) -> ir.Int:
        """The type of whole bytes that holds them and their zero point."""
        zeros = [int(zero) for zero in self.zero.reshape(-1)]
        held = ir.Int.holding(min(self.low, *zeros), max(self.high, *zeros))
        return ir.Int(8 * held.numpy.itemsize, held.signed)


def _range(
    scale: Floats | np.float32, zero: NDArray[np.int64], bits: int, signed: bool, narrow: bool
) -> _Integers:
    """All integers of so many bits; narrow: without the least negative, or the largest, one."""
    low = (-(1 << (bits - 1)) + narrow) if signed else 0
    high = (1 << (bits - signed)) - 1 - (narrow and not signed)
    return _Integers(np.asarray(scale), zero, low, high)


class _Walk:
    """Appends what replaces each node; ``known``: the constants that quantizers read."""

    def __init__(self, nodes: Nodes, known: Mapping[str, NDArray[Any]]) -> None:
        self.nodes, self.known = nodes, known
        self.entering = {port.name for port in nodes.source.inputs}
        self.makers = {name: node for node in nodes.source.nodes for name in node.outputs}

    def __call__(self, node: Node) -> None:
        name = _name(node)
        if name == "FloatQuant":
            raise ModelError(
                f"{node}: quantizes to floats of few bits; accepted: {', '.join(OPERATORS)}; train "
                "with integer quantizers"
            )
        if name not in OPERATORS:
            if node.op in _MOVES and node.inputs[0] in self.entering:
                self.entering.update(node.outputs)
            self.nodes.keep(node)
            return
        counts = INPUTS[name]
        if len(node.inputs) not in counts or len(node.outputs) != 1 or not all(node.inputs):
            raise ModelError(
                f"{node}: has {len(node.inputs)} inputs and {len(node.outputs)} outputs; accepted: "
                f"{' or '.join(map(str, counts))} inputs and one output; export the network again"
            )
        scale = self._constant(node, 1, "scale").astype(np.float32)
        if not (np.isfinite(scale) & (scale > 0)).all() or not scale.size:
            raise ModelError(
                f"{node}: its scale is not above 0; accepted: finite scales above 0; train or "
                "export the network again"
            )
        if name == "BipolarQuant":
            self._bipolar(node, scale)
            return
        if name == "Trunc":
            self._trunc(node, scale)
            return
        zero, bits = self._constant(node, 2, "zero point"), self._bits(node, 3)
        if (zero != np.rint(zero)).any():
            raise ModelError(
                f"{node}: its zero point is no integer; accepted: whole numbers; export the "
                "network with another quantizer"
            )
        signed, narrow = bool(node.get("signed", 1)), bool(node.get("narrow", 0))
        if signed and bits == 1:
            if zero.any():
                raise ModelError(
                    f"{node}: is of 1 signed bit with a zero point; accepted: without one, which "
                    "is BipolarQuant; export the network again"
                )
            self._bipolar(node, scale)
            return
        self._quantize(node, _range(scale, zero.astype(np.int64), bits, signed, narrow))

    # -- Quant -------------------------------------------------------------------------------------

    def _quantize(self, node: Node, integers: _Integers) -> None:
        mode = str(node.get("rounding_mode", "ROUND")).upper()
        x = self.known.get(node.inputs[0])
        accepted = _TO_EVEN if x is None else tuple(ROUNDING)
        if mode not in accepted:
            raise ModelError(
                f"{node}: its rounding_mode is {mode}; accepted: {', '.join(accepted)}"
                f"{' for an activation' if x is None else ''}; train with one of those"
            )
        if x is not None:
            with np.errstate(all="ignore"):
                steps = x.astype(np.float32) / integers.scale + integers.zero.astype(np.float32)
            values = ROUNDING[mode](np.clip(steps, integers.low, integers.high))
            self._constant_integers(node, values, integers)
            return
        if integers.scale.size > 1 or integers.zero.size > 1:
            raise ModelError(
                f"{node}: has {max(integers.scale.size, integers.zero.size)} scales or zero points "
                "for an activation; accepted: one; quantize activations per tensor and weights per "
                "channel"
            )
        self._one_scale(node, node.inputs[0], integers, "", node.outputs[0])

    def _one_scale(
        self, node: Node, x: str, integers: _Integers, suffix: str, output: str = ""
    ) -> str:
        """QuantizeLinear, Clip where the type has other ends, DequantizeLinear; its output."""
        stored, nodes = integers.stored, self.nodes
        pair = self._pair(node, integers.scale, integers.zero, stored)
        q = nodes.add(
            node, "QuantizeLinear", [x, *pair], f"{suffix}/quantize", opset=QUANTIZING_OPSET
        )
        if (integers.low, integers.high) != (stored.low, stored.high):
            ends = [
                nodes.constant(f"{node.name}/{end}", np.array(number, stored.numpy))
                for end, number in (("low", integers.low), ("high", integers.high))
            ]
            q = nodes.add(node, "Clip", [q, *ends], f"{suffix}/saturate", opset=QUANTIZING_OPSET)
        return nodes.dequantize(node, [q, *pair], f"{suffix}/dequantize", output=output)

    def _pair(
        self, node: Node, scale: Floats, zero: NDArray[np.int64], stored: ir.Int
    ) -> tuple[str, str]:
        """Scale and zero point as constants; a lone one is a scalar."""
        scale, zero = scale.reshape(-1), zero.reshape(-1)
        return (
            self.nodes.constant(
                f"{node.name}/scale", (scale if scale.size > 1 else scale[0]).astype(np.float32)
            ),
            self.nodes.constant(
                f"{node.name}/zero_point", (zero if zero.size > 1 else zero[0]).astype(stored.numpy)
            ),
        )

    def _constant_integers(self, node: Node, values: Floats, integers: _Integers) -> None:
        """DequantizeLinear of the integers of a constant, along the axis of its scales."""
        stored = integers.stored
        shape, axis = values.shape, 0
        several = np.broadcast_shapes(integers.scale.shape, integers.zero.shape)
        several = (1,) * (len(shape) - len(several)) + several
        axes = [n for n, size in enumerate(several) if size > 1]
        if len(axes) > 1 or len(several) > len(shape):
            raise ModelError(
                f"{node}: its scales have the shape {list(several)} for a constant of shape "
                f"{list(shape)}; accepted: one scale, or one an element of one axis; quantize "
                "along the output channels"
            )
        scale, zero = integers.scale.reshape(-1), integers.zero.reshape(-1)
        if axes:
            axis = axes[0]
            scale = np.broadcast_to(scale, several[axis])
            zero = np.broadcast_to(zero, several[axis])
        name = self.nodes.constant(f"{node.name}/integers", values.astype(stored.numpy))
        pair = self._pair(node, scale, zero, stored)
        self.nodes.dequantize(node, [name, *pair], "/dequantize", axis, node.outputs[0])

    # -- Trunc -------------------------------------------------------------------------------------

    def _trunc(self, node: Node, scale: Floats) -> None:
        """Version 1 keeps the scale and names the bits before and after; version 2 has the scale
        after it, and clamps.
        """
        if scale.size > 1 or self._constant(node, 2, "zero point").any():
            raise ModelError(
                f"{node}: has {scale.size} scales, or a zero point; accepted: one scale, without "
                "zero point; export the network with symmetric quantizers"
            )
        step = float(scale.reshape(()))
        if len(node.inputs) == 5:
            after, dropped = step, self._wide(node, 3) - self._wide(node, 4)
            bits, signed, narrow = self._bits(node, 4) + 1, True, False  # of either sign
        else:
            after = float(self._constant(node, 4, "output scale").reshape(-1)[0])
            ratio = np.log2(after / step) if after > 0 else np.nan
            dropped = int(np.rint(ratio)) if np.isfinite(ratio) else -1
            bits = self._bits(node, 5)
            signed, narrow = bool(node.get("signed", 1)), bool(node.get("narrow", 0))
        mode = str(node.get("rounding_mode", "FLOOR")).upper()
        if not 0 <= dropped <= ACTIVATION_BITS or mode not in TRUNCATING:
            raise ModelError(
                f"{node}: drops {dropped} bits with the rounding_mode {mode}; accepted: 0 to "
                f"{ACTIVATION_BITS} bits, {', '.join(TRUNCATING)}; export the network again"
            )
        shift = TRUNCATING[mode] * (0.5 - 2.0 ** -(dropped + 1)) * after
        x = node.inputs[0]
        if len(node.inputs) == 5:
            x = self._with(node, "Mul", x, 2.0**-dropped, "/drop")
        x = self._with(node, "Add", x, shift, "/floor")
        integers = _range(np.float32(after), np.zeros((), np.int64), bits, signed, narrow)
        self._one_scale(node, x, integers, "", node.outputs[0])

    def _wide(self, node: Node, place: int) -> int:
        """A width of up to that of accumulators."""
        found = self._constant(node, place, "bit width").reshape(-1)
        whole = found.size == 1 and float(found[0]) in range(1, CONSTANT_BITS + 1)
        return int(found[0]) if whole else -CONSTANT_BITS

    # -- BipolarQuant ------------------------------------------------------------------------------

    def _bipolar(self, node: Node, scale: Floats) -> None:
        none = np.zeros((), np.int64)
        x = self.known.get(node.inputs[0])
        if x is not None:
            values = np.where(x >= 0, 1.0, -1.0)
            self._constant_integers(node, values, _Integers(scale, none, -1, 1))
            return
        if scale.size > 1:
            raise ModelError(
                f"{node}: has {scale.size} scales for an activation; accepted: one; quantize "
                "activations per tensor"
            )
        step, name = scale.reshape(()), self._before_clips(node.inputs[0])
        entering = name in self.entering
        width = np.float32(TINY) if entering else np.float32(2) * step
        if not entering:
            name = self._with(node, "Add", name, -step, "/shift")
        one_bit = _Integers(np.asarray(width), np.ones((), np.int64), 0, 1)
        real = self._one_scale(node, name, one_bit, "/bit")
        if entering:
            real = self._with(node, "Mul", real, np.float32(2) * step / width, "/widen")
        real = self._with(node, "Add", real, step, "/centre")
        self._one_scale(node, real, _Integers(step, none, -1, 1), "", node.outputs[0])

    def _with(self, node: Node, op: str, x: str, number: Any, suffix: str) -> str:
        constant = self.nodes.constant(f"{node.name}{suffix}/number", np.float32(number))
        return self.nodes.add(node, op, [x, constant], suffix)

    def _before_clips(self, name: str) -> str:
        """The tensor before Clips around 0, which keep every sign."""
        seen: set[str] = set()
        while (maker := self.makers.get(name)) is not None and maker.op == "Clip":
            if name in seen:  # nodes in a circle, which the importer refuses
                break
            seen.add(name)
            low = self._end(maker, 1, "min", -np.inf)
            high = self._end(maker, 2, "max", np.inf)
            if not (low < 0 <= high):
                break
            name = maker.inputs[0]
        return name

    def _end(self, clip: Node, place: int, name: str, default: float) -> float:
        """A limit of a Clip; NaN when it is not known."""
        if len(clip.inputs) <= place or not clip.inputs[place]:
            return float(clip.get(name, default))
        found = self.nodes.known(clip.inputs[place])
        return float(found.reshape(-1)[0]) if found is not None and found.size == 1 else np.nan

    # -- parameters --------------------------------------------------------------------------------

    def _constant(self, node: Node, place: int, what: str) -> NDArray[Any]:
        found = self.known.get(node.inputs[place])
        if found is None:
            raise ModelError(
                f"{node}: its {what} is computed at run time; accepted: a constant {what}; export "
                "the network in evaluation mode"
            )
        return found

    def _bits(self, node: Node, place: int) -> int:
        found = self._constant(node, place, "bit width")
        most = ACTIVATION_BITS if node.inputs[0] not in self.known else CONSTANT_BITS
        if found.size != 1 or float(found.reshape(-1)[0]) not in range(1, most + 1):
            raise ModelError(
                f"{node}: its bit width is {', '.join(f'{b:g}' for b in found.reshape(-1)[:4])}; "
                f"accepted: a whole number from 1 to {most}; train with such a width"
            )
        return int(found.reshape(-1)[0])
