"""RNN, GRU and LSTM over a fixed number of steps.

The input's products with its weights are dense layers over all steps. Weights of the state, gates
and states are operators in floats, which are quantized like any others: of each step where they are
few, else of maps with a row a step, in a loop whose states are those of the row before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .elementwise import FUNCTIONS, unary
from .linear import dense
from .operands import Handler, Operand, activation, constant, finite
from .pooling import concat
from .source import Node
from .steps import Steps
from .tensors import Constant, Tensor

__all__ = ["HANDLERS", "KINDS", "MOST_OPERATORS"]

#: operators of all recurrent layers together up to which they are hardware for each step
MOST_OPERATORS = 64

#: the states of a layer of one direction; None stands for zeros
States = tuple[Tensor | None, ...]
#: what a state begins with: a tensor [batch, size], numbers [size], or zeros
Start = Tensor | NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Weights:
    """Of one direction: those of the state, [gates, size, size], and its bias, [gates, size]."""

    state: NDArray[np.float32]
    bias: NDArray[np.float32]


#: a function, or a clamp: Relu
Activation = ir.Function | ir.Clamp


@dataclass(frozen=True)
class Step(Steps):
    """One step of a layer, or all steps of one in a loop, and the layer's ``functions``."""

    functions: tuple[Activation, ...]

    def activate(self, x: Tensor, function: Activation, word: str) -> Tensor:
        if isinstance(function, ir.Clamp):
            return unary(self.build, self.step(word), x, ir.Identity(), function)
        return self.unary(x, function, word)

    def dense(self, x: Tensor, weight: NDArray[Any], bias: NDArray[Any], word: str) -> Tensor:
        name = self.node.name
        return dense(self.build, self.step(word), x, Constant(name, weight), Constant(name, bias))

    def mixed(
        self, gates: Sequence[Tensor], h: Tensor | None, weights: Weights, words: Sequence[str]
    ) -> list[Tensor]:
        """The first gates, each with the products of the state and its weights."""
        given = list(gates[: len(words)])
        if h is None:
            return given
        products = [
            self.dense(h, weights.state[n], weights.bias[n], f"{word}_product")
            for n, word in enumerate(words)
        ]
        return [
            self.add(gate, product, f"{word}_sum")
            for gate, product, word in zip(given, products, words, strict=True)
        ]


#: the gates as the input makes them, the states before, the weights: the states after
Cell = Callable[[Step, Sequence[Tensor], States, Weights, Node], States]


def _rnn(
    step: Step, gates: Sequence[Tensor], states: States, weights: Weights, node: Node
) -> States:
    (h,), (function,) = states, step.functions
    (gate,) = step.mixed(gates, h, weights, ("gate",))
    return (step.activate(gate, function, "h"),)


def _lstm(
    step: Step, gates: Sequence[Tensor], states: States, weights: Weights, node: Node
) -> States:
    """Gates in the order input, output, forget, cell."""
    (h, c), (squash, enter, leave) = states, step.functions
    words = ("input", "output", "forget", "cell")
    mixed = step.mixed(gates, h, weights, words)
    given, out, keep = (
        step.activate(gate, squash, word) for gate, word in zip(mixed[:3], words[:3], strict=True)
    )
    new = step.mul(given, step.activate(mixed[3], enter, "cell"), "new")
    if c is not None:
        new = step.add(step.mul(keep, c, "kept"), new, "c")
    return step.mul(out, step.activate(new, leave, "seen"), "h"), new


def _gru(
    step: Step, gates: Sequence[Tensor], states: States, weights: Weights, node: Node
) -> States:
    """Gates in the order update, reset, hidden."""
    (h,), (squash, enter) = states, step.functions
    after = bool(node.get("linear_before_reset", 0))
    words = ("update", "reset")
    kernel, bias, hidden = weights.state[2], weights.bias[2], gates[2]
    update, reset = (
        step.activate(gate, squash, word)
        for gate, word in zip(step.mixed(gates, h, weights, words), words, strict=True)
    )
    if h is None:
        if after and bias.any():
            hidden = step.add(hidden, step.scaled(reset, bias, None, "bias"), "hidden")
        hidden = step.activate(hidden, enter, "candidate")
        return (step.sub(hidden, step.mul(update, hidden, "less"), "h"),)
    if after:
        state = step.mul(reset, step.dense(h, kernel, bias, "candidate_state"), "reset_state")
    else:
        state = step.dense(step.mul(reset, h, "reset_state"), kernel, bias, "candidate_state")
    hidden = step.activate(step.add(hidden, state, "hidden"), enter, "candidate")
    change = step.mul(update, step.sub(h, hidden, "difference"), "change")
    return (step.add(hidden, change, "h"),)


@dataclass(frozen=True)
class Kind:
    """A recurrent operator: its ``cell``, number of gates and states, usual functions, and
    ``operators`` of a step.
    """

    cell: Cell
    gates: int
    states: int
    functions: tuple[str, ...]
    operators: int


KINDS = {
    "RNN": Kind(_rnn, 1, 1, ("Tanh",), 4),
    "GRU": Kind(_gru, 3, 1, ("Sigmoid", "Tanh"), 16),
    "LSTM": Kind(_lstm, 4, 2, ("Sigmoid", "Tanh", "Tanh"), 21),
}


def recurrent(
    build: Builder,
    node: Node,
    x: Operand,
    w: Operand,
    r: Operand,
    b: Operand = None,
    lengths: Operand = None,
    *states: Operand,
) -> list[Tensor]:
    """A node of :data:`KINDS`: all states, the last one, and of an LSTM the last cell."""
    kind, x = KINDS[node.op], activation(x, node)
    batch_first = bool(node.get("layout", 0))
    rows = x.order if batch_first else np.moveaxis(x.order, 0, 1)
    _check(build, node, x, rows, lengths, states[kind.states :])
    x = replace(x, order=rows)
    weights, recurrence = (
        finite(constant(each, node, word).real().astype(np.float32), word, node)
        for each, word in ((w, "weight"), (r, "recurrent weight"))
    )
    count, size = recurrence.shape[0], recurrence.shape[2]
    direction = node.get("direction", "forward")
    if count != 1 + (direction == "bidirectional"):
        raise ModelError(
            f"{node}: has weights of {count} directions, and the direction {direction}; accepted: "
            "weights of 1, or of 2 where it is bidirectional; check the model with onnx.checker"
        )
    bias = np.zeros((count, 2, kind.gates * size), np.float32)
    if b is not None:
        bias = constant(b, node, "bias").real().astype(np.float32).reshape(bias.shape)
    functions = _functions(node, kind, count)
    looped = _looped(build, kind, count * rows.shape[1], states)
    everything: list[list[Tensor]] = []
    lasts: list[States] = []
    for n in range(count):
        start = [_initial(node, each, n, batch_first) for each in states[: kind.states]]
        start += [None] * (kind.states - len(start))
        backwards = direction == "reverse" or n == 1
        layer = _Layer(build, node, kind, size, functions[n], looped, f"direction{n}")
        hidden, last = layer.run(
            x,
            weights[n].reshape(kind.gates, size, -1),
            Weights(
                recurrence[n].reshape(kind.gates, size, size), bias[n, 1].reshape(kind.gates, size)
            ),
            bias[n, 0].reshape(kind.gates, size),
            start,
            backwards,
        )
        everything.append(hidden)
        lasts.append(last)
    return _outputs(build, node, everything, lasts, batch_first)


def _looped(build: Builder, kind: Kind, steps: int, states: Sequence[Operand]) -> bool:
    """Whether a node is a loop and not hardware for each of its ``steps``, in all directions: where
    those are too many, or it begins with numbers other than 0.
    """
    numbers = any(isinstance(state, Constant) and state.real().any() for state in states)
    if numbers or build.unrolled + steps * kind.operators > MOST_OPERATORS:
        return True
    build.unrolled += steps * kind.operators
    return False


@dataclass(frozen=True)
class _Layer:
    """One direction of a node; ``looped``: its steps are rows through the same hardware."""

    build: Builder
    node: Node
    kind: Kind
    size: int
    functions: tuple[Activation, ...]
    looped: bool
    word: str

    def run(
        self,
        x: Tensor,
        weight: NDArray[np.float32],
        weights: Weights,
        bias: NDArray[np.float32],
        states: Sequence[Start],
        backwards: bool,
    ) -> tuple[list[Tensor], States]:
        """The hidden state after each step, in the order of the input, and the last states."""
        always, left = self._divided(weights)
        step, bias = self._step(""), bias + always
        x = replace(x, order=x.order[:, ::-1] if backwards and self.looped else x.order)
        gates = [step.dense(x, weight[n], bias[n], f"gate{n}") for n in range(self.kind.gates)]
        if self.looped:
            return self._loop(gates, left, states, backwards)
        known = tuple(state for state in states if not isinstance(state, np.ndarray))
        return self._unrolled(gates, left, known, backwards)

    def _unrolled(
        self, gates: Sequence[Tensor], weights: Weights, states: States, backwards: bool
    ) -> tuple[list[Tensor], States]:
        """Operators of each step."""
        count = gates[0].order.shape[1]
        hidden: dict[int, Tensor] = {}
        for t in reversed(range(count)) if backwards else range(count):
            step = self._step(f"/{t}")
            parts = [
                self.build.natural(
                    replace(gate, order=gate.order[:, t]), step.step(f"gate{n}_of_the_input")
                )
                for n, gate in enumerate(gates)
            ]
            states = self.kind.cell(step, parts, states, weights, self.node)
            assert states[0] is not None
            hidden[t] = states[0]
        return [hidden[t] for t in range(count)], states

    def _loop(
        self, gates: Sequence[Tensor], weights: Weights, starts: Sequence[Start], backwards: bool
    ) -> tuple[list[Tensor], States]:
        """Operators of all steps, a row each, that read their own results of the row before."""
        step, build = self._step(""), self.build
        count = gates[0].order.shape[1]
        shape = ir.Shape(count, 1, self.size)
        rows = [build.as_rows(gate, shape, self.node) for gate in gates]
        words = ("h_state", "c_state")[: self.kind.states]
        before = [
            build.state(
                f"{step.node.key}/{word}", count, self.size, 0.0 if start is None else start, node
            )
            for word, start in zip(words, starts, strict=True)
            for node in [step.node.step(word)]
        ]
        after = self.kind.cell(step, rows, tuple(before), weights, self.node)
        for state, tensor, word in zip(before, after, words, strict=True):
            assert tensor is not None
            build.close(state, tensor, step.node.step(word))
        (h, *_) = after
        assert h is not None
        times = [count - 1 - t if backwards else t for t in range(count)]
        hidden = [replace(h, order=h.order[:, t]) for t in times]
        lasts = tuple(
            replace(each, order=each.order[:, count - 1]) for each in after if each is not None
        )
        return hidden, lasts

    def _divided(self, weights: Weights) -> tuple[NDArray[np.float32], Weights]:
        """The part of the state's bias that every step adds whatever its gates are, which the input
        takes; and the weights with the rest.
        """
        always = weights.bias.copy()
        if self.node.op == "GRU" and self.node.get("linear_before_reset", 0):
            always[2] = 0
        return always, replace(weights, bias=weights.bias - always)

    def _step(self, word: str) -> Step:
        node = self.node.step(f"{self.word}{word}")
        return Step(self.build, node, self.functions)


def _check(
    build: Builder,
    node: Node,
    x: Tensor,
    rows: NDArray[np.int64],
    lengths: Operand,
    more: Sequence[Operand],
) -> None:
    """Refuse what is not built."""
    if rows.ndim != 3 or rows.shape[0] != build.batch:
        raise ModelError(
            f"{node}: reads a tensor of shape {list(x.order.shape)}; accepted: [steps, batch, "
            "features], or with layout=1 [batch, steps, features]"
        )
    known = None if lengths is None else constant(lengths, node, "sequence_lens").array
    if known is not None and (known != rows.shape[1]).any():
        raise ModelError(f"{node}: has sequences of {known.tolist()} steps; accepted: all steps")
    if any(each is not None for each in more):
        raise ModelError(f"{node}: has peepholes; accepted: none; train without them")
    if node.get("clip", 0.0) or node.get("input_forget", 0):
        raise ModelError(f"{node}: has clip or input_forget; accepted: neither")


def _functions(node: Node, kind: Kind, count: int) -> list[tuple[Activation, ...]]:
    """The functions of each direction."""
    names = [
        name.decode() if isinstance(name, bytes) else str(name)
        for name in node.get("activations", None) or kind.functions * count
    ]
    table: dict[str, Callable[[], Activation]] = {"relu": lambda: ir.Clamp(0.0)}
    table |= {name.lower(): function for name, function in FUNCTIONS.items()}
    if (
        not table.keys() >= {name.lower() for name in names}
        or node.get("activation_alpha", None)
        or len(names) != len(kind.functions) * count
    ):
        raise ModelError(
            f"{node}: has the activations {names}; accepted: {len(kind.functions) * count} of "
            f"Relu, {', '.join(FUNCTIONS)}, without parameters"
        )
    found = [table[name.lower()]() for name in names]
    each = len(kind.functions)
    return [tuple(found[n * each : (n + 1) * each]) for n in range(count)]


def _initial(node: Node, state: Operand, direction: int, batch_first: bool) -> Start:
    """What a direction begins with."""
    if isinstance(state, Tensor):
        order = state.order[:, direction] if batch_first else state.order[direction]
        return replace(activation(state, node), order=order)
    if state is None or not state.real().any():
        return None
    numbers = finite(state.real().astype(np.float32), "initial state", node)
    each = numbers[:, direction] if batch_first else numbers[direction]
    if (each != each[0]).any():
        raise ModelError(
            f"{node}: starts with a constant state that differs within the batch; accepted: the "
            "same for all samples; export the model with a batch of 1"
        )
    first: NDArray[np.float32] = each[0]
    return first


def _outputs(
    build: Builder,
    node: Node,
    hidden: list[list[Tensor]],
    lasts: list[States],
    batch_first: bool,
) -> list[Tensor]:
    """Y [steps, directions, batch, size], Y_h and Y_c [directions, batch, size]; with
    ``batch_first`` the batch comes first.
    """
    steps, count = len(hidden[0]), len(hidden)
    if all(one.handle == each[0].handle for each in hidden for one in each):  # loops
        rows = [replace(each[0], order=np.stack([t.order for t in each], 1)) for each in hidden]
        whole = rows[0]
        if count > 1:
            whole = concat(build, node.step("states", "Concat", axis=2), *rows)
    else:
        whole = _joined(build, node, [each[t] for t in range(steps) for each in hidden], "states")
    size = whole.order.shape[-1] // (count if whole.order.shape[1] == steps else 1)
    order = whole.order.reshape(build.batch, steps, count, size)
    found = [replace(whole, order=order if batch_first else np.moveaxis(order, 0, 2))]
    for n, states in enumerate(zip(*lasts, strict=True)):
        last = _joined(build, node, [state for state in states if state is not None], f"last{n}")
        order = last.order if batch_first else np.moveaxis(last.order, 0, 1)
        found.append(replace(last, order=order))
    return found


def _joined(build: Builder, node: Node, tensors: list[Tensor], word: str) -> Tensor:
    """States [batch, size] as one tensor [batch, number, size]."""
    rows = [replace(one, order=one.order[:, None]) for one in tensors]
    return concat(build, node.step(word, "Concat", axis=1), *rows)


HANDLERS: dict[str, Handler] = {name: Handler(recurrent, rereads=True) for name in KINDS}
