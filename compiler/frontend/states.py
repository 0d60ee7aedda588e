"""States that a network keeps between frames: which input is which output of the frame before.

A model file says so in its metadata, under the key :data:`KEY`, as a JSON list of objects with
``input``, ``output`` and, unless it is zero, ``initial``: what the input is in the first frame, as
a flat list of numbers. To any other reader the file is the same as without.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import ir
from ..errors import DataError, ModelError
from ..numpy_file import read_arrays

__all__ = [
    "KEY",
    "State",
    "check_states",
    "describe",
    "first_frame",
    "keep",
    "parse_states",
    "read_initial",
    "state_of",
    "states_of",
    "write_with_states",
]

KEY = "gatewright.states"


@dataclass(frozen=True)
class State:
    """The model's ``input`` is its ``output`` of the frame before; in the first frame the numbers
    ``initial``, in the input's own layout (empty: zeros).
    """

    input: str
    output: str
    initial: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.input}={self.output}"


def parse_states(texts: Iterable[str]) -> tuple[State, ...]:
    """States from texts like ``h_in=h_out``; raises :class:`~..errors.DataError` for others."""
    found = []
    for text in texts:
        source, _, sink = text.partition("=")
        if not source or not sink:
            raise DataError(
                f"--state {text}: give an input and the output that it is in the next frame, as in "
                "h_in=h_out"
            )
        found.append(State(source.strip(), sink.strip()))
    return tuple(found)


def read_initial(path: Path, states: Sequence[State]) -> dict[str, NDArray[Any]]:
    """The first values of states in an ``.npz`` file, by the inputs' names; raises
    :class:`~..errors.DataError` for a file that is none, or has none of them.
    """
    wanted = [state.input for state in states]
    remedy = "write it with numpy.savez, an array by the name of each state's input"
    found = read_arrays(path, wanted, remedy)
    known = {name: array for name, array in found.items() if array is not None and name}
    if not known:
        raise DataError(f"{path}: has no array of {', '.join(wanted) or 'any state'}; {remedy}")
    return known


def write_with_states(
    path: Path,
    states: Sequence[State],
    target: Path,
    initial: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write the model ``path``, which keeps ``states``, into the file ``target``; ``initial``:
    their values in the first frame by the inputs' names.

    Raises :class:`~..errors.ModelError` where the model has no such ports.
    """
    from .source import parsed

    model, given = parsed(path), initial or {}
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [info.name for info in model.graph.input if info.name not in stored]
    check_states(states, inputs, [info.name for info in model.graph.output])
    for name in given:
        if name not in {state.input for state in states}:
            raise DataError(
                f"{name}: has an initial value, but is no state; give it with --state {name}=OUTPUT"
            )
    states = [
        replace(state, initial=tuple(np.float32(given[state.input]).reshape(-1).tolist()))
        if state.input in given
        else state
        for state in states
    ]
    describe(model, states)
    target.write_bytes(model.SerializeToString())


def describe(model: onnx.ModelProto, states: Sequence[State]) -> None:
    """Write the states of a model into its metadata, in place of what was there."""
    others = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    if states:
        rows = [
            {"input": state.input, "output": state.output}
            | ({"initial": list(state.initial)} if any(state.initial) else {})
            for state in states
        ]
        model.metadata_props.add(key=KEY, value=json.dumps(rows))


def states_of(model: onnx.ModelProto) -> tuple[State, ...]:
    """The states that the metadata of a model lists; raises ModelError where it is damaged."""
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), "[]")
    try:
        return tuple(
            State(str(row["input"]), str(row["output"]), tuple(map(float, row.get("initial", ()))))
            for row in json.loads(text)
        )
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(
            f"the metadata {KEY} is damaged ({type(error).__name__}); accepted: a list of objects "
            'with "input" and "output"; remove it, and name states with --state'
        ) from None


def state_of(op: ir.FrameDelay, quant: ir.Quant | None) -> State:
    """The state that an operator keeps, of values of the type ``quant``, as a file names it."""
    flat = np.empty(op.initial.size, np.float32)
    flat[op.port.order] = op.initial.reshape(-1)
    if op.port.integer is not None and quant is not None:
        levels = [round(Fraction(float(real)) / quant.step) + quant.zero for real in flat]
        flat = np.clip(np.array(levels, np.float32), quant.dtype.low, quant.dtype.high)
    return State(op.port.name, op.sink, tuple(flat.tolist()) if flat.any() else ())


def first_frame(state: State, shape: Sequence[int | str | None], kind: str) -> NDArray[Any]:
    """A state in the first frame, as ONNX Runtime takes it: ``shape`` and ``kind`` are what it says
    of the input.
    """
    dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}.get(kind)
    dtype = dtype or kind.removeprefix("tensor(").removesuffix(")")
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    if not state.initial:
        return np.zeros(sizes, dtype)
    return np.array(state.initial, np.float32).reshape(sizes).astype(dtype)


def check_states(states: Sequence[State], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises ModelError for a state whose ports the model does not have, or another one has."""
    for what, names, known in (
        ("input", [state.input for state in states], inputs),
        ("output", [state.output for state in states], outputs),
    ):
        for number, name in enumerate(names):
            if name not in known:
                near = get_close_matches(name, known, 1)
                meant = f"did you mean {near[0]}?" if near else "name one of them"
                raise ModelError(
                    f"the state {states[number]}: the model has no {what} {name}; its {what}s are "
                    f"{', '.join(known)}; {meant}"
                )
            if name in names[:number]:
                raise ModelError(
                    f"the state {states[number]}: {name} is part of another state; accepted: each "
                    f"{what} in one state; remove one of the two"
                )
    if states and len(states) == len(inputs):
        raise ModelError(
            f"the state {states[0]}: all inputs of the model are states; accepted: a network with "
            "another input, whose frames are its steps; leave out one state"
        )


def keep(graph: ir.Graph, states: Sequence[State], taken: set[str]) -> ir.Graph:
    """A graph in which operators stand for the input and the output of each state.

    Before: ``h_in -> ... -> h_out``. After: ``framedelay(h_out) -> ...``, through a Gather where
    the two are arranged in different ways, and through an identity that rounds where each has a
    ``Quant`` of its own. ``taken``: names that new values do not get. Raises ModelError for two
    that do not match.
    """
    if not states:
        return graph
    if len(states) == len(graph.outputs):
        raise ModelError(
            f"the state {states[0]}: all outputs of the model are states; accepted: a network with "
            "another output; leave out one state"
        )
    inputs = {port.name: port for port in graph.inputs}
    outputs = {port.name: port for port in graph.outputs}
    delays: list[ir.Op] = []
    made: list[ir.Op] = []
    values: list[ir.Value] = []
    exact = True
    for state in states:
        port, sink = inputs.pop(state.input), outputs.pop(state.output)
        _check_alike(graph, state, port, sink)
        value, ops, more = _arranged(graph, state, port, sink, taken)
        exact &= not any(isinstance(op, ir.Unary) for op in ops)
        held = graph.values[port.value]
        first = _initial(state, port, held.shape, held.quant)
        delays.append(ir.FrameDelay(state.input, (value,), port.value, first, port, sink.name))
        made += ops
        values += more
    rest = replace(
        graph,
        inputs=tuple(inputs.values()),
        outputs=tuple(outputs.values()),
        verbatim=graph.verbatim and exact,
    )
    return rest.replace((*delays, *graph.ops, *made), values)


def _check_alike(graph: ir.Graph, state: State, port: ir.InputPort, sink: ir.OutputPort) -> None:
    """Raises ModelError where an output can not be the input of the next frame."""
    if port.shape != sink.shape or port.dtype != sink.dtype:
        raise ModelError(
            f"the state {state}: {port.name} is {port.dtype} of shape {list(port.shape)}, but "
            f"{sink.name} is {sink.dtype} of shape {list(sink.shape)} (without the batch); "
            f"accepted: one type and one shape; {_remedy(port, sink)}"
        )
    tail = sink.tail[1:] if isinstance(next(iter(sink.tail), None), ir.Dequantize) else sink.tail
    if tail:
        raise ModelError(
            f"the state {state}: {sink.name} is computed on the host "
            f"({type(tail[0]).__name__}); accepted: outputs of operators in hardware"
        )
    before, after = (graph.values[each.value].quant for each in (port, sink))
    if port.integer is not None and before and after and before != after:
        raise ModelError(
            f"the state {state}: {port.name} is {before}, but {sink.name} is {after}; accepted: "
            "integers of one scale and zero point; give both the same"
        )


def _remedy(port: ir.InputPort, sink: ir.OutputPort) -> str:
    """What to do about an output that has not the type and shape of the input."""
    pairs = list(zip(port.shape, sink.shape, strict=False))
    apart = [axis for axis, (before, after) in enumerate(pairs) if before != after]
    if len(port.shape) != len(sink.shape) or len(apart) != 1 or port.dtype != sink.dtype:
        return "name the output that the input is in the next frame"
    before, after = pairs[apart[0]]
    if after < before:
        return "let the network make an output as long as the input"
    axis = apart[0] + port.batched
    return (
        f"axis {axis} grows by {after - before} in every frame, and a state in hardware is a "
        f"memory of one size; let a Slice of {sink.name} from {after - before} to {after} on axis "
        f"{axis} be the output, which keeps the newest {before} positions; where zeros in those "
        "that are not filled yet matter (attention), mask them by an input of the network"
    )


def _arranged(
    graph: ir.Graph, state: State, port: ir.InputPort, sink: ir.OutputPort, taken: set[str]
) -> tuple[str, list[ir.Op], list[ir.Value]]:
    """The value of the output in the order and the type of the input, and what computes it."""
    value = sink.value
    ops: list[ir.Op] = []
    values: list[ir.Value] = []
    source, wanted = graph.values[value], graph.values[port.value]
    if source.quant and wanted.quant and source.quant != wanted.quant:
        name = _unused(f"{state.input}/rounded", taken)
        ops.append(ir.Unary(name, (value,), name))
        source = ir.Value(name, source.shape, wanted.quant)
        values.append(source)
        value = name
    order = sink.order[port.order]
    name = _unused(f"{state.input}/next", taken)
    if not np.array_equal(order, np.arange(source.shape.size)):
        ops.append(ir.Gather(name, (value,), name, order))
    elif source.shape != wanted.shape:
        ops.append(ir.Reshape(name, (value,), name))
    else:
        return value, ops, values
    values.append(ir.Value(name, wanted.shape, source.quant))
    return name, ops, values


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "/next"
    taken.add(name)
    return name


def _initial(
    state: State, port: ir.InputPort, shape: ir.Shape, quant: ir.Quant | None
) -> NDArray[np.float32]:
    """The first frame in stream order, as real numbers."""
    given = state.initial or (0.0,) * shape.size
    if len(given) != shape.size or not np.isfinite(given).all():
        raise ModelError(
            f"the state {state}: {len(given)} numbers are given for the first frame; "
            f"accepted: {shape.size} finite numbers, of shape {list(port.shape)}"
        )
    first = np.array(given, np.float32)
    if port.integer is not None and quant is not None:
        low, high = port.integer.low, port.integer.high
        if (first != np.rint(first)).any() or first.min() < low or first.max() > high:
            raise ModelError(
                f"the state {state}: the first frame has numbers that are no {port.dtype}; "
                f"accepted: integers from {low} to {high}, as the input takes them"
            )
        first = quant.dequantize(first.astype(np.int64))
    return first[port.order].reshape(shape.array)
