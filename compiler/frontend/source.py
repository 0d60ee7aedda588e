"""Read an ONNX file into a checked :class:`Source` of one input and one output."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ..errors import ModelError

__all__ = ["Node", "Port", "Source", "read"]

OLDEST_OPSET = 7
KINDS: dict[type, tuple[type, ...]] = {float: (float, int), tuple: (list, tuple)}
DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
}


@dataclass(frozen=True, eq=False)
class Node:
    """One ONNX node; an unnamed one is called after its first output. Absent inputs are ``""``."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto
    opset: int

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

    def __str__(self) -> str:
        return f"{self.name} ({self.op})"


@dataclass(frozen=True)
class Port:
    """The model's input or output; ``shape`` is without batch, None when unknown."""

    name: str
    dtype: str
    batch: int | str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Source:
    """An ONNX model, ready to walk through: only the nodes that the output needs, in order."""

    name: str
    input: Port
    output: Port
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    opset: int

    @property
    def batch(self) -> int:
        """Frames that the importer labels: the model's batch, one when it is symbolic."""
        return self.input.batch if isinstance(self.input.batch, int) else 1


def read(path: str | Path) -> Source:
    """The model in file ``path``. Raises ModelError when it is none, or can not be walked."""
    path = Path(path)
    model = _inline(_parse(path), path)
    opset = _opset(model, path)
    graph = model.graph
    constants = {init.name: _array(init, path) for init in graph.initializer}
    if graph.sparse_initializer:
        raise ModelError(f"{path}: sparse initializers are not supported; export dense weights")
    inputs = [info for info in graph.input if info.name not in constants]
    return Source(
        graph.name or path.stem,
        _input(_only(inputs, "input", path), path),
        _output(_only(list(graph.output), "output", path)),
        _needed(graph, opset),
        constants,
        opset,
    )


def _parse(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; give the .onnx file inside it")
    if not path.exists():
        raise ModelError(f"{path}: no such file")
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
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path}: its external weights can not be read ({error}); put them beside the "
            "model, or save it as one file"
        ) from None
    return model


def _inline(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Without model-local functions."""
    if not model.functions:
        return model
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:
        raise ModelError(
            f"{path}: its local functions can not be inlined ({error}); export the network "
            "without them"
        ) from None


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


def _array(init: onnx.TensorProto, path: Path) -> NDArray[Any]:
    """The numbers of an initializer; 4-bit types in a byte each."""
    try:
        array = numpy_helper.to_array(init)
    except Exception:
        raise ModelError(
            f"{path}: initializer {init.name} is cut short or damaged; export the network again"
        ) from None
    if array.dtype.kind == "V" or array.dtype.name in ("int4", "uint4", "int2", "uint2"):
        array = array.astype(np.uint8 if array.dtype.name.startswith("u") else np.int8)
    return array


def _only(infos: list[onnx.ValueInfoProto], kind: str, path: Path) -> onnx.ValueInfoProto:
    if len(infos) != 1:
        names = ", ".join(info.name for info in infos) or "none"
        raise ModelError(
            f"{path}: the model has {len(infos)} {kind}s ({names}); accepted: exactly one "
            f"{kind}; cut the model with onnx.utils.extract_model"
        )
    return infos[0]


def _dtype(info: onnx.ValueInfoProto) -> str:
    element = info.type.tensor_type.elem_type
    if element not in DTYPES:
        found = onnx.TensorProto.DataType.Name(element) if element else "no tensor type"
        raise ModelError(
            f"{info.name}: is {found}; accepted: float32, int8, uint8; convert the model to float32"
        )
    return DTYPES[element]


def _input(info: onnx.ValueInfoProto, path: Path) -> Port:
    dims = info.type.tensor_type.shape.dim
    if not dims:
        raise ModelError(
            f"{info.name}: the input has no shape; accepted: a fixed shape after the batch; "
            "fix it with onnxruntime.tools.make_dynamic_shape_fixed or onnxsim"
        )
    unknown = [
        f"axis {i} ({dim.dim_param or '?'})"
        for i, dim in enumerate(dims)
        if i and dim.dim_value < 1
    ]
    if unknown:
        raise ModelError(
            f"{info.name}: {', '.join(unknown)} of the input can vary; accepted: only the "
            "batch (axis 0) may; fix the others with onnxsim --overwrite-input-shape or "
            "onnxruntime.tools.make_dynamic_shape_fixed"
        )
    if len(dims) == 1:
        raise ModelError(
            f"{info.name}: the input has one axis and so no batch; accepted: batch first, "
            "then the sample; export the network with a batch axis"
        )
    dtype = _dtype(info)
    if dtype not in ("float32", "int8", "uint8"):
        raise ModelError(f"{info.name}: the input is {dtype}; accepted: float32, int8, uint8")
    return Port(info.name, dtype, _batch(dims[0]), tuple(dim.dim_value for dim in dims[1:]))


def _batch(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return dim.dim_value if dim.dim_value > 0 else dim.dim_param or "N"


def _output(info: onnx.ValueInfoProto) -> Port:
    dims = info.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value for dim in dims[1:])
    return Port(
        info.name, _dtype(info), _batch(dims[0]) if dims else "N", shape if all(shape) else None
    )


def _needed(graph: onnx.GraphProto, opset: int) -> tuple[Node, ...]:
    """The nodes the output depends on, in the file's order."""
    needed, keep = {info.name for info in graph.output}, []
    for proto in reversed(graph.node):
        if needed.isdisjoint(proto.output):
            continue
        if not all(isinstance(name, str) for name in (*proto.input, *proto.output)):
            raise ModelError(
                f"{proto.op_type}: a tensor name is no text, so the file is damaged; export the "
                "network again"
            )
        needed.update(proto.input)
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        op = (
            proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}::{proto.op_type}"
        )
        keep.append(
            Node(
                proto.name or next(filter(None, proto.output)),
                op,
                tuple(proto.input),
                tuple(proto.output),
                attributes,
                proto,
                opset,
            )
        )
    return tuple(reversed(keep))
