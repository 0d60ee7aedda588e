"""Operators that sum integers to int32, and the Cast and Mul that give the sums their scale.

    before: xq, s, z = DynamicQuantizeLinear(x);  t = ConvInteger(xq, wq, z, zw)
            y = Cast(t) * (s * sw)
    after:  w = DequantizeLinear(wq, 1, zw);  y = Conv(x, w) * sw

The scale and the zero point of a DynamicQuantizeLinear follow each frame, which no hardware does:
the operator is read as the float one over the tensor before it, whose range the samples show.
Integers of a QuantizeLinear keep its scale:

    before: xq = QuantizeLinear(x, s, z);  t = MatMulInteger(xq, wq, z, zw);  y = Cast(t) * c
    after:  x = DequantizeLinear(xq, s, z);  w = DequantizeLinear(wq, 1, zw)
            y = MatMul(x, w) * (c / s)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...errors import ModelError
from ..source import FLOATS, Node, Source
from .qoperator import MICROSOFT
from .rewriting import Nodes, attributes_of, fitting

__all__ = ["OPERATORS", "integer_sums"]

#: what each operator becomes
OPERATORS: Mapping[str, str] = {
    "ConvInteger": "Conv",
    "MatMulInteger": "MatMul",
    "DynamicQuantizeLinear": "nothing: the samples give the range",
    f"{MICROSOFT}DynamicQuantizeMatMul": "MatMul, Add",
    f"{MICROSOFT}MatMulIntegerToFloat": "MatMul, Add",
}

#: operators whose integers are some of those of their first input
_MOVES = frozenset(
    {
        *("Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose"),
        *("Unsqueeze", "DepthToSpace", "SpaceToDepth"),
    }
)


@dataclass(frozen=True)
class _Scaled:
    """A tensor that stands for ``real / scale``: integers, or ``sums`` of their products.

    ``scale`` is a constant's name, or an output of a DynamicQuantizeLinear (``dynamic``) as is
    ``zero``, the zero point of its integers. Integers of a constant scale stay in the node list;
    ``real`` is then ``""``.
    """

    real: str
    scale: str
    zero: str
    dynamic: bool
    sums: bool = False


def integer_sums(source: Source) -> Source:
    """ConvInteger, MatMulInteger and DynamicQuantizeLinear become float operators."""
    if not any(node.op in OPERATORS for node in source.nodes):
        return source
    walk = _Walk(source)
    for node in source.nodes:
        with fitting(node):
            walk(node)
    for port in source.outputs:
        walk.check_output(port.name)
    return walk.nodes.finished()


class _Walk:
    """The tensors that stand for others so far, and the nodes that replace those read."""

    def __init__(self, source: Source) -> None:
        self.nodes = Nodes(source)
        self.one = self.nodes.constant("one", np.float32(1))
        self.varying = {port.name for port in source.inputs}
        self.scaled: dict[str, _Scaled] = {
            port.name: _Scaled("", self.one, "", False)
            for port in source.inputs
            if port.dtype not in FLOATS
        }
        self.scales: dict[str, tuple[str, tuple[str, ...]]] = {}  # a dynamic scale times constants
        self.makers: dict[str, Node] = {}
        self.rules: dict[str, Callable[[Node], bool]] = {
            "DynamicQuantizeLinear": self._dynamic,
            "QuantizeLinear": self._static,
            "ConvInteger": self._conv,
            "MatMulInteger": self._matmul,
            f"{MICROSOFT}DynamicQuantizeMatMul": self._dynamic_matmul,
            f"{MICROSOFT}MatMulIntegerToFloat": self._matmul_to_float,
            "Cast": self._cast,
            "Mul": self._mul,
            "Add": self._add,
            "DequantizeLinear": self._dequantize,
            **dict.fromkeys(_MOVES, self._move),
        }

    def __call__(self, node: Node) -> None:
        """Append what replaces ``node``, or the node itself."""
        if node.op not in ("Shape", "Size") and not self.varying.isdisjoint(node.inputs):
            self.varying.update(node.outputs)
        self.makers |= dict.fromkeys(node.outputs, node)
        rule = self.rules.get(node.op)
        if rule is not None and rule(node):
            return
        self._check(node)
        self.nodes.keep(node)

    def check_output(self, name: str) -> None:
        """Refuse an output of the network that stands for something else."""
        if self._opaque(name):
            raise ModelError(
                f"{self.makers[name]}: its integers leave the network; accepted: real numbers, "
                "after Cast and Mul by the scales; add those at the end of the network"
            )

    def _check(self, node: Node) -> None:
        for name in node.inputs:
            if self._opaque(name) and node.op not in ("Shape", "Size"):
                raise ModelError(
                    f"{node}: reads {name} of {self.makers[name]}; accepted: ConvInteger or "
                    "MatMulInteger on the integers, then Cast and Mul by the scales; export the "
                    "network in QDQ format"
                )

    def _opaque(self, name: str) -> bool:
        """Whether nothing but this rewrite can read the tensor."""
        found = self.scaled.get(name)
        return name in self.scales or (found is not None and (found.dynamic or found.sums))

    # -- integers ----------------------------------------------------------------------------------

    def _dynamic(self, node: Node) -> bool:
        if node.inputs[0] not in self.varying:
            return False
        tensor, scale, zero = (*node.outputs, "", "")[:3]
        self.scaled[tensor] = _Scaled(node.inputs[0], scale, zero, True)
        if scale:
            self.scales[scale] = (scale, ())
        return True

    def _static(self, node: Node) -> bool:
        """A QuantizeLinear stays, and its scale is remembered."""
        scale = node.inputs[1]
        if scale not in self.varying:
            self.scaled[node.outputs[0]] = _Scaled("", scale, "", False)
        return False

    def _move(self, node: Node) -> bool:
        found = self.scaled.get(node.inputs[0])
        if found is None:
            return False
        if not found.real:
            self.scaled[node.outputs[0]] = found
            return False
        inputs = [found.real, *node.inputs[1:]]
        real = self.nodes.add(node, node.op, inputs, **node.attributes)
        self.scaled[node.outputs[0]] = replace(found, real=real)
        return True

    # -- sums --------------------------------------------------------------------------------------

    def _conv(self, node: Node) -> bool:
        return self._sum(node, "Conv", 0)

    def _matmul(self, node: Node) -> bool:
        return self._sum(node, "MatMul", -1)

    def _sum(self, node: Node, op: str, axis: int) -> bool:
        if self.varying.isdisjoint(node.inputs):
            return False
        x, w, zx, zw = (*node.inputs, "", "")[:4]
        if w in self.varying:
            raise ModelError(
                f"{node}: its second input {w} is computed at run time; accepted: constant "
                "weights; export the network in QDQ format"
            )
        found, real = self._real(node, x, zx)
        weight = self.nodes.dequantize(node, [w, self.one, zw], "/w", axis)
        real = self.nodes.add(node, op, [real, weight], **attributes_of(node, op))
        self.scaled[node.outputs[0]] = replace(found, real=real, sums=True)
        return True

    def _real(self, node: Node, x: str, zero: str) -> tuple[_Scaled, str]:
        """What the integers ``x`` stand for, and the real numbers themselves."""
        found = self.scaled.get(x)
        if found is None or found.sums:
            raise ModelError(
                f"{node}: its first input {x} holds integers whose scale is not known; accepted: "
                "those of QuantizeLinear, of DynamicQuantizeLinear or of the network's input, in "
                "any arrangement; export the network in QDQ format"
            )
        if not found.dynamic:
            return found, self.nodes.dequantize(node, [x, found.scale, zero], "/x")
        if found.zero != zero:
            raise ModelError(
                f"{node}: its zero point is {zero or 'none'}, but {x} has {found.zero}; accepted: "
                "that of the DynamicQuantizeLinear; check the model with onnx.checker"
            )
        return found, found.real

    def _dynamic_matmul(self, node: Node) -> bool:
        x, w, scale, zero, bias = _inputs(node, 3, 5)
        self._check(node)
        weight = self.nodes.dequantize(node, [w, scale, zero], "/w", -1)
        self._biased(node, [x, weight], bias)
        return True

    def _matmul_to_float(self, node: Node) -> bool:
        x, w, scale, weight_scale, zero, weight_zero, bias = _inputs(node, 4, 7)
        found, real = self._real(node, x, zero)
        if found.scale != scale:
            raise ModelError(
                f"{node}: its scale is {scale}, but {x} has {found.scale}; accepted: that of the "
                "node that quantizes it; export the network in QDQ format"
            )
        weight = self.nodes.dequantize(node, [w, weight_scale, weight_zero], "/w", -1)
        self._biased(node, [real, weight], bias)
        return True

    def _biased(self, node: Node, inputs: list[str], bias: str) -> None:
        output = "" if bias else node.outputs[0]
        real = self.nodes.add(node, "MatMul", inputs, output=output)
        if bias:
            self.nodes.add(node, "Add", [real, bias], "/bias", node.outputs[0])

    # -- scales ------------------------------------------------------------------------------------

    def _cast(self, node: Node) -> bool:
        found = self.scaled.get(node.inputs[0])
        if found is None or not found.sums:
            return False
        self.scaled[node.outputs[0]] = found
        return True

    def _mul(self, node: Node) -> bool:
        for x, factor in (node.inputs, node.inputs[::-1]):
            if x in self.scales and factor not in self.varying:
                scale, factors = self.scales[x]
                self.scales[node.outputs[0]] = (scale, (*factors, factor))
                return True
            if x in self.scaled and self.scaled[x].sums:
                return self._times(node, self.scaled[x], factor)
        return False

    def _dequantize(self, node: Node) -> bool:
        x, scale, zero = (*node.inputs, "")[:3]
        found = self.scaled.get(x)
        if found is None or not found.real:
            return False
        if not found.sums:
            self._real(node, x, zero)
            if scale != found.scale:
                return False
            self.nodes.add(node, "Identity", [found.real], output=node.outputs[0])
            return True
        point = self.nodes.known(zero) if zero else np.zeros(1)
        return point is not None and not point.any() and self._times(node, found, scale)

    def _times(self, node: Node, found: _Scaled, factor: str) -> bool:
        """The sums times a factor, which makes them real when it holds their scale."""
        (output,) = node.outputs
        if found.dynamic and factor in self.scales:
            scale, factors = self.scales[factor]
            if scale != found.scale:
                return False
            real = found.real
            for constant in factors:
                real = self.nodes.add(node, "Mul", [real, constant])
            self.nodes.add(node, "Identity", [real], "/scaled", output)
        elif factor in self.varying:
            return False
        elif found.dynamic:
            real = self.nodes.add(node, "Mul", [found.real, factor])
            self.scaled[output] = replace(found, real=real)
        else:
            ratio = self.nodes.add(node, "Div", [factor, found.scale], "/ratio")
            self.nodes.add(node, "Mul", [found.real, ratio], output=output)
        return True

    def _add(self, node: Node) -> bool:
        """A bias on the integer sums."""
        for x, bias in (node.inputs, node.inputs[::-1]):
            found = self.scaled.get(x)
            if found is None or not found.sums or found.dynamic or bias in self.varying:
                continue
            real = self.nodes.dequantize(node, [bias, found.scale, ""], "/bias")
            real = self.nodes.add(node, "Add", [found.real, real])
            self.scaled[node.outputs[0]] = replace(found, real=real)
            return True
        return False


def _inputs(node: Node, least: int, most: int) -> tuple[str, ...]:
    """The inputs of a contributed operator, ``""`` for those that are left out."""
    count = len(node.inputs)
    if not least <= count <= most or len(node.outputs) != 1 or not all(node.inputs[:least]):
        raise ModelError(
            f"{node}: has {count} inputs and {len(node.outputs)} outputs, or lacks one of the "
            f"first {least} inputs; accepted: {least} to {most} inputs and one output; export the "
            "network again"
        )
    return (*node.inputs, *[""] * (most - count))
