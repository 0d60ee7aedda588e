"""Walk the nodes of an ONNX model and build the graph; then the passes that fuse it."""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import ir, limits, passes
from ..errors import ModelError
from . import qdq, shapes
from .builder import Builder
from .dialects import standard
from .input_layout import input_layouts
from .operands import Operand, settled
from .output_layout import output_port
from .registry import HANDLERS, OPERATORS
from .saturation import Saturation, saturations
from .scans import inlined
from .source import INPUTS, Node, Source, captured, constants_of, read
from .states import keep
from .tensors import Constant, Tensor, elements, permutes

__all__ = ["Reading", "is_verbatim", "load", "read_graph", "read_nodes", "stream_positions"]

Found = TypeVar("Found")

SHAPES = ("Shape", "Size")
# What NumPy raises for operands and attributes that contradict each other.
ERRORS = (ArithmeticError, LookupError, MemoryError, TypeError, ValueError)


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # infinities are refused in words
def load(path: str | Path) -> ir.Graph:
    """The network in an ONNX file, float32 or quantized, fused and in stream order.

    Raises ModelError when the file is not ONNX, or the network holds what has no hardware.
    """
    return passes.run(read_graph(path), passes.ON_READ)


def read_graph(path: str | Path) -> ir.Graph:
    """The network in an ONNX file before any pass: one operator a computing node.

    Raises ModelError as :func:`load` does.
    """
    return _first_reading(path, lambda found: _graph_of(found, path))


def stream_positions(path: str | Path, names: Container[str]) -> Mapping[str, NDArray[np.int64]]:
    """Where the elements of the tensors ``names`` are, of those that hold a stream of
    :func:`read_graph` and nothing else: the stream position of the i-th element of a frame.

    Raises ModelError as :func:`load` does.
    """

    def positions(found: Source) -> Mapping[str, NDArray[np.int64]]:
        walk = _Walk(standard(found), located=names)
        walk.graph()  # a reading that this refuses is not the graph's
        return walk.positions

    return _first_reading(path, positions)


def _first_reading(path: str | Path, make: Callable[[Source], Found]) -> Found:
    """What ``make`` makes of the first reading of a file that it does not refuse."""
    first: ModelError | None = None
    for source in read(path).readings():
        try:
            return make(source)
        except ModelError as error:
            first = first or error
    assert first is not None
    raise first


def _graph_of(found: Source, path: str | Path) -> ir.Graph:
    source = standard(found)
    _check_supported(source, path)
    graph = _Walk(source).graph()
    graph = replace(graph, verbatim=graph.verbatim and is_verbatim(source, found))
    ir.verify(graph, after="frontend")
    return graph


def is_verbatim(source: Source, found: Source) -> bool:
    """Whether the file that was ``found`` is the standard form of ``source``."""
    return source is inlined(found) and all(each.portable for each in saturations(source).values())


def _check_supported(source: Source, path: str | Path) -> None:
    """Raises ModelError with all unsupported operators at once."""
    dependent, wrong = {port.name for port in source.inputs}, []
    for node in source.nodes:
        constant = dependent.isdisjoint(node.inputs) and not node.has_subgraph
        if node.op in SHAPES or constant:
            continue
        dependent.update(node.outputs)
        if node.op not in HANDLERS:
            wrong.append(str(node))
    if wrong:
        raise ModelError(
            f"{path}: {len(wrong)} node{'s' if len(wrong) > 1 else ''} not supported: "
            f"{', '.join(wrong)}; accepted: {', '.join(OPERATORS)}; replace them, or cut "
            "the model before them with onnx.utils.extract_model"
        )
    for port in source.outputs:
        if port.name not in dependent:
            lone = len(source.inputs) == 1
            names = ", ".join(port.name for port in source.inputs)
            raise ModelError(
                f"{path}: the output {port.name} does not depend on "
                f"{'the input' if lone else 'any of the inputs'} {names}; export the network again"
            )


@dataclass(frozen=True, eq=False)
class Reading:
    """What the importer makes of each node, by the name of the node's first output.

    ``refused``: why a node has no hardware; ``blocked``: what without hardware a node depends on.
    Nodes in ``constant`` are computed at compile time; those in ``on_host`` are steps of the host
    on an output. ``ops`` are the operators before any pass, and ``graph`` is the network where
    nothing is refused. ``shapes``: of the tensors that nodes compute, with the batch that is
    assumed.
    """

    refused: Mapping[str, ModelError]
    blocked: Mapping[str, str]
    constant: Set[str]
    on_host: Set[str]
    ops: tuple[ir.Op, ...]
    graph: ir.Graph | None
    shapes: Mapping[str, tuple[int, ...]]


def read_nodes(source: Source, refused: Mapping[str, ModelError]) -> Reading:
    """What the importer makes of each node of ``source``, whatever it refuses.

    ``refused``: nodes that are refused before, by their first outputs. Raises ModelError for what
    only the whole shows to be wrong.
    """
    walk = _Walk(source, refused)
    graph = None
    if not walk.refused and not walk.blocked:
        graph = walk.graph()
        ir.verify(graph, after="frontend")
    return Reading(
        walk.refused,
        walk.blocked,
        walk.constant,
        walk.on_host,
        tuple(walk.build.ops.values()),
        graph,
        walk.shapes,
    )


class _Walk:
    """The graph that the nodes make, one after the other.

    ``refused``: nodes that are refused before, by their first outputs; the walk then goes on behind
    a node that it refuses, and passes over those that depend on it. None: it raises ModelError for
    the first one. ``located``: tensors whose ``positions`` are kept.
    """

    def __init__(
        self,
        source: Source,
        refused: Mapping[str, ModelError] | None = None,
        located: Container[str] = (),
    ) -> None:
        self.located, self.positions = located, dict[str, NDArray[np.int64]]()
        self.strict = refused is None
        self.refused = dict(refused or {})
        self.blocked: dict[str, str] = {}
        self.constant: set[str] = set()
        self.on_host: set[str] = set()
        self.shapes: dict[str, tuple[int, ...]] = {}
        #: tensors that have no hardware, and the node or input that they come from
        self._unknown = {
            port.name: f"the input {port.name} ({port.dtype})"
            for port in source.inputs
            if port.dtype not in INPUTS
        }
        self._fold = Folding()
        source = replace(
            source, inputs=tuple(p for p in source.inputs if p.name not in self._unknown)
        )
        self.source = source
        self._layouts = input_layouts(source, self._fold, self._unknown.keys())
        lone = bool(source.states) or all(port.batch == 1 for port in source.inputs)
        found = saturations(source)
        self.build = Builder(
            source.batch,
            found,
            lone,
            _leaving(source, found),
            _weighed(source),
            _weighed(source, "Add"),
        )
        self.starts = [
            self.build.input(
                port.name, shape, order, port.dims(source.batch), ir.Int.named(port.dtype)
            )
            for port, (order, shape) in zip(source.inputs, self._layouts, strict=True)
        ]
        self.known: dict[str, Operand] = {
            name: Constant.of(name, array) for name, array in source.constants.items()
        }
        self.known |= {p.name: start for p, start in zip(source.inputs, self.starts, strict=True)}
        self.known[""] = None
        labels = Labels(source)
        for start in self.starts:
            labels.hold(start)
        for node in source.nodes:
            if self._passed_over(node):
                continue
            try:
                self._read(node)
                labels.free(self.known, node)
            except ModelError as error:
                if self.strict:
                    raise
                self._refuse(node, error)

    def _passed_over(self, node: Node) -> bool:
        """Whether a node is refused before, or depends on one that is."""
        if node.key in self.refused:
            self._refuse(node, self.refused[node.key])
            return True
        names = (*node.inputs, *captured(node.proto))
        cause = next((self._unknown[name] for name in names if name in self._unknown), None)
        if cause is not None:
            if node.op in HANDLERS or node.op in SHAPES:
                self.blocked[node.key] = cause
            else:
                self.refused[node.key] = _no_hardware(node)
            self._unknown.update(dict.fromkeys(node.outputs, cause))
        return cause is not None

    def _refuse(self, node: Node, error: ModelError) -> None:
        self.refused[node.key] = error
        self._unknown.update(dict.fromkeys(node.outputs, str(node)))

    def _read(self, node: Node) -> None:
        operands = _operands(node, self.known)
        results = _results(self.build, node, operands, self._fold)
        self.known.update(zip(node.outputs, results, strict=False))
        for name, result in zip(node.outputs, results, strict=False):
            if result is not None:
                self.shapes[name] = elements(result).shape
            if name in self.located and isinstance(result, Tensor):
                self._locate(name, result)
        if all(isinstance(result, Constant) for result in results):
            self.constant.add(node.key)
        steps = max((len(x.tail) for x in operands if isinstance(x, Tensor)), default=0)
        if any(isinstance(result, Tensor) and len(result.tail) > steps for result in results):
            self.on_host.add(node.key)

    def _locate(self, name: str, x: Tensor) -> None:
        shape = self.build.shape(x)
        labels = x.order.reshape(-1)[: shape.size]
        if x.order.size == shape.size * self.source.batch and permutes(labels, shape):
            self.positions[name] = labels

    def graph(self) -> ir.Graph:
        """The whole, after a walk in which nothing was refused."""
        source, build = self.source, self.build
        lasts = [_last(build, port.name, self.known.get(port.name)) for port in source.outputs]
        ops, values, names = build.finish({last.handle for last in lasts})
        inputs = tuple(
            ir.InputPort(
                port.name,
                port.shape or (),
                port.dtype,
                names[start.handle],
                order,
                port.batch,
                port.batched,
            )
            for port, start, (order, _) in zip(
                source.inputs, self.starts, self._layouts, strict=True
            )
        )
        outputs = tuple(
            output_port(build, port, last, names[last.handle])
            for port, last in zip(source.outputs, lasts, strict=True)
        )
        _check_used(inputs, {name for op in ops for name in op.inputs}, outputs)
        graph = ir.Graph(source.name, inputs, outputs, ops, values).replace(ops)
        computed = {name for node in source.nodes for name in node.outputs}
        return keep(graph, source.states, {*values, *computed})


def _leaving(source: Source, saturations: Mapping[str, Saturation]) -> set[str]:
    """The tensors that only nodes read that the host may run, and so on to the outputs.

    Those that saturate what a QuantizeLinear has rounded are a part of it.
    """
    saturating = {name for one in saturations.values() for name in one.tensors}
    inside: set[str] = set()
    for node in reversed(source.nodes):
        handler = HANDLERS.get(node.op)
        on_host = handler is not None and (handler.on_host or node.outputs[0] in saturating)
        if not on_host or not inside.isdisjoint(node.outputs):
            inside.update(node.inputs)
    return {name for node in source.nodes for name in node.outputs} - inside


def _weighed(source: Source, *through: str) -> set[str]:
    """The tensors that only Softmax reads, as they are, in another arrangement, times a number
    above 0, or behind the operators ``through``.
    """
    constants = constants_of(source)
    others = {port.name for port in source.outputs}
    for node in reversed(source.nodes):
        if node.op == "Softmax":
            continue
        handler = HANDLERS.get(node.op)
        passed = handler is not None and (
            handler.moves or node.op in through or _larger(node, constants)
        )
        if not passed or not others.isdisjoint(node.outputs):
            others.update(node.inputs)
    return {name for node in source.nodes for name in node.outputs} - others


def _larger(node: Node, constants: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a node multiplies by, or divides by, one number above 0."""
    if node.op not in ("Mul", "Div"):
        return False
    numbers = [constants[name] for name in node.inputs[node.op == "Div" :] if name in constants]
    return len(numbers) == 1 and numbers[0].size == 1 and bool(numbers[0].min() > 0)


def _last(build: Builder, name: str, x: Operand) -> Tensor:
    """The tensor that leaves as the output of that name; one that only has elements of the input
    passes through hardware of its own.
    """
    if not isinstance(x, Tensor):
        raise ModelError(
            f"{name}: is a constant; accepted: outputs that depend on the network's input; remove "
            "this output"
        )
    return x if x.handle in build.ops and x.fill is None else build.passed(x, name)


def _check_used(
    inputs: Sequence[ir.InputPort], read: set[str], outputs: Sequence[ir.OutputPort]
) -> None:
    """Raises ModelError for an input whose values reach no output."""
    read = read | {port.value for port in outputs}
    for port in inputs:
        if port.value not in read:
            raise ModelError(
                f"{port.name}: the values of this input reach no output; accepted: inputs that an "
                "output depends on; remove it, or export the network again"
            )


def _operands(node: Node, known: dict[str, Operand]) -> list[Operand]:
    missing = [name for name in node.inputs if name not in known]
    if missing:
        raise ModelError(
            f"{node}: reads {', '.join(missing)}, which no earlier node computes; check the model "
            "with onnx.checker"
        )
    return [known[name] for name in node.inputs]


def _results(build: Builder, node: Node, operands: list[Operand], fold: "Folding") -> list[Operand]:
    """What a node's outputs are: constants where it can be computed now."""
    if node.op in SHAPES or not any(isinstance(operand, Tensor) for operand in operands):
        return [*fold(node, operands)]
    if node.op not in HANDLERS:
        raise _no_hardware(node)
    tail = [x for x in operands if isinstance(x, Tensor) and x.tail]
    if tail and not HANDLERS[node.op].on_host and not build.saturates(node):
        raise ModelError(
            f"{node}: follows Softmax, ArgMax or the like; accepted: those only as the network's "
            "last operators; cut the model before them with onnx.utils.extract_model"
        )
    try:
        if not (HANDLERS[node.op].moves or HANDLERS[node.op].masks):
            operands = [settled(build, node, x) for x in operands]
        result = HANDLERS[node.op].build(build, node, *operands)
        return [result] if isinstance(result, Tensor) else [*result]
    except ERRORS as error:
        raise _misfit(node, operands, error) from error


def _no_hardware(node: Node) -> ModelError:
    return ModelError(
        f"{node}: has no hardware; accepted: the operators of docs/operators.md; replace it, or "
        "cut the model before it with onnx.utils.extract_model"
    )


def _misfit(node: Node, operands: list[Operand], error: Exception) -> ModelError:
    """The error for operands and attributes that contradict each other in some other way."""
    if "positional argument" in str(error):
        return ModelError(
            f"{node}: has {len(operands)} inputs, which the operator does not allow; check the "
            "model with onnx.checker"
        )
    arrays = [elements(operand) for operand in operands if operand is not None]
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"{node}: does not fit its operands of shape "
        f"{', '.join(str(list(array.shape)) for array in arrays)} ({reason}); accepted: operands "
        "and attributes that the operator allows; check the model with onnx.checker"
    )


class Labels:
    """Frees the label arrays that no later node reads, and bounds those that remain.

    Raises ModelError when more than ``limits.LABELS`` labels are held at a time, or more than
    ``limits.WORK`` are computed over the whole model.
    """

    def __init__(self, source: Source) -> None:
        self.last = {name: node for node in source.nodes for name in node.inputs}
        self.kept = {*(port.name for port in source.outputs), ""}
        self.readers: Counter[int] = Counter()  # names that hold each array, by its identity
        self.work = self.held = 0

    def free(self, known: dict[str, Operand], node: Node) -> None:
        """Count what ``node`` computed, and drop what was read for the last time."""
        for name in node.outputs:
            self.hold(known.get(name))
        if self.held > limits.LABELS or self.work > limits.WORK:
            raise ModelError(
                f"{node}: the feature maps up to this node have {self.work} elements, of which "
                f"{self.held} are held at a time; accepted: at most {limits.WORK} and "
                f"{limits.LABELS}; use a smaller input"
            )
        for name in {*node.inputs, *node.outputs} - self.kept:
            if self.last.get(name, node) is node and isinstance(known.get(name), Tensor):
                self._drop(known.pop(name))

    def hold(self, x: Operand) -> None:
        """Count a tensor; several may share one array of labels."""
        if isinstance(x, Tensor):
            self.work += x.order.size
            self.held += 0 if self.readers[id(x.order)] else x.order.size
            self.readers[id(x.order)] += 1

    def _drop(self, x: Operand) -> None:
        if isinstance(x, Tensor):
            self.readers[id(x.order)] -= 1
            self.held -= 0 if self.readers[id(x.order)] else x.order.size


class Folding:
    """Computes nodes of constants, each once, and bounds the elements that this takes in all."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, ...], list[Constant]] = {}
        self.elements = 0

    def __call__(self, node: Node, operands: list[Operand]) -> list[Constant]:
        """The outputs of a node of constants, or the shape of an activation."""
        if node.outputs not in self.done:
            try:
                results = self.done[node.outputs] = _fold(node, operands)
            except ERRORS as error:
                raise _misfit(node, operands, error) from error
            read = [operand for operand in operands if isinstance(operand, Constant)]
            self.elements += sum(constant.array.size for constant in (*read, *results))
            if self.elements > limits.FOLDED_ELEMENTS:
                raise ModelError(
                    f"{node}: computes constants from more than {limits.FOLDED_ELEMENTS} elements, "
                    "with the nodes before it; accepted: fewer; run onnxsim, which stores the "
                    "results instead"
                )
        return self.done[node.outputs]


def _fold(node: Node, operands: list[Operand]) -> list[Constant]:
    """A node of constants, or the shape of an activation."""
    first = operands[0] if operands else None
    if isinstance(first, Tensor):
        return [shapes.shape_of(node, first)]
    if node.op == "DequantizeLinear" and isinstance(first, Constant):
        return [qdq.fold_dequantize(node, first, *operands[1:])]
    if node.op == "QuantizeLinear" and isinstance(first, Constant):
        return [qdq.fold_quantize(node, first, *operands[1:])]
    return shapes.fold(node, operands)
