"""Cut a model at the border of what has hardware: a head and a tail stay on the host.

    inputs ─▶ head.onnx ─▶ hardware ─▶ tail.onnx ─▶ outputs

The nodes in hardware are a set that no path leaves and enters again. Of all such sets without a
refused node it has the most products; the nodes before it are the head, the others the tail.
"""

import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from .. import ir, limits
from ..errors import DataError, ModelError, TrainingModeError
from . import schema
from .border import Border, HostPart, Output
from .costs import node_macs
from .source import DTYPES, INPUTS, ModelPort, Node, Source, captured, parsed, read
from .states import describe
from .survey import Survey, Verdict, refusal, surveyed

__all__ = ["Cut", "divide"]

#: capacity of an edge that no cut goes through; products are scaled so that their sum is below it
_ENDLESS = 1 << 30
#: rounds of cutting and reading what is left
_ROUNDS = 64


@dataclass(frozen=True, eq=False)
class Cut:
    """The parts of a model: ``body`` has hardware, ``graph`` is what the reader makes of it.

    ``border`` runs the others, whose nodes are ``head`` and ``tail``. ``verdicts``: of all nodes of
    the file. ``macs`` are products of a
    frame that stay outside, of ``total``.
    """

    body: onnx.ModelProto
    graph: ir.Graph
    border: Border
    verdicts: tuple[Verdict, ...]
    head: tuple[str, ...]
    tail: tuple[str, ...]
    macs: int
    total: int


def divide(path: Path, first: Survey) -> Cut | None:
    """The cut of the model in file ``path`` with the most products in hardware.

    ``first``: the survey of the whole. None where no products remain in hardware, or ONNX Runtime
    can not run the rest. Raises TrainingModeError for a model in training mode.
    """
    for error in first.refused.values():
        if isinstance(error, TrainingModeError):
            raise error
    try:
        return _Division(path, first).best()
    except (DataError, ModelError):
        return None


@dataclass(eq=False)
class _Division:
    """Cuts of one model."""

    path: Path
    first: Survey

    def __post_init__(self) -> None:
        self.model = parsed(self.path)
        self.source = read(self.path, foreign=True)
        self.infos = _infos(self.model)
        ports = {info.name: info for info in self.model.graph.input}
        #: the first axis of the model's inputs
        self.batch_axis = ports[self.source.inputs[0].name].type.tensor_type.shape.dim[0]
        self.refused = dict(self.first.refused)
        self.varying = _varying(self.source)
        self.nodes = [n for n in self.source.nodes if self.varying.intersection(n.outputs)]
        self.macs = {node.key: node_macs(node, self.first.shapes) for node in self.source.nodes}
        self.producer = {name: node for node in self.nodes for name in node.outputs if name}

    def best(self) -> Cut | None:
        """The first cut whose body the reader takes whole."""
        if not any(self.macs[node.key] for node in self.nodes):
            return None
        for _ in range(_ROUNDS):
            head, inside = _inside(self.nodes, self.refused, self.macs)
            if not any(self.macs[name] for name in inside):
                return None
            parts = [
                [n for n in self.nodes if n.key in head],
                [n for n in self.nodes if n.key in inside],
                [n for n in self.nodes if n.key not in head | inside],
            ]
            found = self._attempt(*parts)
            if found is not None:
                return found
        return None

    def _attempt(self, head: list[Node], body: list[Node], tail: list[Node]) -> Cut | None:
        """The cut between these nodes; None, and more refused nodes, where it is illegal."""
        wanted = {port.name for port in self.source.outputs}
        given = {port.name for port in self.source.inputs}
        into, out = self._reads(body), self._writes(body, wanted | self._reads(tail))
        if not self._legal(into, out, body):
            return None
        model = self._model(body, sorted(into), sorted(out), "hardware")
        self._check_states(into, out)
        describe(model, self.source.states)
        before = self._writes(head, wanted | into | self._reads(tail))
        constant = wanted - self.varying
        after = wanted & {name for node in tail for name in node.outputs} | constant
        survey = surveyed(_sourced(model))
        if survey.graph is None:
            self._refuse_more(survey, body, into)
            return None
        feeds = self._reads(head) & given
        kept = {name for state in self.source.states for name in (state.input, state.output)}
        border = Border(
            tuple(_port(port) for port in self.source.inputs if port.name not in kept),
            tuple(
                Output(info.name, self._framed(info))
                for info in self.model.graph.output
                if info.name not in kept
            ),
            HostPart.of(self._model(head, sorted(feeds), sorted(before), "head")) if head else None,
            HostPart.of(self._model(tail, sorted(self._reads(tail)), sorted(after), "tail"))
            if tail or constant
            else None,
            self._batch(),
        )
        outside = {node.key: node for node in (*head, *tail)}
        return Cut(
            model,
            survey.graph,
            border,
            self._verdicts(outside, survey),
            tuple(node.name for node in head),
            tuple(node.name for node in tail),
            sum(self.macs[name] for name in outside),
            sum(self.macs.values()),
        )

    def _check_states(self, into: set[str], out: set[str]) -> None:
        """Raises ModelError for a state that is not the hardware's alone."""
        for state in self.source.states:
            if state.input not in into or state.output not in out:
                raise ModelError(
                    f"the state {state}: is not in hardware, for the nodes around it are not; "
                    "accepted: a state between nodes in hardware; `gatewright check` gives the "
                    "reasons"
                )

    # -- what is legal -----------------------------------------------------------------------------

    def _legal(self, into: set[str], out: set[str], body: list[Node]) -> bool:
        """Whether the hardware can have these ports; where not, the nodes at them are refused."""
        known = len(self.refused)
        for name in into:
            if problem := self._problem(name):
                for node in body:
                    if name in node.inputs:
                        self._refuse(node, f"reads {name}, {problem}")
        for name in out:
            if name not in self.infos:
                self._refuse(self.producer[name], f"gives {name}, whose type is not known")
        return len(self.refused) == known

    def _problem(self, name: str) -> str | None:
        """Why a tensor can not enter the hardware."""
        info = self.infos.get(name)
        if info is None or not info.type.tensor_type.HasField("shape"):
            return "whose shape is not known"
        dims = info.type.tensor_type.shape.dim
        dtype = _dtype(info)
        if dtype not in INPUTS:
            return f"which is {dtype}"
        if len(dims) < 2 or any(dim.dim_value < 1 for dim in dims[1:]):
            return "whose shape is not known"
        first = self.batch_axis
        if dims[0].dim_value and first.dim_value and dims[0].dim_value != first.dim_value:
            return "whose first axis is not the batch"
        return None

    def _refuse(self, node: Node, why: str) -> None:
        self.refused.setdefault(
            node.key,
            ModelError(
                f"{node}: {why}; accepted: float32 or narrow integers of a fixed shape, frames on "
                "the first axis; export the network with fixed shapes"
            ),
        )

    def _refuse_more(self, survey: Survey, body: list[Node], into: set[str]) -> None:
        """Take over what the reader refused in the body."""
        known = len(self.refused)
        outputs = {node.key for node in body}
        for key, error in survey.refused.items():
            if key in outputs:
                self.refused.setdefault(key, error)
        if survey.error is not None and len(self.refused) == known:
            self._blame_port(survey.error, body, into)
        if len(self.refused) == known:
            raise survey.error or next(iter(survey.refused.values()))

    def _blame_port(self, error: ModelError, body: list[Node], into: set[str]) -> None:
        """Refuse the nodes at the port of the body that an error names."""
        text = str(error)
        for node in body:
            if any(text.startswith(f"{name}: ") for name in node.outputs):
                self.refused.setdefault(node.key, error)
        named = {name for name in into if text.startswith(f"{name}: ")}
        for node in body:
            if named.intersection(node.inputs) and node.op != "QuantizeLinear":
                self.refused.setdefault(node.key, error)

    # -- parts -------------------------------------------------------------------------------------

    def _reads(self, nodes: Iterable[Node]) -> set[str]:
        """The varying tensors that nodes read and none of them computes."""
        nodes = list(nodes)
        made = {name for node in nodes for name in node.outputs}
        read = {name for node in nodes for name in (*node.inputs, *captured(node.proto))}
        return (read & self.varying) - made

    def _writes(self, nodes: Iterable[Node], wanted: set[str]) -> set[str]:
        return {name for node in nodes for name in node.outputs} & wanted - {""}

    def _model(
        self, nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str], name: str
    ) -> onnx.ModelProto:
        """A model of ``nodes``, with the constants that they and the ``outputs`` need."""
        needed = {n for node in nodes for n in (*node.inputs, *captured(node.proto))}
        needed.update(outputs)
        fixed: list[Node] = []
        for node in reversed(self.source.nodes):
            if not self.varying.intersection(node.outputs) and needed.intersection(node.outputs):
                fixed.insert(0, node)
                needed.update((*node.inputs, *captured(node.proto)))
        graph = helper.make_graph(
            [node.proto for node in (*fixed, *nodes)],
            name,
            [self._info(each) for each in inputs],
            [self._info(each) for each in outputs],
            [each for each in self.model.graph.initializer if each.name in needed],
        )
        model = helper.make_model(graph, opset_imports=self.model.opset_import)
        model.ir_version = self.model.ir_version
        return model

    def _info(self, name: str) -> onnx.ValueInfoProto:
        """The tensor as a port: with the model's batch where the size of its first axis is open."""
        info = onnx.ValueInfoProto()
        info.CopyFrom(self.infos.get(name, onnx.ValueInfoProto(name=name)))
        dims = info.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].CopyFrom(self.batch_axis)
        return info

    def _framed(self, info: onnx.ValueInfoProto) -> bool:
        """Whether the first axis of an output of the model is that of the frames."""
        dims = self.infos.get(info.name, info).type.tensor_type.shape.dim
        if not dims:
            return False
        first = self.batch_axis
        if first.dim_value:
            return bool(dims[0].dim_value == first.dim_value)
        return bool(dims[0].dim_param and dims[0].dim_param == first.dim_param)

    def _batch(self) -> int:
        return self.source.batch

    # -- verdicts ----------------------------------------------------------------------------------

    def _verdicts(self, outside: Mapping[str, Node], survey: Survey) -> tuple[Verdict, ...]:
        """The verdicts of the whole: of the body where it was read, else the host's."""
        inside = {verdict.key: verdict for verdict in survey.verdicts}
        rows = []
        for verdict in self.first.verdicts:
            node = outside.get(verdict.key)
            if node is None:
                rows.append(inside.get(verdict.key, verdict))
            elif node.key in self.refused:
                found = refusal(node, self.refused[node.key])
                rows.append(replace(found, verdict="host"))
            else:
                reason = "lies between the border of the hardware and a node of the host"
                rows.append(replace(verdict, verdict="host", reason=reason, change=""))
        return tuple(rows)


def _sourced(model: onnx.ModelProto) -> Source:
    return read(Path(f"{model.graph.name}.onnx"), model=model)


def _port(port: ModelPort) -> ir.InputPort:
    return ir.InputPort(
        port.name,
        port.shape or (),
        port.dtype,
        "",
        np.zeros(0, np.int64),
        port.batch,
        port.batched,
    )


def _infos(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Type and shape of each tensor, as far as they can be inferred."""
    graph = _inferred(model).graph
    return {
        info.name: info
        for info in (*graph.value_info, *graph.output, *graph.input)
        if info.type.tensor_type.elem_type
    }


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with shapes; those that depend on computed shapes too, if that takes little memory.

    ONNX holds a number for each element of a vector that may be a shape, in sums and products: a
    vector of some millions of elements takes gigabytes.
    """
    size = limits.INFERENCE_BYTES + 4 * model.ByteSize()
    model = _inferable(model)
    for values in (True, False):
        try:
            with _bounded(size):
                return onnx.shape_inference.infer_shapes(model, data_prop=values)
        except Exception:  # the C++ code raises several
            continue
    return model


def _inferable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the nodes of :func:`.schema.inferable`."""
    if all(proto.domain in ("", "ai.onnx") for proto in model.graph.node):
        return model
    nodes = [schema.inferable(proto) for proto in model.graph.node]
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    if all(opset.domain for opset in found.opset_import):
        found.opset_import.append(helper.make_opsetid("", schema.CAST_OPSET))
    return found


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """Raises MemoryError where the block needs more than ``size`` bytes of further memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = pages * resource.getpagesize() + size
    if soft != resource.RLIM_INFINITY:
        bound = min(bound, soft)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _dtype(info: onnx.ValueInfoProto) -> str:
    number = info.type.tensor_type.elem_type
    name: str = onnx.TensorProto.DataType.Name(number)
    return DTYPES.get(number, name.lower())


def _varying(source: Source) -> set[str]:
    """The tensors that depend on an input of the model."""
    found = {port.name for port in source.inputs}
    for node in source.nodes:
        if not found.isdisjoint((*node.inputs, *captured(node.proto))):
            found.update(filter(None, node.outputs))
    return found


# -- the best set ----------------------------------------------------------------------------------


def _inside(
    nodes: Sequence[Node], refused: Mapping[str, Any], macs: Mapping[str, int]
) -> tuple[set[str], set[str]]:
    """The head and the hardware, by the first outputs of their nodes: no refused one in hardware,
    the most products there, then the most nodes.

    A node comes before (0), in (1) or after (2) the hardware, never earlier than what it reads. The
    best choice is a least cut: a node has two vertices, "at least 1" and "at least 2", on the side
    of the source where that is true. A node costs its weight where the first is false or the second
    true; edges without a limit are implications (Ishikawa, 2003).
    """
    from scipy.sparse import coo_array  # most networks are not cut, and SciPy takes long to import
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    place = {node.key: 2 * n for n, node in enumerate(nodes)}
    made = {name: place[node.key] for node in nodes for name in node.outputs if name}
    scale = min(1.0, (_ENDLESS >> 3) / (sum(macs[name] for name in place) + 1))
    source, sink = 2 * len(nodes), 2 * len(nodes) + 1
    edges: dict[tuple[int, int], int] = {}
    for node in nodes:
        name = node.key
        first, second = place[name], place[name] + 1
        edges[source, first] = edges[second, sink] = 1 + int(macs[name] * scale)
        edges[second, first] = _ENDLESS
        if name in refused:
            edges[first, second] = _ENDLESS
        for each in (*node.inputs, *captured(node.proto)):
            if each in made:
                edges[made[each], first] = edges[made[each] + 1, second] = _ENDLESS
    rows, columns = zip(*edges, strict=True)
    size = (sink + 1, sink + 1)
    capacity = coo_array((np.array([*edges.values()], np.int32), (rows, columns)), size).tocsr()
    rest = capacity - maximum_flow(capacity, source, sink).flow
    rest.eliminate_zeros()
    true = {*breadth_first_order(rest, source, return_predecessors=False).tolist()}
    head = {name for name, first in place.items() if first not in true}
    inside = {name for name, first in place.items() if first in true and first + 1 not in true}
    return head, inside
