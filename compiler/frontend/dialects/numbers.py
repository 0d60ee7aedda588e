"""Tensors of integers and of truth values that are computed with: read as real numbers.

    before: a = Add(x int64, y int64);  b = Greater(a, 3) bool;  c = Cast(b, int32)
    after:  a = Add(x, y);              b = Greater(a, 3);       c = b             (all float32)

A truth value is 0 or 1. What rounds toward an integer in ONNX does so here: integer division, a
shift to the right, a Cast of floats to integers. Inputs and outputs of the network that hold such
numbers become float32; integers of up to 16 bits that only DequantizeLinear and the operators of
quantized networks read stay as they are. Results that leave the range of their type, which ONNX
wraps around or leaves undefined, are not wrapped.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ... import ir
from ...errors import ModelError
from ..source import CODES, DTYPES, FLOATS, QUANTIZED, WIDE, ModelPort, Node, Source, captured
from .rewriting import Nodes, fitting, types_of

__all__ = ["plain_numbers"]

_FLOAT = int(onnx.TensorProto.FLOAT)
_SHAPES = ("Shape", "Size")
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
#: operators whose results are integers, of whatever numbers
_WHOLE = (*_COMPARISONS, "Floor", "Ceil", "Round", "Sign", "Not", "And", "Or", "Xor")
#: operators that take elements as they are
_MOVES = (
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth"),
    *("Gather", "GatherElements", "GatherND", "Compress", "ReverseSequence", "Slice", "Split"),
    *("Tile", "Expand", "Identity", "Dropout", "Concat", "Pad", "Trilu", "Resize", "Upsample"),
)
#: their operands whose elements the results are, where those are not the first alone
_DATA = {"Concat": slice(None), "Pad": slice(0, 3, 2)}
#: operators that choose among elements, quantized ones as they are stored
_CHOOSES = ("ReduceMax",)
#: operators that give the same for integers and for the real numbers that they are
_ALIKE = (
    *("Abs", "Add", "And", "Ceil", "Clip", "CumProd", "CumSum", "Einsum", "Equal", "Floor"),
    *("Gemm", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "MatMul", "Max", "Min", "Mul"),
    *("Neg", "Not", "OneHot", "Or", "Pow", "ReduceL1", "ReduceMax", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare", "Relu", "Round", "Sign", "Sub", "Sum", "Where", "Xor"),
)
#: nodes that a network of floats needs this for
_TYPED = ("BitShift", "BitwiseNot", "Cast", "CastLike", "Mod")


def plain_numbers(source: Source) -> Source:
    """Integers that are no quantized values become real numbers."""
    ports = (*source.inputs, *source.outputs)
    if not (
        any(port.dtype not in FLOATS for port in ports)
        or any(node.op in _TYPED for node in source.nodes)
    ):
        return source
    types = types_of(source)
    rewriting = _Rewriting(source, Nodes(source), types)
    for node in source.nodes:
        with fitting(node):
            rewriting(node)
    if not rewriting.changed:
        return source
    found = rewriting.nodes.finished()
    return replace(
        found,
        inputs=tuple(_port(port, port.dtype in WIDE) for port in source.inputs),
        outputs=tuple(_port(port, port.name in rewriting.numbers) for port in source.outputs),
    )


def _port(port: ModelPort, number: bool) -> ModelPort:
    return replace(port, dtype="float32") if number and port.dtype not in FLOATS else port


@dataclass(eq=False)
class _Rewriting:
    """``numbers``: integer tensors that are real ones now; ``stored``: integers as the network's
    inputs give them; ``varying``: all that depends on an input.
    """

    source: Source
    nodes: Nodes
    types: dict[str, str]

    def __post_init__(self) -> None:
        ports = self.source.inputs
        self.varying = {port.name for port in ports}
        self.numbers = {port.name for port in ports if port.dtype in WIDE}
        self.stored = {port.name for port in ports if port.dtype in QUANTIZED}
        self.whole = set(self.numbers)
        self.reals: dict[str, str] = {}
        self.changed = bool(self.numbers)

    def __call__(self, node: Node) -> None:
        """Append what ``node`` becomes."""
        if node.op == "CastLike":
            node = self._cast_like(node)
        depends = not self.varying.isdisjoint((*node.inputs, *captured(node.proto)))
        if not depends or node.op in _SHAPES:
            self.nodes.keep(node)
            return
        self.varying.update(filter(None, node.outputs))
        if node.op in RULES and self.integral(node):
            self.changed = True
            self.numbers.update(node.outputs)
            self.whole.update(node.outputs)
            RULES[node.op](self, self._over_reals(node))
        elif node.op == "Mod" and not node.get("fmod", 0):
            self.changed = True
            _modulo(self, node)
        elif node.op == "Cast":
            self._cast(node)
        elif node.op in _MOVES or (node.op in _CHOOSES and self.stored & {*node.inputs}):
            self._moved(node)
        else:
            self._computed(node)

    def _cast_like(self, node: Node) -> Node:
        """As a Cast to the type of the second operand."""
        dtype = self.types.get(node.inputs[1])
        number = None if dtype is None else CODES.get(dtype)
        if number is None:
            raise ModelError(
                f"{node}: the type of its second operand {node.inputs[1]} is not known; accepted: "
                "one that follows from the model; export a Cast instead"
            )
        self.changed = True
        to = _FLOAT if dtype in FLOATS else number
        proto = onnx.helper.make_node("Cast", [node.inputs[0]], list(node.outputs), to=to)
        return replace(
            node,
            op="Cast",
            inputs=node.inputs[:1],
            attributes={"to": to},
            proto=proto,
            written=node.written or node.op,
            origin=node.origin or node.key,
        )

    def _moved(self, node: Node) -> None:
        """A node that takes elements: its results are as those are, whatever the indices."""
        data = self.varying.intersection(node.inputs[_DATA.get(node.op, slice(1))])
        dtype = None if data else self.types.get(node.inputs[0])
        kinds = ((self.numbers, WIDE), (self.whole, WIDE), (self.stored, QUANTIZED))
        for kind, types in kinds:
            if dtype in types or not data.isdisjoint(kind):
                kind.update(filter(None, node.outputs))
        self.nodes.keep(node)

    def _computed(self, node: Node) -> None:
        """A node that computes: over the real numbers, where it computes with integers."""
        integral = [n for n in node.inputs if n in self.numbers or n in self.stored]
        computes = node.op in _ALIKE and bool(integral)
        if integral and not computes and set(integral) <= self.numbers and node.op not in _INDEXED:
            raise ModelError(
                f"{node}: computes with integers of type {self.types.get(integral[0], 'int64')}; "
                f"accepted: {', '.join(sorted({*_ALIKE, *RULES}))} of those, or floats; cast to "
                "float32 before the node"
            )
        for name in filter(None, node.outputs):
            declared = self.types.get(name, "float32")
            if (declared not in FLOATS and computes) or declared == "bool":
                self.numbers.add(name)
                self.changed = True
            if node.op in _WHOLE or (computes and declared not in FLOATS):
                self.whole.add(name)
        self.nodes.keep(self._over_reals(node) if computes else node)

    def integral(self, node: Node) -> bool:
        """Whether the result of a node is of integers."""
        names = [*node.outputs, *(name for name in node.inputs if name in self.varying)]
        found = {self.types.get(name, "float32") for name in names if name}
        return found.isdisjoint(FLOATS) and not found.isdisjoint((*WIDE, *QUANTIZED))

    def _over_reals(self, node: Node) -> Node:
        """``node`` with the integers of the network's inputs cast to real numbers."""
        if self.stored.isdisjoint(node.inputs):
            return node
        self.changed = True
        inputs = [self.real(name, node) if name in self.stored else name for name in node.inputs]
        return replace(node, inputs=tuple(inputs))

    def real(self, name: str, node: Node) -> str:
        """The real numbers that stored integers are."""
        if name not in self.reals:
            self.reals[name] = self.nodes.add(node, "Cast", [name], f"/{name}/real", to=_FLOAT)
        return self.reals[name]

    def constant(self, node: Node, place: int) -> NDArray[np.float64]:
        """An operand that must be a constant."""
        found = self.nodes.known(node.inputs[place])
        if found is None:
            raise ModelError(
                f"{node}: its input {place} is computed at run time; accepted for integers: a "
                "constant; export it as one, or cast to float32 before the node"
            )
        return found.astype(np.float64)

    def number(self, node: Node, word: str, value: Any) -> str:
        """A float32 constant before ``node``."""
        return self.nodes.constant(f"{node.key}/{word}", np.asarray(value, np.float32))

    # -- Cast --------------------------------------------------------------------------------------

    def _cast(self, node: Node) -> None:
        """A Cast, as what it does to the numbers."""
        (x,) = node.inputs
        to = DTYPES.get(int(node.get("to", 1)), "")
        found = self.types.get(x, "float32")
        if x not in self.numbers and x not in self.stored and found not in FLOATS:
            self.nodes.keep(node)  # of what QuantizeLinear, ArgMax and the like give
            return
        if to in FLOATS or (x in self.stored and to in (*QUANTIZED, *WIDE) and to != "bool"):
            if x in self.stored and to in WIDE:
                self._number(node, self.real(x, node))
            else:
                self.stored.update(node.outputs if to not in FLOATS else ())
                self.nodes.keep(node)
        elif to == "bool" and found != "bool":
            x = self.real(x, node) if x in self.stored else x
            zero = self.number(node, "zero", 0)
            none = self.nodes.add(node, "Equal", [x, zero], "/is_zero")
            self._result(node, "Not", [none])
        elif to in WIDE and (x in self.whole or found not in FLOATS):
            self._number(node, x)
        elif to in (*WIDE, *QUANTIZED) and (found in FLOATS or x in self.numbers):
            self._truncate(node, x)
        else:
            self.nodes.keep(node)

    def _number(self, node: Node, x: str) -> None:
        """The same numbers."""
        self._result(node, "Identity", [x])

    def _truncate(self, node: Node, x: str) -> None:
        """Toward zero, modulo the range of a narrow type."""
        size = self.nodes.add(node, "Abs", [x], "/size")
        floor = self.nodes.add(node, "Floor", [size], "/floor")
        sign = self.nodes.add(node, "Sign", [x], "/sign")
        dtype = ir.Int.named(DTYPES.get(int(node.get("to", 1)), ""))
        if dtype is None or dtype.bits > 16:
            self._result(node, "Mul", [sign, floor])
        else:
            self.wrap(node, self.nodes.add(node, "Mul", [sign, floor], "/whole"), dtype)

    def wrap(self, node: Node, x: str, dtype: ir.Int) -> None:
        """The numbers of ``dtype`` that integers are modulo its range, as the result of a node."""
        size = self.number(node, "range", 1 << dtype.bits)
        above = x
        if dtype.low:
            above = self.nodes.add(node, "Sub", [x, self.number(node, "low", dtype.low)], "/above")
        rest = self.nodes.add(node, "Mod", [above, size], "/rest", fmod=1)
        again = self.nodes.add(node, "Add", [rest, size], "/again")
        if not dtype.low:
            self._result(node, "Mod", [again, size], fmod=1)
            return
        place = self.nodes.add(node, "Mod", [again, size], "/place", fmod=1)
        self._result(node, "Add", [place, self.number(node, "lowest", dtype.low)])

    def _result(self, node: Node, op: str, inputs: list[str], **attributes: int) -> None:
        self.changed = True
        self.numbers.update(node.outputs)
        self.whole.update(node.outputs)
        self.nodes.add(node, op, inputs, "/result", output=node.outputs[0], **attributes)


#: operators that read integers as places, counts and the like, and refuse varying ones themselves
_INDEXED = ("ArgMax", "ArgMin", "TopK", "Hardmax", "ScatterElements", "ScatterND", "Scatter")


Rule = Callable[[_Rewriting, Node], None]


def _quotient(rewriting: _Rewriting, node: Node) -> None:
    """Div of integers: toward zero."""
    divisor = rewriting.constant(node, 1)
    if not np.all(divisor):
        raise ModelError(f"{node}: divides by zero; accepted: a divisor without zeros")
    found = _toward_zero(rewriting, node, node.inputs[0], divisor)
    rewriting.nodes.add(node, "Identity", [found], "/result", output=node.outputs[0])


def _modulo(rewriting: _Rewriting, node: Node) -> None:
    """Mod: with the sign of the divisor by two with that of the dividend; of integers and several
    divisors ``x - divisor * quotient``.
    """
    nodes, divisor = rewriting.nodes, rewriting.constant(node, 1)
    x, output, signed = node.inputs[0], node.outputs[0], bool(node.get("fmod", 0))
    if not np.all(divisor):
        raise ModelError(f"{node}: divides by zero; accepted: a divisor without zeros")
    number = rewriting.number(node, "divisor", divisor)
    if np.unique(divisor).size == 1 or not rewriting.integral(node):
        last = output if signed else ""
        rest = nodes.add(node, "Mod", [x, number], "/rest", last, fmod=1)
        if not signed:
            above = nodes.add(node, "Add", [rest, number], "/above")
            nodes.add(node, "Mod", [above, number], "/result", output=output, fmod=1)
        return
    if signed:
        quotient = _toward_zero(rewriting, node, x, divisor)
    else:
        turned = nodes.add(node, "Mul", [x, rewriting.number(node, "turn", np.sign(divisor))])
        quotient = _share(rewriting, node, turned, divisor)
    product = nodes.add(node, "Mul", [quotient, number], "/product")
    nodes.add(node, "Sub", [x, product], "/result", output=output)


def _share(rewriting: _Rewriting, node: Node, x: str, divisor: NDArray[np.float64]) -> str:
    """``floor(x / |divisor|)`` of integers. Half a unit more decides no quotient of integers, and
    keeps what is exactly one from falling below it.
    """
    above = rewriting.nodes.add(node, "Add", [x, rewriting.number(node, "half", 0.5)], "/above")
    inverse = rewriting.number(node, "inverse", 1 / np.abs(divisor))
    share = rewriting.nodes.add(node, "Mul", [above, inverse], "/share")
    return rewriting.nodes.add(node, "Floor", [share], "/floor")


def _toward_zero(rewriting: _Rewriting, node: Node, x: str, divisor: NDArray[np.float64]) -> str:
    """``x / divisor`` of integers without its fraction."""
    nodes = rewriting.nodes
    floor = _share(rewriting, node, nodes.add(node, "Abs", [x], "/size"), divisor)
    sign = nodes.add(node, "Sign", [x], "/sign")
    quotient = nodes.add(node, "Mul", [sign, floor], "/quotient")
    if np.all(divisor > 0):
        return quotient
    turned = rewriting.number(node, "turned", np.sign(divisor))
    return nodes.add(node, "Mul", [quotient, turned], "/turned_quotient")


def _shifted(rewriting: _Rewriting, node: Node) -> None:
    """BitShift by a constant; to the left, in a narrow type, modulo its range."""
    nodes, left = rewriting.nodes, node.get("direction", "") == "LEFT"
    amount = rewriting.constant(node, 1)
    dtype = ir.Int.named(rewriting.types.get(node.outputs[0], ""))
    if dtype is None or (amount.size and not 0 <= amount.min() <= amount.max() < dtype.bits):
        raise ModelError(
            f"{node}: shifts {dtype} by {np.min(amount):g} to {np.max(amount):g} "
            "bits; accepted: from 0 to less than the type has"
        )
    power = np.exp2(amount * (1 if left else -1))
    factor = rewriting.number(node, "power", power)
    product = nodes.add(node, "Mul", [node.inputs[0], factor], "/product")
    if left and dtype.bits <= 16:
        rewriting.wrap(node, product, dtype)
    else:
        last = "Identity" if left else "Floor"
        nodes.add(node, last, [product], "/result", output=node.outputs[0])


def _complement(rewriting: _Rewriting, node: Node) -> None:
    """BitwiseNot."""
    dtype = ir.Int.named(rewriting.types.get(node.outputs[0], ""))
    if dtype is None or (dtype.bits > 16 and not dtype.signed):
        raise ModelError(
            f"{node}: inverts the bits of {dtype}; accepted: integers of up to 16 bits, and signed "
            "ones"
        )
    ones = rewriting.number(node, "ones", dtype.high + dtype.low)
    rewriting.nodes.add(node, "Sub", [ones, node.inputs[0]], "/result", output=node.outputs[0])


#: the operators that give other numbers for integers than for floats
RULES: dict[str, Rule] = {
    "Div": _quotient,
    "Mod": _modulo,
    "BitShift": _shifted,
    "BitwiseNot": _complement,
}
