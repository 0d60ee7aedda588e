"""Read an ONNX file into a checked :class:`Source`."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from .. import limits
from ..errors import ModelError
from . import schema
from .states import State, check_states, states_of

__all__ = [
    "CODES",
    "CONSTANT_KINDS",
    "FLOATS",
    "INPUTS",
    "NUMBERS",
    "QUANTIZED",
    "WIDE",
    "Node",
    "ModelPort",
    "Source",
    "array",
    "captured",
    "constant_value",
    "constants_of",
    "copy_model",
    "node_of",
    "parsed",
    "read",
    "unique",
]

OLDEST_OPSET = 7
KINDS: dict[type, tuple[type, ...]] = {float: (float, int), tuple: (list, tuple)}
#: integer types that QuantizeLinear writes
QUANTIZED = ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2")
#: types of real numbers; all are computed as float32
FLOATS = ("float32", "float16", "float64", "bfloat16")
#: types of integers and truth values that are read as real numbers
WIDE = ("int32", "int64", "uint32", "uint64", "bool")
#: types that the network's input may have
INPUTS = (*FLOATS, *QUANTIZED, *WIDE)
#: types of the numbers of a Constant node that are no tensor, by their attribute
CONSTANT_KINDS = {
    **dict.fromkeys(("value_float", "value_floats"), "float32"),
    **dict.fromkeys(("value_int", "value_ints"), "int64"),
}
#: types by their number in ONNX
DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.DOUBLE: "float64",
    **{
        onnx.TensorProto.DataType.Value(name.upper()): name
        for name in ("bfloat16", *QUANTIZED, *WIDE)
    },
}
#: their numbers in ONNX by type
CODES: dict[str, int] = {name: number for number, name in DTYPES.items()}
# Types of stored numbers.
NUMBERS = frozenset(
    getattr(onnx.TensorProto, name)
    for name in (
        *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL"),
        *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)),
    )
)


@dataclass(frozen=True, eq=False)
class Node:
    """One ONNX node; one without a name of its own is called after its first output. Absent inputs
    are ``""``.

    ``written`` is the operator in the file, where a dialect's was rewritten to ``op``; ``origin``
    is then the first output of the file's node.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto
    opset: int
    written: str = ""
    origin: str = ""

    @property
    def key(self) -> str:
        """The first output that has a name, which no other node computes."""
        return next(filter(None, self.outputs), "")

    def get(self, name: str, default: Any) -> Any:
        """An attribute, strings decoded; ModelError when of another kind than ``default``."""
        value = self.attributes.get(name, default)
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        if default is not None and not isinstance(value, KINDS.get(type(default), type(default))):
            raise ModelError(
                f"{self}: attribute {name} is {value!r}; accepted: a value like {default!r}; "
                "check the model with onnx.checker"
            )
        return value

    def step(self, word: str, op: str = "", **attributes: Any) -> "Node":
        """One of the nodes that this one stands for, named after it and its own ``word``."""
        name, output = f"{self.name}/{word}", f"{self.key}/{word}"
        return replace(self, name=name, op=op or self.op, outputs=(output,), attributes=attributes)

    @property
    def has_subgraph(self) -> bool:
        """Whether it runs a graph of its own, as If, Loop and Scan do."""
        kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        return any(attribute.type in kinds for attribute in self.proto.attribute)

    def __str__(self) -> str:
        return f"{self.name} ({self.written or self.op})"


def unique(name: str, taken: set[str]) -> str:
    """``name``, or one that begins with it, which is not ``taken`` yet, and is from now on."""
    base, number = name, 2
    while name in taken:
        name, number = f"{base}/{number}", number + 1
    taken.add(name)
    return name


@dataclass(frozen=True)
class ModelPort:
    """An input or output of the model; ``shape`` is without batch, None when unknown.

    ``batched``: whether the batch is the first axis. A state of ``[layers, 1, size]`` and a
    sequence of ``[steps, 1, size]`` have none: the ``shape`` is the whole, for a batch of one.
    """

    name: str
    dtype: str
    batch: int | str
    shape: tuple[int, ...] | None
    batched: bool = True

    def dims(self, batch: int) -> tuple[int, ...]:
        """All axes, with ``batch`` frames."""
        return (*[batch] * self.batched, *(self.shape or ()))


@dataclass(frozen=True, eq=False)
class Source:
    """An ONNX model, ready to walk through: only the nodes that the outputs need, in order."""

    name: str
    inputs: tuple[ModelPort, ...]
    outputs: tuple[ModelPort, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    states: tuple[State, ...] = ()

    @property
    def batch(self) -> int:
        """Frames that the importer labels: the model's batch, one when it is symbolic."""
        return max((port.batch for port in self.inputs if isinstance(port.batch, int)), default=1)

    def readings(self) -> Iterator["Source"]:
        """The model in each way that its inputs can be read, the first one that has hardware
        counts: with the batch as the first axis; then, for inputs [steps, 1, ...], with steps
        first and a batch of one second, as in PyTorch's recurrent layers by default.
        """
        yield self
        found = [_stepped(port) for port in self.inputs]
        if not all(port.batched for port in found) and all(port.batch == 1 for port in found):
            yield replace(self, inputs=tuple(found))


def parsed(path: str | Path) -> onnx.ModelProto:
    """The content of file ``path``, with its weights and without local functions; each node is
    behind those whose results it reads, which some tools do not keep to.
    """
    path = Path(path)
    model = _inline(_parse(path), path)
    _without_maps(model)
    _sort(model.graph)
    return model


def read(
    path: str | Path, model: onnx.ModelProto | None = None, *, foreign: bool = False
) -> Source:
    """The model in file ``path``, or ``model``, its content. ``foreign``: its inputs may be of
    types that no hardware takes. Raises ModelError when it is none, or can not be walked.
    """
    path = Path(path)
    model = parsed(path) if model is None else model
    opset = _opset(model, path)
    graph = model.graph
    _check_names(graph, path)
    if graph.sparse_initializer:
        raise ModelError(f"{path}: sparse initializers are not supported; export dense weights")
    stored = {init.name for init in graph.initializer}
    inputs = [_input(info, foreign) for info in graph.input if info.name not in stored]
    outputs = [_output(info) for info in graph.output]
    states = states_of(model)
    check_states(states, [port.name for port in inputs], [port.name for port in outputs])
    inputs = _without_batch(inputs, states)
    _check_ports(inputs, outputs, path)
    nodes = _needed(graph, opset)
    read_names = {name for node in nodes for name in (*node.inputs, *captured(node.proto))}
    return Source(
        graph.name or path.stem,
        tuple(inputs),
        tuple(outputs),
        nodes,
        {i.name: array(i, str(path)) for i in graph.initializer if i.name in read_names},
        states,
    )


def _stepped(port: ModelPort) -> ModelPort:
    """A port [n, 1, ...] with n > 1 as one without a batch; others as they are."""
    fixed = isinstance(port.batch, int) and port.batch != 1
    if not fixed or port.shape is None or len(port.shape) < 2 or port.shape[0] != 1:
        return port
    return replace(port, batch=1, shape=(int(port.batch), *port.shape), batched=False)


def _without_batch(inputs: Sequence[ModelPort], states: Sequence[State]) -> list[ModelPort]:
    """The inputs; of a state whose first axis is not of size one, that axis is not the batch, and
    neither is that of [layers, 1, size] where another input has a batch of one.

    Frames of a network that keeps states come one after the other, so that its batch is one. Raises
    ModelError where that of another input is not.
    """
    kept = {state.input for state in states}
    found = []
    for port in inputs:
        fixed = isinstance(port.batch, int) and port.batch != 1
        if fixed and port.name in kept:
            shape = (int(port.batch), *(port.shape or ()))
            port = replace(port, batch=1, shape=shape, batched=False)
        elif fixed and kept:
            raise ModelError(
                f"{port.name}: has a batch of {port.batch}, and the model keeps the state "
                f"{states[0]}; accepted: a batch of one on the first axis of inputs that are no "
                "states, for the frames of a network that keeps states come one after the other; "
                "export the network with that"
            )
        found.append(port)
    if not kept and any(port.batch == 1 for port in found):
        found = [_stepped(port) for port in found]
    return found


def constants_of(source: Source) -> dict[str, NDArray[Any]]:
    """The constants that are stored: initializers, and those of Constant nodes."""
    found = dict(source.constants)
    for node in source.nodes:
        value = constant_value(node) if node.op == "Constant" else None
        if value is not None:
            found[node.outputs[0]] = value
    return found


def constant_value(node: Node) -> NDArray[Any] | None:
    """What a Constant node gives; None where that is not one array of numbers."""
    name, value = next(iter(node.attributes.items()), ("", None))
    if isinstance(value, onnx.TensorProto):
        return array(value, str(node))
    if name not in CONSTANT_KINDS or len(node.attributes) != 1:
        return None
    return np.array(value, CONSTANT_KINDS[name])


def copy_model(path: str | Path, target: Path) -> None:
    """Copy a model to the file ``target``, which then holds its external weights too."""
    path = Path(path)
    model = _parse(path, external=False)
    if _without_maps(model) or any(
        tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)
    ):
        _load_external(model, path)
        target.write_bytes(model.SerializeToString())
    else:
        shutil.copyfile(path, target)


def _without_maps(model: onnx.ModelProto) -> bool:
    """Let each output that ZipMap gives, a map of a number for each class for each sample, be the
    tensor that ZipMap takes, a column a class; whether there was one.
    """
    outputs = {info.name: info for info in model.graph.output}
    found = False
    for node in model.graph.node:
        mapped = outputs.get(next(iter(node.output), ""))
        if (node.domain, node.op_type) != ("ai.onnx.ml", "ZipMap") or mapped is None:
            continue
        found = True
        classes = max((len(each.ints) + len(each.strings) for each in node.attribute), default=0)
        info = helper.make_tensor_value_info(
            node.output[0], onnx.TensorProto.FLOAT, [None, classes or None]
        )
        mapped.CopyFrom(info)
        node.domain, node.op_type = "", "Identity"
        del node.attribute[:]
    return found


def _parse(path: Path, external: bool = True) -> onnx.ModelProto:
    """The content of a file, with its external weights where they are asked for."""
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; give the .onnx file inside it")
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    if not path.is_file():
        raise ModelError(f"{path}: is not a regular file; give an .onnx file")
    _check_size(path, path.stat().st_size)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: can not be read ({error.strerror})") from None
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's DecodeError, whose package has no types
        kind = "is cut short or damaged" if data[:1] == b"\x08" else "is not an ONNX model"
        raise ModelError(
            f"{path}: {kind} ({len(data)} bytes); export the network again, for example "
            "with torch.onnx.export or tf2onnx"
        ) from None
    if not model.graph.node:
        raise ModelError(f"{path}: is not an ONNX model, or one without nodes ({len(data)} bytes)")
    if external:
        _load_external(model, path)
    return model


def _check_size(path: Path, size: int) -> None:
    if size > limits.MODEL_BYTES:
        raise ModelError(
            f"{path}: the model has {size} bytes with its weights; accepted: at most "
            f"{limits.MODEL_BYTES}, which is more than any board holds; give a smaller network"
        )


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    """Read external weights into ``model``: as many bytes as each tensor's shape and type need."""
    tensors = [t for t in _tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in tensors:
        check_dims(tensor.dims, f"{path}: initializer {tensor.name}")
    _check_size(path, sum(_stored_bytes(tensor) for tensor in tensors) + model.ByteSize())
    for tensor in tensors:
        kept = [entry for entry in tensor.external_data if entry.key != "length"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
        tensor.external_data.add(key="length", value=str(_stored_bytes(tensor)))
        try:
            load_external_data_for_tensor(tensor, str(path.parent))
        # The C++ reader raises RuntimeError, and ValidationError, for paths that it refuses.
        except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
            raise ModelError(
                f"{path}: its external weights can not be read ({error}); put them next to the "
                "model, or save it as one file"
            ) from None


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The tensors that a graph stores, without those of subgraphs, which are refused."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the raw data of ``tensor``; several 4-bit and 2-bit numbers share a byte."""
    names = onnx.TensorProto.DataType
    if tensor.data_type not in names.values():
        return 0
    name = names.Name(tensor.data_type)
    packed = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    bits: int = packed.get(name, 0)
    if not bits:
        bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    elements: int = prod(tensor.dims)
    return -(-elements * bits // 8)


def _inline(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Without model-local functions."""
    if not model.functions:
        _check_nodes(len(model.graph.node), path)
        return model
    from onnx import inliner

    _check_nodes(_inlined_nodes(model, path), path)
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:
        raise ModelError(
            f"{path}: its local functions can not be inlined ({error}); export the network "
            "without them"
        ) from None


def _sort(graph: onnx.GraphProto) -> None:
    """Bring the nodes into topological order; of those that may come next, the first of the file.

    Nodes in a cycle stay where they are, for the importer to refuse.
    """
    producers = {name: n for n, node in enumerate(graph.node) for name in node.output if name}
    before = [
        {producers[name] for name in (*node.input, *captured(node)) if name in producers}
        for node in graph.node
    ]
    if all(earlier < n for n, found in enumerate(before) for earlier in found):
        return
    sorter = TopologicalSorter(dict(enumerate(before)))
    try:
        sorter.prepare()
    except CycleError:
        return
    nodes, ready = [*graph.node], sorted(sorter.get_ready())
    del graph.node[:]
    while ready:
        n = heappop(ready)
        graph.node.append(nodes[n])
        sorter.done(n)
        for number in sorter.get_ready():
            heappush(ready, number)


def _check_nodes(count: int, path: Path) -> None:
    if count > limits.NODES:
        raise ModelError(
            f"{path}: the model has {count} nodes; accepted: at most {limits.NODES}; simplify it "
            "with onnxsim, or give a smaller network"
        )


def _inlined_nodes(model: onnx.ModelProto, path: Path) -> int:
    """Nodes after inlining, counted without inlining: functions that call functions double."""
    functions = {
        (f.domain, f.name): [(node.domain, node.op_type) for node in f.node]
        for f in model.functions
    }
    counts: dict[tuple[str, str], int] = {}
    try:
        for key in TopologicalSorter(functions).static_order():
            counts[key] = sum(counts.get(call, 1) for call in functions.get(key, [key]))
    except CycleError:
        raise ModelError(
            f"{path}: its local functions call each other in a circle; export the network "
            "without them"
        ) from None
    return sum(counts.get((node.domain, node.op_type), 1) for node in model.graph.node)


def _check_names(graph: onnx.GraphProto, path: Path) -> None:
    """Refuse names that are no text, and tensors that are defined twice."""
    for node in graph.node:
        words = (*node.input, *node.output, node.name, node.op_type, node.domain)
        if not all(isinstance(word, str) for word in words):
            raise ModelError(
                f"{path}: a name in a node {node.op_type!r} is no text, so the file is damaged; "
                "export the network again"
            )
    stored = [init.name for init in graph.initializer]
    ports = [info.name for info in (*graph.input, *graph.output)]
    if not all(isinstance(name, str) for name in (*stored, *ports, graph.name)):
        raise ModelError(
            f"{path}: the name of the graph, an input, an output or an initializer is no text, so "
            "the file is damaged; export the network again"
        )
    if "" in ports:
        raise ModelError(
            f"{path}: an input or an output of the model has no name; accepted: a name for each; "
            "export the network again"
        )
    if long := [name for name in ports if len(name) > limits.NAME]:
        raise ModelError(
            f"{path}: an input or an output of the model has a name of {len(long[0])} characters; "
            f"accepted: at most {limits.NAME}; rename it"
        )
    computed = [name for node in graph.node for name in node.output if name]
    defined = Counter({*stored, *(info.name for info in graph.input)}) + Counter(computed)
    defined += Counter(stored) - Counter(set(stored))
    if twice := sorted(name for name, count in defined.items() if count > 1):
        raise ModelError(
            f"{path}: defines {', '.join(twice[:5])} more than once; accepted: one node, input or "
            "initializer for each name; check the model with onnx.checker"
        )


def _opset(model: onnx.ModelProto, path: Path) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    opset = max(versions, default=1)
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"{path}: opset {opset} is too old; accepted: {OLDEST_OPSET} to {newest}; convert "
            "it with onnx.version_converter or export it again"
        )
    if opset > newest:
        raise ModelError(
            f"{path}: opset {opset} is newer than the installed onnx {onnx.__version__} "
            f"knows; accepted: {OLDEST_OPSET} to {newest}; upgrade onnx, or export with an "
            "older opset"
        )
    return opset


def check_dims(dims: Iterable[int], what: str) -> None:
    """Refuse a shape that is negative, of too many axes, or of more elements than a model holds."""
    dims = tuple(dims)
    if len(dims) > limits.RANK:
        raise ModelError(
            f"{what} has {len(dims)} axes; accepted: at most {limits.RANK}; export the network "
            "again"
        )
    if min(dims, default=0) < 0 or prod(max(n, 1) for n in dims) > limits.MODEL_BYTES:
        raise ModelError(
            f"{what} has the shape {list(dims)}; accepted: at most {limits.MODEL_BYTES} elements, "
            "no axis below 0; give a smaller network"
        )


def array(tensor: onnx.TensorProto, where: str) -> NDArray[Any]:
    """The numbers of a stored tensor, of 4 and 2 bits in the types of ``ml_dtypes``.

    ``where``: the file or node.
    """
    what = f"{where}: initializer {tensor.name}"
    check_dims(tensor.dims, what)
    if tensor.data_type not in NUMBERS:
        raise ModelError(
            f"{what} is {_type_name(tensor.data_type)}; accepted: float32, int8, uint8 and other "
            "integers; convert the model to float32"
        )
    try:
        found = numpy_helper.to_array(tensor)
        return found.astype(np.float32) if tensor.data_type == onnx.TensorProto.BFLOAT16 else found
    except Exception:
        raise ModelError(f"{what} is cut short or damaged; export the network again") from None


def _type_name(number: int) -> str:
    names = onnx.TensorProto.DataType
    return names.Name(number) if number in names.values() else f"of the unknown type {number}"


def _check_ports(inputs: Sequence[ModelPort], outputs: Sequence[ModelPort], path: Path) -> None:
    for kind, ports in (("input", inputs), ("output", outputs)):
        if not 1 <= len(ports) <= limits.PORTS:
            raise ModelError(
                f"{path}: the model has {len(ports)} {kind}s; accepted: 1 to {limits.PORTS}; cut "
                "the model with onnx.utils.extract_model"
            )
    names = [port.name for port in outputs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ModelError(
            f"{path}: lists the output {twice[0]} more than once; accepted: a name for each; "
            "export the network again"
        )
    if same := [port.name for port in inputs if port.name in names]:
        raise ModelError(
            f"{path}: {same[0]} is an input and an output; accepted: outputs that a node computes; "
            "remove that output"
        )
    _check_numbers(inputs)
    fixed = {port.name: port.batch for port in inputs if isinstance(port.batch, int)}
    if len(set(fixed.values())) > 1:
        found = ", ".join(f"{name} has {size}" for name, size in fixed.items())
        raise ModelError(
            f"{path}: the inputs have different batches ({found}); accepted: one batch for all, on "
            "their first axis; export the network with a symbolic batch; or, where one is a state "
            "that an output becomes, name both, as in --state h_in=h_out"
        )


def _check_numbers(inputs: Sequence[ModelPort]) -> None:
    """Refuse an input whose lone axis is not the batch; where it is, a sample is one number."""
    batches = {port.batch for port in inputs if port.shape}
    for port in inputs:
        batch = port.batch in batches | {1} if isinstance(port.batch, int) else bool(batches)
        if not port.shape and not batch:
            raise ModelError(
                f"{port.name}: the input has one axis and so no batch; accepted: batch first, "
                "then the sample; export the network with a batch axis"
            )


def _dtype(info: onnx.ValueInfoProto) -> str:
    element = info.type.tensor_type.elem_type
    if element not in DTYPES:
        found = _type_name(element) if element else "no tensor type"
        text = element == onnx.TensorProto.STRING
        change = "train with numbers as classes" if text else "convert the model to float32"
        raise ModelError(f"{info.name}: is {found}; accepted: {', '.join(INPUTS)}; {change}")
    return DTYPES[element]


def _input(info: onnx.ValueInfoProto, foreign: bool = False) -> ModelPort:
    dims = info.type.tensor_type.shape.dim
    if not dims:
        raise ModelError(
            f"{info.name}: the input has no shape; accepted: a fixed shape after the batch; "
            f"give it, as in --input-shape {info.name}=1,3,96,96"
        )
    sizes = [(i, dim.dim_value) for i, dim in enumerate(dims) if i and dim.HasField("dim_value")]
    if empty := [f"axis {i} has the size {size}" for i, size in sizes if size < 1]:
        raise ModelError(
            f"{info.name}: {', '.join(empty)}; accepted: sizes of at least 1; export the network "
            "with the size that its input has"
        )
    unknown = [
        f"axis {i} ({dim.dim_param or '?'})"
        for i, dim in enumerate(dims)
        if i and not dim.HasField("dim_value")
    ]
    if unknown:
        raise ModelError(
            f"{info.name}: {', '.join(unknown)} of the input can vary; accepted: only the "
            f"batch (axis 0) may; give the others, as in --input-shape {info.name}="
            + ",".join(["1", *(str(dim.dim_value or 96) for dim in dims[1:])])
        )
    dtype = _dtype(info)
    if dtype not in INPUTS and not foreign:
        raise ModelError(f"{info.name}: the input is {dtype}; accepted: {', '.join(INPUTS)}")
    batch, shape = _batch(dims[0]), tuple(dim.dim_value for dim in dims[1:])
    frames = batch if isinstance(batch, int) else 1
    if len(dims) > limits.RANK or frames * prod(shape) > limits.MAP_ELEMENTS:
        raise ModelError(
            f"{info.name}: the input has the shape {[batch, *shape]}; accepted: at most "
            f"{limits.RANK} axes and {limits.MAP_ELEMENTS} elements, over all frames of the batch; "
            "use a smaller input, or a batch of one"
        )
    return ModelPort(info.name, dtype, batch, shape)


def _batch(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return dim.dim_value if dim.dim_value > 0 else dim.dim_param or "N"


def _output(info: onnx.ValueInfoProto) -> ModelPort:
    dims = info.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value for dim in dims[1:])
    return ModelPort(
        info.name, _dtype(info), _batch(dims[0]) if dims else "N", shape if all(shape) else None
    )


def _needed(graph: onnx.GraphProto, opset: int) -> tuple[Node, ...]:
    """The nodes that the outputs depend on, in the file's order."""
    needed, keep = {info.name for info in graph.output}, []
    for proto in reversed(graph.node):
        if needed.isdisjoint(proto.output):
            continue
        needed.update(filter(None, (*proto.input, *captured(proto))))
        keep.append(node_of(proto, opset))
    times = Counter(node.name for node in keep)
    return tuple(
        replace(node, name=node.key) if times[node.name] > 1 else node for node in reversed(keep)
    )


def captured(proto: onnx.NodeProto) -> set[str]:
    """The names that the graphs inside a node read; some are of tensors around it."""
    graphs = [g for attribute in proto.attribute for g in (attribute.g, *attribute.graphs)]
    names: set[str] = set()
    while graphs:
        graph = graphs.pop()
        names.update(info.name for info in graph.output)
        for node in graph.node:
            names.update(node.input)
            graphs += [g for a in node.attribute for g in (a.g, *a.graphs)]
    return names


def node_of(proto: onnx.NodeProto, opset: int) -> Node:
    """A node of the file; ModelError when it breaks the operator's schema."""
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}::{proto.op_type}"
    name = proto.name or next(filter(None, proto.output))
    schema.check(proto, f"{name} ({op})", opset)
    try:
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    except ValueError as error:
        raise ModelError(
            f"{name} ({op}): has an attribute that can not be read ({error}); check the model with "
            "onnx.checker"
        ) from None
    return Node(name, op, tuple(proto.input), tuple(proto.output), attributes, proto, opset)
