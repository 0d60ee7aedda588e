"""Collect operators while the ONNX nodes are walked, and track which streams are quantized."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .saturation import Saturation
from .source import Node
from .tensors import Tensor, bounded, frame, permutes, raster

__all__ = ["Builder"]


@dataclass(frozen=True)
class PendingValue:
    """A value in the making; ``named`` once a QuantizeLinear has given it its name."""

    name: str
    shape: ir.Shape
    quant: ir.Quant | None = None
    named: bool = False
    integer: ir.Int | None = None  # the type of an integer input of the network


class Builder:
    """Streams by handle (the first ONNX name of each) and the operator that computes each.

    Handles stay, names change: a value takes the name of the QuantizeLinear that rounds it, or of
    the Clip that saturates it then. ``saturations``: by the name of the QuantizeLinear's output.
    ``lone``: whether the model takes one sample at a time. ``leaving``: tensors that only the host
    reads, if it computes them. ``weighed``: those that only Softmax reads; ``scores``: those that
    it reads as they are, or as terms of a sum. ``unrolled``: operators so far of recurrent layers
    that are hardware for each step.
    """

    def __init__(
        self,
        batch: int,
        saturations: Mapping[str, Saturation],
        lone: bool = False,
        leaving: Container[str] = (),
        weighed: Container[str] = (),
        scores: Container[str] = (),
    ) -> None:
        self.batch, self.lone, self.leaving = batch, lone, leaving
        self.weighed, self.scores = weighed, scores
        self.saturations, self.unrolled = saturations, 0
        self._saturating = {name for one in self.saturations.values() for name in one.tensors}
        self.streams: dict[str, PendingValue] = {}
        self.ops: dict[str, ir.Op] = {}
        self._gathers: dict[str, list[str]] = {}  # handles of the Gathers of each stream
        self._raw: set[tuple[str, str]] = set()  # (reader, stream read before it is rounded)
        self._rounds = False  # whether the file quantizes any activation
        self._late: set[str] = set()  # streams that a QuantizeLinear of their own rounds
        # of each open state its first row, and the operators before it
        #: of each state that is not closed yet the numbers of its first row, or the stream of it
        self._states: dict[str, tuple[NDArray[np.float32], tuple[str, ...]]] = {}
        self._before: frozenset[str] = frozenset()  # the operators before the last loop
        self._early: set[str] = set()  # streams known to have been rounded before their operator

    # -- streams ---------------------------------------------------------------------------------

    def shape(self, tensor: Tensor) -> ir.Shape:
        return self.streams[tensor.handle].shape

    def frame(self, tensor: Tensor, node: Node | str) -> NDArray[np.int64]:
        """Labels of one frame of ``tensor``, which ``node`` reads."""
        return frame(tensor.order, self.shape(tensor).size, self.batch, node)

    def quant(self, handle: str, visited: set[str] | None = None) -> ir.Quant | None:
        """Quantization of a stream; moving operators pass on what all their inputs have.

        ``visited``: streams whose quantization is settled, to which this call adds.
        """
        visited = set() if visited is None else visited
        pending = [handle]
        while pending:
            name = pending[-1]
            stream, op = self.streams[name], self.ops.get(name)
            open_inputs = [
                source
                for source in _passed_on(op)
                if self.streams[source].quant is None and source not in visited
            ]
            if stream.quant is None and name not in visited and open_inputs:
                pending += open_inputs
                continue
            pending.pop()
            visited.add(name)
            if stream.quant is None:
                quants = {self.streams[source].quant for source in _passed_on(op)}
                if len(quants) == 1:
                    self.streams[name] = replace(stream, quant=quants.pop())
        return self.streams[handle].quant

    def rounded(self, x: Tensor) -> ir.Quant | None:
        """The quantization of the reals that ``x`` holds; None for integers, and for a tensor from
        before the QuantizeLinear that rounds it.
        """
        quant = self.quant(x.handle)
        if quant is None or not x.real:
            return None
        before = x.handle not in self._late and self._rounded_before(x.handle)
        return quant if before or not x.raw else None

    def integer(self, handle: str) -> ir.Int | None:
        """The type of a stream of integers: what it was rounded to, or the network input's own."""
        quant = self.quant(handle)
        while quant is None and (inputs := _passed_on(self.ops.get(handle))):
            handle = inputs[0]
            quant = self.streams[handle].quant
        return quant.dtype if quant else self.streams[handle].integer

    def input(
        self,
        name: str,
        shape: ir.Shape,
        order: NDArray[np.int64],
        dims: tuple[int, ...],
        integer: ir.Int | None = None,
    ) -> Tensor:
        """The network's input: ``order[i]`` is the model's index of the stream's i-th element.
        ``dims``: all axes of the model's tensor.

        ``integer``: its type, unless it is float.
        """
        bounded(name, shape, self.batch, "stream")
        self.streams[name] = PendingValue(name, shape, integer=integer)
        position = np.empty(order.size, np.int64)
        position[order] = np.arange(order.size)
        labels = np.arange(self.batch)[:, None] * order.size + position
        return Tensor(name, labels.reshape(dims), name, real=integer is None)

    def saturates(self, node: Node) -> bool:
        """Whether the QuantizeLinear before ``node`` does its work: a Clip or Cast of integers."""
        return node.outputs[0] in self._saturating

    # -- operators -------------------------------------------------------------------------------

    def add(self, op: ir.Op, shape: ir.Shape, reads: Sequence[Tensor]) -> str:
        """Append an operator over handles; returns the handle of its output."""
        bounded(op.name, shape, self.batch)
        handle = self._unused(op.output, self.streams)
        self.ops[handle] = replace(op, output=handle)
        self.streams[handle] = PendingValue(op.output, shape)
        self._raw |= {(handle, tensor.handle) for tensor in reads if tensor.raw}
        return handle

    def computed(
        self, op: ir.Op, shape: ir.Shape, reads: Sequence[Tensor], order: NDArray[np.int64]
    ) -> Tensor:
        """Append an operator; its output tensor has labels ``order`` in every frame, and a batch
        axis of its own unless the batch is merged into the first axis of all that it reads.
        """
        handle = self.add(op, shape, reads)
        offsets = np.arange(self.batch).reshape(-1, *[1] * order.ndim) * shape.size
        labels = offsets + order[None]
        if order.ndim and all(tensor.order.shape[:1] != (self.batch,) for tensor in reads):
            labels = labels.reshape(-1, *order.shape[1:])
        return Tensor(handle, labels, op.output)

    def elementwise(self, op: ir.Op, shape: ir.Shape, reads: Sequence[Tensor]) -> Tensor:
        """Append an operator that keeps the arrangement of its first input."""
        handle = self.add(op, shape, reads)
        return Tensor(handle, reads[0].order, op.output)

    def exact(self, tensor: Tensor, quant: ir.Quant | None) -> Tensor:
        """``tensor``, an operator's output, rounded to ``quant``, of which each value is a level;
        None leaves it as it is.
        """
        if quant is None:
            return tensor
        self.streams[tensor.handle] = replace(self.streams[tensor.handle], quant=quant)
        return replace(tensor, raw=False)

    def reshaped(self, tensor: Tensor, shape: ir.Shape, node: Node | str) -> str:
        """A handle of the same stream under ``shape``.

        It is named after the ONNX tensor, unless that lists the same elements in another order.
        """
        if self.shape(tensor) == shape:
            return tensor.handle
        for handle, op in self.ops.items():
            if (
                isinstance(op, ir.Reshape)
                and op.inputs == (tensor.handle,)
                and self.streams[handle].shape == shape
            ):
                return handle
        names = {stream.name for stream in self.streams.values()}
        labels = self.frame(tensor, node).reshape(-1)
        permuted = tensor.order.ndim < 3 and not np.array_equal(labels, np.arange(labels.size))
        name = self._unused(tensor.label + "/reshape" * permuted, names, "/reshape")
        return self.add(ir.Reshape(_name(node), (tensor.handle,), name), shape, [tensor])

    def as_rows(self, tensor: Tensor, shape: ir.Shape, node: Node) -> Tensor:
        """``tensor``, [batch, rows, channels], over a map of that ``shape`` in stream order."""
        order = self.frame(tensor, node).reshape(-1)
        handle = self.arranged(tensor, order, shape, node)
        return replace(tensor, handle=handle, order=self._row_labels(shape), fill=None)

    def state(
        self, name: str, rows: int, channels: int, first: Tensor | float | NDArray[Any], node: Node
    ) -> Tensor:
        """The state of a loop, [batch, rows, channels], whose first row is ``first``: one number,
        [channels] numbers, or a tensor [batch, channels]. :meth:`close` tells what it becomes; all
        states of a loop begin before its operators.
        """
        shape = bounded(name, ir.Shape(rows, 1, channels), self.batch, "state")
        given: tuple[str, ...] = ()
        initial = np.zeros(channels, np.float32)
        if isinstance(first, Tensor):
            row = replace(first, order=first.order[:, None])
            given = (self.as_rows(row, ir.Shape(1, 1, channels), node).handle,)
        else:
            initial[:] = first
        handle = self._unused(name, self.streams)
        self.streams[handle] = PendingValue(name, shape)
        self._states[handle] = initial, given
        self._before = frozenset(self.ops)
        return Tensor(handle, self._row_labels(shape), name)

    def close(self, state: Tensor, after: Tensor, node: Node) -> None:
        """Let a state be what ``after`` was in the row before, rounded to the state's ``Quant``
        where it has one. Raises ModelError where an operator since is not rowwise.
        """
        stream, (initial, given) = self.streams[state.handle], self._states.pop(state.handle)
        last = self.as_rows(after, stream.shape, node).handle
        for name in self.ops.keys() - self._before:
            self._check_row(self.ops[name], stream.shape.height, node)
        given = tuple(self._rounded_as(stream, "first", each, node) for each in given)
        last = self._rounded_as(stream, "next", last, node)
        op = ir.Delay(node.name, (last, *given), state.handle, initial)
        before = self._before.union(given) if given else set()
        early = {name: one for name, one in self.ops.items() if name in before or one.delaying}
        self.ops = {**early, state.handle: op, **self.ops}

    def _rounded_as(self, stream: PendingValue, word: str, handle: str, node: Node) -> str:
        """A handle of a stream, rounded to the ``Quant`` of another one where that has one."""
        if stream.quant is None or self.quant(handle) == stream.quant:
            return handle
        name = self._unused(f"{stream.name}/{word}", {s.name for s in self.streams.values()})
        return self.quantize(handle, stream.quant, name, node, False)

    def _check_row(self, op: ir.Op, rows: int, node: Node) -> None:
        shape = self.streams[op.output].shape
        heights = {self.streams[name].shape.height for name in op.inputs}
        if not op.rowwise or (shape.height, shape.width) != (rows, 1) or heights - {1, rows}:
            raise ModelError(
                f"{node}: {op.name} does not work row by row; accepted in a loop: operators that "
                "compute each pixel of a map [rows, 1, channels] from that pixel; take it out of "
                "the loop"
            )

    def _row_labels(self, shape: ir.Shape) -> NDArray[np.int64]:
        return raster((shape.height, shape.channels), self.batch)

    def as_map(self, tensor: Tensor, node: Node | str) -> str:
        """A handle of ``tensor``, [batch, channels, rows, columns], as a map in stream order."""
        labels = self._map_labels(tensor, node)
        channels, height, width = labels.shape
        order = labels.transpose(1, 2, 0).reshape(-1)
        return self.arranged(tensor, order, ir.Shape(height, width, channels), node)

    def gathered(self, tensor: Tensor, node: Node | str) -> str:
        """A handle of the elements that ``tensor`` lists, as a map in stream order: channels come
        first after the batch, or alone; tensors of other ranks become a vector.
        """
        labels = self.frame(tensor, node)
        if self._is_map(tensor):
            return self.as_map(tensor, node)
        return self.arranged(tensor, labels.reshape(-1), ir.Shape(1, 1, labels.size), node)

    def fills(self, x: Tensor) -> bool:
        """Whether the number that ``x`` is filled with is one that its stream can hold."""
        quant = self.rounded(x)
        if quant is None or x.fill is None or isinf(x.fill):
            return True
        return bool(quant.dequantize(quant.quantize(x.fill)) == np.float32(x.fill))

    def _is_map(self, tensor: Tensor) -> bool:
        """Whether a tensor is [batch, channels, rows, columns], or without columns."""
        return tensor.order.ndim in (3, 4) and tensor.order.shape[0] == self.batch

    def natural(self, tensor: Tensor, node: Node | str) -> Tensor:
        """``tensor`` over a stream that holds its elements once and no others: the same where it
        does so already.
        """
        labels = self.frame(tensor, node)
        if permutes(labels, self.shape(tensor)):
            return tensor
        handle = self.gathered(tensor, node)
        map_shape = self.streams[handle].shape
        order = raster(map_shape.array, self.batch)
        if self._is_map(tensor):
            order = np.moveaxis(order, -1, 1)
        return replace(tensor, handle=handle, order=order.reshape(tensor.order.shape), fill=None)

    def passed(self, tensor: Tensor, name: str) -> Tensor:
        """``tensor``, over a stream that an operator computes; that of one of the network's inputs
        passes through a Gather.
        """
        if tensor.source is None:
            tensor = self.natural(tensor, name)
        if tensor.handle in self.ops:
            return tensor
        shape = self.shape(tensor)
        order = np.arange(shape.size)
        handle = self.add(ir.Gather(name, (tensor.handle,), name, order), shape, [tensor])
        return replace(tensor, handle=handle)

    def aligned(
        self, tensors: Sequence[Tensor], node: Node
    ) -> tuple[tuple[str, ...], ir.Shape, NDArray[np.int64]]:
        """Handles of ``tensors``, of one shape, as streams that list their elements in one order;
        the shape of these streams, and the labels of every tensor in them.

        The order is that of the first tensor that agrees with the most others; these stay as they
        are, and the others are gathered.
        """
        whole = [t for t in tensors if permutes(self.frame(t, node), self.shape(t))]
        if not whole:
            whole = [self.natural(tensors[0], node)]
        leader = max(whole, key=lambda t: sum(np.array_equal(t.order, o.order) for o in tensors))
        shape, places = self.shape(leader), self.frame(leader, node).reshape(-1)
        handles = []
        for tensor in tensors:
            order = np.empty(shape.size, np.int64)
            order[places] = self.frame(tensor, node).reshape(-1)
            handles.append(self.arranged(tensor, order, shape, node))
        return tuple(handles), shape, leader.order

    def arranged(
        self,
        tensor: Tensor,
        order: NDArray[np.int64],
        shape: ir.Shape,
        node: Node | str,
    ) -> str:
        """A handle of the map ``shape`` whose elements are those of the stream of ``tensor`` in
        ``order``; -1 stands for the tensor's fill.
        """
        fill = tensor.fill or 0.0
        if np.array_equal(order, np.arange(self.shape(tensor).size)):
            return self.reshaped(tensor, shape, node)
        for handle in self._gathers.get(tensor.handle, ()):
            op = self.ops[handle]
            if (
                isinstance(op, ir.Gather)
                and op.inputs == (tensor.handle,)
                and self.streams[handle].shape == shape
                and np.array_equal(op.order, order)
                and op.fill == fill
            ):
                return handle
        bounded(node, shape, self.batch)
        names = {stream.name for stream in self.streams.values()}
        name = self._unused(tensor.label, names, "/gather")
        op = ir.Gather(_name(node), (tensor.handle,), name, order, fill)
        handle = self.add(op, shape, [tensor])
        self._gathers.setdefault(tensor.handle, []).append(handle)
        return handle

    def _map_labels(self, tensor: Tensor, node: Node | str) -> NDArray[np.int64]:
        order = tensor.order
        self.frame(tensor, node)
        if order.ndim not in (3, 4) or order.shape[0] != self.batch:
            raise ModelError(
                f"{node}: its input has shape {list(order.shape)}; accepted: [batch, channels, "
                "rows, columns] or [batch, channels, length]"
            )
        labels: NDArray[np.int64] = order[0] if order.ndim == 4 else order[0][:, :, None]
        return labels

    def map_order(self, shape: ir.Shape, like: Tensor) -> NDArray[np.int64]:
        """Labels of one frame, channels first, with as many axes as ``like``."""
        order: NDArray[np.int64] = raster(shape.array, 1)[0].transpose(2, 0, 1)
        return order if like.order.ndim == 4 else order[:, :, 0]

    # -- quantization ----------------------------------------------------------------------------

    def quantize(self, handle: str, quant: ir.Quant, name: str, node: Node, raw: bool) -> str:
        """Round the stream to ``quant``; returns its handle, a new one if already rounded.

        Where a moving operator computes the stream, its inputs are rounded, and so on up to what
        computes new values. ``raw``: the reader sees the stream as it is before any rounding.
        """
        self._rounds = True
        return self._quantize(handle, quant, name, node, raw)

    def as_reals(self, x: Tensor, node: Node) -> Tensor:
        """The numbers of the network's integer input as real ones: of scale 1 and zero point 0.

        A network that quantizes nothing else stays a float one.
        """
        dtype, found = self.integer(x.handle), self.quant(x.handle)
        assert dtype is not None, "these are no integers"
        quant = ir.Quant(dtype, 1.0, 0)
        if found not in (None, quant):
            raise ModelError(
                f"{node}: casts integers to floats that stand for {found}; accepted: "
                "DequantizeLinear, or the integers of the network's input; export the network in "
                "QDQ format"
            )
        handle = self._quantize(x.handle, quant, self.streams[x.handle].name, node, True)
        return replace(x, handle=handle, real=True, raw=False)

    def _quantize(self, handle: str, quant: ir.Quant, name: str, node: Node, raw: bool) -> str:
        stream, found = self.streams[handle], self.quant(handle)
        if found is None:
            stale = False  # whether an operator that these may read was stored again
            for mover in self._unrounded_movers(handle):
                op = self.ops[mover]
                inputs = tuple(self._quantize_input(mover, name, quant, node) for name in op.inputs)
                stale = stale or inputs != op.inputs
                self._store(mover, replace(op, inputs=inputs), stale)
                self._round(mover, quant)
            self._round(handle, quant)
            self.streams[handle] = replace(stream, quant=quant, name=name, named=True)
            return handle
        if found == quant:
            if not stream.named:
                self.streams[handle] = replace(self.streams[handle], name=name, named=True)
            return handle
        return self._requantize(handle, quant, name, node, raw)

    def _requantize(self, handle: str, quant: ir.Quant, name: str, node: Node, raw: bool) -> str:
        """Round a stream that is rounded to another ``Quant``; returns a new handle."""
        stream = self.streams[handle]
        if raw and not self._rounded_before(handle):
            raise ModelError(
                f"{node}: rounds {stream.name} to {quant}, but another QuantizeLinear rounds "
                f"the same tensor to {stream.quant}; accepted: one; use the same scale and zero "
                "point for all readers"
            )
        new = self.add(ir.Unary(node.name, (handle,), name), stream.shape, [])
        self.streams[new] = PendingValue(name, stream.shape, quant, named=True)
        return new

    def _unrounded_movers(self, handle: str) -> list[str]:
        """The moving operators without a quantization from which the values of ``handle`` come, in
        processing order.
        """
        pending, opened, found = [handle], set[str](), dict[str, None]()
        while pending:
            name = pending[-1]
            inputs = _passed_on(self.ops.get(name))
            if name in found or not inputs or self.streams[name].quant is not None:
                pending.pop()
            elif name in opened:
                found[pending.pop()] = None
            else:
                opened.add(name)
                pending += reversed(inputs)
        return list(found)

    def _round(self, handle: str, quant: ir.Quant) -> None:
        """A QuantizeLinear that follows gives the stream its quantization."""
        self._late.add(handle)
        self.streams[handle] = replace(self.streams[handle], quant=quant)

    def _rounded_before(self, handle: str) -> bool:
        """Whether the stream is a moving operator's, over inputs that were rounded before it."""
        pending, seen = [handle], {handle}
        while pending:
            reader = pending.pop()
            op = self.ops.get(reader)
            if not _passed_on(op):
                return False
            for name in _passed_on(op):
                if (reader, name) in self._raw and name not in seen and name not in self._early:
                    pending.append(name)
                    seen.add(name)
        self._early |= seen
        return True

    def _quantize_input(self, reader: str, handle: str, quant: ir.Quant, node: Node) -> str:
        """The handle of a moving operator's input, rounded to ``quant``; it keeps its name."""
        raw = (reader, handle) in self._raw
        self._raw.discard((reader, handle))
        found = self.quant(handle)
        if found is None:
            self._round(handle, quant)
        if found in (None, quant):
            return handle
        stream = self.streams[handle]
        taken = {s.name for s in self.streams.values()}
        name = self._unused(stream.name, taken, "/requantized")
        new = self._requantize(handle, quant, name, node, raw)
        self.streams[new] = replace(self.streams[new], named=stream.named)
        return new

    def _store(self, handle: str, op: ir.Op, last: bool) -> None:
        """Store ``op`` in its place; ``last``: at the end, behind the operators just added."""
        if last:
            del self.ops[handle]
        self.ops[handle] = op

    # -- the end ---------------------------------------------------------------------------------

    def finish(
        self, lasts: set[str]
    ) -> tuple[tuple[ir.Op, ...], dict[str, ir.Value], dict[str, str]]:
        """The operators that ``lasts`` need, values, and the final name of every handle."""
        if self._states:
            raise ModelError(f"{', '.join(self._states)}: is the state of a loop that does not end")
        self._prune(lasts)
        if not self._rounds:
            self.streams = {n: replace(one, quant=None) for n, one in self.streams.items()}
        visited: set[str] = set()
        for handle in self.streams:
            self.quant(handle, visited)
        for reader, handle in sorted(self._raw):
            if self.streams[handle].quant is not None and not self._rounded_before(handle):
                raise ModelError(
                    f"{self.ops[reader].name}: reads {handle} before QuantizeLinear rounds it; "
                    "accepted: readers after DequantizeLinear; insert QuantizeLinear and "
                    "DequantizeLinear before this node"
                )
        names: dict[str, str] = {}
        taken: set[str] = set()
        for handle, stream in self.streams.items():
            names[handle] = self._unused(stream.name, taken)
            taken.add(names[handle])
        ops = tuple(
            replace(op, inputs=tuple(names[name] for name in op.inputs), output=names[op.output])
            for op in self.ops.values()
        )
        values = {
            names[handle]: ir.Value(names[handle], stream.shape, stream.quant)
            for handle, stream in self.streams.items()
        }
        return ops, values, names

    def _prune(self, lasts: set[str]) -> None:
        needed, pending = set(lasts), [*lasts]
        while pending:
            op = self.ops.get(pending.pop())
            more = set(op.inputs if op else ()) - needed
            needed |= more
            pending += more
        self.ops = {handle: op for handle, op in self.ops.items() if handle in needed}
        self._raw = {(reader, handle) for reader, handle in self._raw if reader in needed}

    @staticmethod
    def _unused(name: str, taken: Container[str], suffix: str = "/2") -> str:
        while name in taken:
            name += suffix
        return name


def _passed_on(op: ir.Op | None) -> tuple[str, ...]:
    """The streams that have the quantization of what ``op`` computes."""
    return op.inputs if op is not None and op.selecting else ()


def _name(reader: Node | str) -> str:
    """What an operator for ``reader``, a node or a port, is called."""
    return reader if isinstance(reader, str) else reader.name
