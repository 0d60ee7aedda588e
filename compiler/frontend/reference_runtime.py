"""ONNX Runtime as the reference runtime: it runs a file whole, or cut down to one layer."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .. import ir
from ..errors import DataError
from ..ir.feeds import count, take
from .importer import stream_positions
from .source import unique
from .states import first_frame, states_of

__all__ = ["Difference", "ReferenceRuntime", "Runtime", "byte_ports", "distinct_names"]

Array = NDArray[Any]

# ONNX Runtime refuses files newer than it knows; nothing that we read needs a newer one.
IR_VERSION = 13
# Types of inputs that are read as real numbers: samples may be of another one of them.
REALS: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}
# Integers that NumPy, and so ONNX Runtime's Python interface, does not have.
NARROW: dict[int, int] = {
    TensorProto.INT4: TensorProto.INT8,
    TensorProto.UINT4: TensorProto.UINT8,
    TensorProto.INT2: TensorProto.INT8,
    TensorProto.UINT2: TensorProto.UINT8,
}


class Runtime:
    """ONNX Runtime on a model: ``path``, or its content.

    ``threads``: how many it may use, 0 for one a core. Without ``optimize`` it rewrites nothing:
    every node is computed as the standard says, in float32. The states that the model keeps are no
    inputs and no outputs; frames of a call of :meth:`run` are one sequence.
    """

    def __init__(
        self, model: Path | onnx.ModelProto, threads: int = 0, optimize: bool = True
    ) -> None:
        proto = onnx.load(model) if isinstance(model, Path) else model
        proto = byte_ports(distinct_names(proto))
        proto.ir_version = min(proto.ir_version, IR_VERSION)
        self._name = model if isinstance(model, Path) else proto.graph.name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if not optimize:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # which prints, and fails as before
            )
        except Exception as error:  # its exceptions have no common base but this
            raise DataError(
                f"{self._name}: ONNX Runtime {onnxruntime.__version__} can not load it "
                f"({error}); check the model with onnx.checker"
            ) from error
        self.states = states_of(proto)
        kept, left = ({s.input for s in self.states}, {s.output for s in self.states})
        self.inputs = [p.name for p in self._session.get_inputs() if p.name not in kept]
        self._reals = {
            port.name: REALS[port.type] for port in self._session.get_inputs() if port.type in REALS
        }
        self._outputs = [p.name for p in self._session.get_outputs() if p.name not in left]
        self._initial = {
            state.input: first_frame(state, port.shape, port.type)
            for state in self.states
            for port in self._session.get_inputs()
            if port.name == state.input
        }
        self._ranks = {port.name: len(port.shape) for port in self._session.get_inputs()}
        declared = {port.shape[0] for port in self._session.get_inputs() if port.shape}
        fixed = [size for size in declared if isinstance(size, int)]
        #: frames a call takes; None when it takes any number
        self.batch: int | None = fixed[0] if fixed else None
        if self.states:
            self.batch = 1
        self._probed = self.batch is not None

    def takes_batches(self, x: Array | ir.Feeds) -> bool:
        """Whether one call may hold more than one of the frames of ``x``; tried once."""
        if self._without_batch(self._feeds(x)):
            self.batch = 1
            return False
        if not self._probed:
            self._probed = True
            try:
                whole = self.call(take(self._feeds(x), np.zeros(2, np.int64)))
                if any(not y.ndim or y.shape[0] != 2 for y in whole.values()):
                    self.batch = 1
            except Exception:  # a Reshape deep inside may want a batch of one
                self.batch = 1
        return self.batch != 1

    def run(self, x: Array | ir.Feeds) -> dict[str, Array]:
        """Every output, [frames, ...], by name, for each input's [frames, ...], by name; that of a
        lone input may be given by itself.

        An input whose arrays have an axis more than the file says has no batch: a call takes one
        frame, and an output has one, with or without an axis for it.
        """
        feeds = self._feeds(x)
        frames = count(feeds)
        alone = self._without_batch(feeds)
        size = 1 if alone else self.batch or frames
        parts: list[dict[str, Array]] = []
        for start in range(0, frames, size):
            which = np.minimum(np.arange(start, start + size), frames - 1)
            parts.append(self._call(take(feeds, which), parts[-1] if parts else None))
        if alone:
            parts = [
                {n: y if y.shape[:1] == (1,) else y[None] for n, y in p.items()} for p in parts
            ]
        return {
            name: np.concatenate([part[name] for part in parts])[:frames] for name in self._outputs
        }

    def _feeds(self, x: Array | ir.Feeds) -> ir.Feeds:
        if not isinstance(x, Mapping):
            x = dict.fromkeys(self.inputs, x) if len(self.inputs) == 1 else {}
        if missing := [name for name in self.inputs if name not in x]:
            raise DataError(
                f"{self._name}: takes the input {missing[0]}, but the samples are of "
                f"{', '.join(x) or 'no input'}; run `gatewright compile` again if the file was "
                "replaced"
            )
        return x

    def _without_batch(self, feeds: ir.Feeds) -> set[str]:
        """The inputs of a file in which they have no axis of frames."""
        return {name for name in self.inputs if np.ndim(feeds[name]) == self._ranks[name] + 1}

    def call(self, feeds: ir.Feeds) -> dict[str, Array]:
        """Every output by name, of one call with all frames of ``feeds``."""
        found = self._call(feeds, None)
        return {name: found[name] for name in self._outputs}

    def _call(self, feeds: ir.Feeds, before: dict[str, Array] | None) -> dict[str, Array]:
        """The outputs of one call, states included, after one with the outputs ``before``."""
        apart = self._without_batch(feeds)
        given = {name: feeds[name][0] if name in apart else feeds[name] for name in self.inputs}
        for state in self.states:
            given[state.input] = before[state.output] if before else self._initial[state.input]
        given |= {name: given[name].astype(dtype) for name, dtype in self._reals.items()}
        names = [port.name for port in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, given), strict=True))


def distinct_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name of its own for each node of a graph that has one: ONNX Runtime refuses
    nodes of one name, which the standard allows.

    Before: ``n: Conv -> a, n: Relu -> b``. After: ``a: Conv -> a, b: Relu -> b``.
    """
    if not any(_shared(nodes) for nodes in _node_lists(model)):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for nodes in _node_lists(result):
        shared, taken = _shared(nodes), {node.name for node in nodes}
        for node in nodes:
            if node.name in shared:
                node.name = unique(next(filter(None, node.output), node.name), taken)
    return result


def _shared(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """The names that several nodes have."""
    times = Counter(node.name for node in nodes)
    return {name for name, number in times.items() if name and number > 1}


def _node_lists(model: onnx.ModelProto) -> Iterator[Sequence[onnx.NodeProto]]:
    """The nodes of each graph and function of a model, those inside nodes included."""
    pending = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        nodes = pending.pop()
        yield nodes
        attributes = (each for node in nodes for each in node.attribute)
        pending += [graph.node for each in attributes for graph in (each.g, *each.graphs)]


def byte_ports(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs and outputs of 4 or 2 bits in a byte each, cast inside.

    Before: ``x: int4 -> ... -> y: int4``. After: ``x: int8 -> Cast -> ... -> Cast -> y: int8``.
    """
    ports = (*model.graph.input, *model.graph.output)
    kinds = {info.name: info.type.tensor_type.elem_type for info in ports}
    if TensorProto.UNDEFINED in kinds.values():
        kinds = _element_types(model)
    narrow = [info.name for info in ports if kinds[info.name] in NARROW]
    if not narrow:
        return model
    inside = {name: f"{name}/narrow" for name in narrow}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = inside.get(name, name)
    first: list[onnx.NodeProto] = []
    last: list[onnx.NodeProto] = []
    for infos, nodes, outwards in ((graph.input, first, False), (graph.output, last, True)):
        for info in (info for info in infos if info.name in inside):
            kind = kinds[info.name]
            info.type.tensor_type.elem_type = NARROW[kind]
            ends = (info.name, inside[info.name])
            source, target = ends[::-1] if outwards else ends
            to = NARROW[kind] if outwards else kind
            nodes.append(helper.make_node("Cast", [source], [target], to=to))
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX's number of the type of each tensor, as far as it can be inferred."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:
        graph = model.graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {info.name: info.type.tensor_type.elem_type for info in infos}


@dataclass(frozen=True)
class Difference:
    """How a layer differs from what was expected: ``largest`` in steps of its quantization.
    ``near_ties``: those of the ``differing`` values whose exact result is close to a rounding tie.
    """

    values: int = 0
    differing: int = 0
    largest: int = 0
    near_ties: int = 0

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            self.values + other.values,
            self.differing + other.differing,
            max(self.largest, other.largest),
            self.near_ties + other.near_ties,
        )

    @property
    def fraction(self) -> float:
        return self.differing / self.values if self.values else 0.0


@dataclass(frozen=True, eq=False)
class _Tensor:
    """Where a value is in the file. ``index[i]``: stream position of the tensor's i-th element.

    ``element`` is ONNX's number of its type, ``dtype`` the NumPy type that holds it.
    """

    name: str
    element: int
    index: NDArray[np.int64]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quant: ir.Quant

    def of(self, value: Array) -> Array:
        """The tensor for a value [frames, height, width, channels]."""
        raw = value.reshape(len(value), -1)[:, self.index].reshape(len(value), *self.shape)
        real = self.dtype.kind == "f"
        return (self.quant.dequantize(raw) if real else raw).astype(self.dtype)

    def steps(self, tensor: Array) -> NDArray[np.int64]:
        """The integers in stream order, [frames, elements], of a tensor."""
        raw = self.quant.quantize(tensor) if self.dtype.kind == "f" else tensor
        result = np.empty((len(raw), self.index.size), np.int64)
        result[:, self.index] = raw.reshape(len(raw), -1)
        return result


class ReferenceRuntime:
    """The quantized ``graph`` that was loaded from ``path``, as ONNX Runtime computes it.

    No optimization: they would fuse integer kernels that round in other places than the file does.
    """

    def __init__(self, path: Path, graph: ir.Graph) -> None:
        self.graph, self._path = graph, path
        self._model = onnx.load(path)
        self._whole = Runtime(path, optimize=False)
        self._producers = {name: node for node in self._model.graph.node for name in node.output}
        self._layers: dict[str, tuple[Runtime, list[str]]] | None = None
        self._tensors: dict[str, _Tensor] = {}
        self._elements: dict[str, int] = {}

    def outputs(self, x: Array | ir.Feeds) -> dict[str, Array]:
        """The model's outputs by name for model inputs [frames, ...] by name."""
        self._whole.takes_batches(x)
        return self._whole.run(x)

    @property
    def missing(self) -> list[str]:
        """Names of operators that are no separate part of the file."""
        found = self._layers or {}
        apart = (op for op in self.graph if not (op.view or op.keeping))
        return [op.name for op in apart if op.output not in found]

    def layers(
        self,
        x: Array | ir.Feeds,
        values: Mapping[str, NDArray[np.int64]],
        near_ties: Callable[[str, NDArray[np.int64]], NDArray[np.bool_]] | None = None,
    ) -> dict[str, Difference]:
        """Each layer alone, on the expected values of its inputs, against the expected output.

        ``values``: all values [frames, height, width, channels] that model inputs ``x`` should
        give. ``near_ties`` tells for a layer's output and the indices of frames which values of
        those frames are close to a rounding tie; without it none are. The key is the name of the
        layer's output.
        """
        if self._layers is None:
            self._tensors = self._find_tensors(x, values)
            self._layers = self._cut()
        found = {}
        for output, (runtime, inputs) in self._layers.items():
            tensor = self._tensors[output]
            feeds = {self._tensors[n].name: self._tensors[n].of(values[n]) for n in inputs}
            (seen,) = runtime.run(feeds).values()
            wanted = values[output].reshape(len(values[output]), -1)
            apart = np.abs(tensor.steps(seen) - wanted)
            frames = np.flatnonzero(apart.any(axis=1))
            close = np.zeros((len(frames), apart.shape[1]), np.bool_)
            if near_ties and frames.size:
                close = near_ties(output, frames).reshape(len(frames), -1)
            found[output] = Difference(
                apart.size,
                int((apart > 0).sum()),
                int(apart.max(initial=0)),
                int(((apart[frames] == 1) & close).sum()),
            )
        return found

    # -- where the values are --------------------------------------------------------------------

    def _find_tensors(self, x: Array | ir.Feeds, values: Mapping[str, Array]) -> dict[str, _Tensor]:
        """The tensor of each value that the file names; its layout is the one that fits best."""
        given = ir.feeds(self.graph, x)
        self._elements = _element_types(self._model)
        names = {name: name for name in self.graph.values if name in self._producers}
        names |= {p.value: p.name for p in self.graph.model_inputs if p.integer is not None}
        probe = onnx.ModelProto()
        probe.CopyFrom(self._model)
        known = {info.name for info in probe.graph.output}
        probe.graph.output.extend(
            onnx.ValueInfoProto(name=name)
            for name in names.values()
            if name not in known and name not in given
        )
        runtime = Runtime(probe, optimize=False)
        runtime.batch = 1 if not self._whole.takes_batches(given) else self._whole.batch
        first = take(given, slice(2))
        seen = {**runtime.run(first), **first}
        positions = stream_positions(self._path, names.values())
        found = {}
        for value, name in names.items():
            own = [positions[name]] if name in positions else []
            tensor = self._fitting(value, name, seen[name], values[value][:2], own)
            if tensor is not None:
                found[value] = tensor
        return found

    def _fitting(
        self,
        value: str,
        name: str,
        seen: Array,
        wanted: Array,
        positions: Sequence[NDArray[np.int64]],
    ) -> _Tensor | None:
        """The tensor ``name`` for a value: an element is where ``positions`` say, or its axes are
        those of the stream in some order, as passes and the writer leave them.
        """
        shape, quant = self.graph.shape(value), self.graph.quant(value)
        if seen.ndim == 0 or len(seen) != len(wanted) or seen[0].size != shape.size:
            return None
        places = np.arange(shape.size).reshape(shape.array)
        indices = [
            *(each for each in positions if each.size == shape.size),
            *(places.transpose(axes).reshape(-1) for axes in ((2, 0, 1), *permutations(range(3)))),
        ]
        for port in self.graph.model_inputs:
            if value != port.value:
                continue
            own = np.empty(shape.size, np.int64)
            own[port.order] = np.arange(shape.size)
            indices.insert(0, own)
        element = self._elements.get(name) or helper.np_dtype_to_tensor_dtype(seen.dtype)
        tensors = [
            _Tensor(name, element, index, seen.shape[1:], seen.dtype, quant) for index in indices
        ]
        flat = wanted.reshape(len(wanted), -1)
        return min(tensors, key=lambda tensor: int(np.abs(tensor.steps(seen) - flat).sum()))

    # -- one layer -------------------------------------------------------------------------------

    def _cut(self) -> dict[str, tuple[Runtime, list[str]]]:
        """For each operator that can be cut out of the file: a runtime of it, and its inputs."""
        batch = self._whole.batch
        found = {}
        for op in self.graph:
            inputs = list(dict.fromkeys(self._root(name) for name in op.inputs))
            there = all(name in self._tensors for name in (*inputs, op.output))
            if op.view or not there:
                continue
            model = self._layer(op.output, inputs)
            if model is not None:
                runtime = Runtime(model, optimize=False)
                runtime.batch = batch
                found[op.output] = runtime, inputs
        return found

    def _root(self, value: str) -> str:
        """The value itself, or the one that it reshapes."""
        op = self.graph.producer(value)
        while op is not None and op.view:
            value = op.inputs[0]
            op = self.graph.producer(value)
        return value

    def _layer(self, output: str, inputs: Sequence[str]) -> onnx.ModelProto | None:
        """The part of the file between values; None when it hangs on anything else."""
        whole = self._model.graph
        constants = {tensor.name: tensor for tensor in whole.initializer}
        stops = {self._tensors[name].name for name in inputs}
        nodes: set[int] = set()
        pending, used = [self._tensors[output].name], set()
        while pending:
            name = pending.pop()
            if not name or name in used or name in stops:
                continue
            used.add(name)
            if name in self._producers:
                node = self._producers[name]
                nodes.add(id(node))
                pending += node.input
            elif name not in constants:
                return None
        *ports, result = (
            helper.make_tensor_value_info(
                self._tensors[name].name, self._tensors[name].element, None
            )
            for name in (*inputs, output)
        )
        graph = helper.make_graph(
            [node for node in whole.node if id(node) in nodes],
            output,
            ports,
            [result],
            [tensor for name, tensor in constants.items() if name in used],
        )
        return helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=list(self._model.opset_import)
        )
