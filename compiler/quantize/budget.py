"""Widths of single tensors by an accuracy budget, against the hardware that they save.

Half of the samples calibrate, the others show the loss. Each tensor's noise is measured alone, at
the network's output; noises of several tensors add up, and a bit less makes four times as much. So
for every price of noise each tensor has a best width, and the lowest price whose network keeps the
budget is found by bisection, quantizing and running it for every trial.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import DataError, QuantizeError
from ..ir.feeds import count, take
from ..progress import Progress, silent
from .calibrate import METHODS, Statistics, mean_square, measure
from .float_model import evaluate, model_input
from .policy import DEFAULT_BITS, Policy
from .rounding import Rounding
from .scheme import affine, quantize, shared, types

__all__ = ["Found", "Trial", "search"]

#: widths to choose from, and the one for activations that need more
NARROWEST, WIDE = 2, 16
#: the width at which the noise of each tensor is measured
PROBE = 4
#: networks that are quantized and run on the way
TRIALS = 8
#: samples that calibrate, that show the noise of single tensors, and that are run at a time
CALIBRATING, PROBED, BATCH = 200, 64, 64


@dataclass(frozen=True)
class Trial:
    """What a network of some widths came to: the points it lost, and its cost."""

    policy: Policy
    drop: float
    cost: float


@dataclass(frozen=True)
class Found:
    """The cheapest network within the budget; all 8-bit tensors for comparison.

    ``calibrated``, ``tested``: numbers of samples. ``labelled``: whether a class is right by its
    label; without labels, where it is the float network's.
    """

    chosen: Trial
    usual: Trial
    calibrated: int
    tested: int
    labelled: bool


@dataclass(frozen=True, eq=False)
class _Tensor:
    """Something that has a width: the weights of an operator, or values that share a ``Quant``.

    ``noise``: at the network's output, with :data:`PROBE` bits. ``costs``: by width.
    """

    weights: str | None = None
    values: frozenset[str] = frozenset()
    noise: float = 0.0
    costs: Mapping[int, float] = field(default_factory=dict)

    def given(self, policy: Policy, bits: int) -> Policy:
        """``policy`` with this tensor ``bits`` wide."""
        if self.weights is not None:
            return replace(policy, weights={**policy.weights, self.weights: bits})
        wider = dict.fromkeys(self.values, bits)
        return replace(policy, activations={**policy.activations, **wider})

    def best(self, price: float) -> int:
        """The width of least cost and noise, for what noise costs; the wider of two equal ones."""
        return min(
            sorted(self.costs, reverse=True),
            key=lambda bits: self.costs[bits] + price * self.noise * 4.0 ** (PROBE - bits),
        )


def search(
    graph: ir.Graph,
    samples: NDArray[Any] | ir.Feeds,
    labels: NDArray[np.int64] | None,
    most: float,
    cost: Callable[[Policy], float],
    method: str = "mse",
    rounding: Rounding = Rounding.AUTO,
    progress: Progress = silent,
) -> Found:
    """The cheapest widths with which a float ``graph`` loses at most ``most`` points of accuracy.

    ``labels``: each sample's class; without them a class is right that is the float network's.
    ``cost`` of widths is any number that they lower, such as the share of a board that they take.
    Raises DataError where the samples are too few to see such a loss, and QuantizeError where no
    widths keep the budget, or the network does not give classes.
    """
    given = ir.feeds(graph, samples)
    total = count(given)
    if total // 2 < 100 / most:
        raise DataError(
            f"a drop of {most:g} points is less than one of {total // 2} samples; half of the "
            f"calibration samples show the drop, so give {int(np.ceil(200 / most))} or more"
        )
    judge = _Judge(graph, given, labels, method, rounding, cost, progress)
    usual = judge.trial(Policy())
    enough = usual.drop <= most
    chosen = judge.narrowed(most, usual) if enough else judge.widened(most, usual)
    return Found(chosen, usual, len(judge.fitted), len(judge.tested), labels is not None)


class _Judge:
    """Quantizes and runs networks of some widths."""

    def __init__(
        self,
        graph: ir.Graph,
        given: ir.Feeds,
        labels: NDArray[np.int64] | None,
        method: str,
        rounding: Rounding,
        cost: Callable[[Policy], float],
        progress: Progress,
    ) -> None:
        self.graph, self.method, self.rounding = graph, method, rounding
        self.cost, self.progress = cost, progress
        self.scores = _scores(graph)
        order = np.arange(count(given))
        self.fitted, self.tested = order[::2][:CALIBRATING], order[1::2]
        self.calibration, self.frames = take(given, self.fitted), take(given, self.tested)
        self.exact = self._run(graph, self.frames)
        classes = self.exact.argmax(1)
        self.wanted = classes if labels is None else labels[self.tested]
        self.right = float((classes == self.wanted).mean())

    def trial(self, policy: Policy) -> Trial:
        """Quantize and run the network with the widths of ``policy``."""
        made = quantize(
            self.graph,
            self.calibration,
            method=self.method,
            policy=policy,
            rounding=self.rounding,
            progress=self.progress,
        )
        right = float((self._run(made, self.frames).argmax(1) == self.wanted).mean())
        return Trial(policy, round(100 * (self.right - right), 6), self.cost(policy))

    def narrowed(self, most: float, usual: Trial) -> Trial:
        """The cheapest network that loses at most ``most`` points; ``usual`` does."""
        tensors = list(self._tensors(range(NARROWEST, DEFAULT_BITS + 1)))
        noise = sum(tensor.noise for tensor in tensors) or 1.0
        low, high, best = -4.0, 8.0, usual  # decades of the price of all noise together
        for number in range(TRIALS):
            middle = (low + high) / 2
            self.progress(f"widths: network {number + 1} of {TRIALS}", number / TRIALS)
            policy = Policy()
            for tensor in tensors:
                policy = tensor.given(policy, tensor.best(10**middle / noise))
            found = self.trial(policy)
            if found.drop <= most:
                high = middle
                best = min(best, found, key=lambda trial: trial.cost)
            else:
                low = middle
            self.progress(f"widths: loses {found.drop:.2f} points", (number + 1) / TRIALS)
        return best

    def widened(self, most: float, usual: Trial) -> Trial:
        """The first network that loses at most ``most`` points, with more and more of the noisiest
        activations of 16 bits.
        """
        values = [tensor for tensor in self._tensors((DEFAULT_BITS,)) if tensor.weights is None]
        values.sort(key=lambda tensor: -tensor.noise)
        least, number = usual, 1
        while True:
            policy = Policy()
            for tensor in values[:number]:
                policy = tensor.given(policy, WIDE)
            found = self.trial(policy)
            if found.drop <= most:
                return found
            least = min(least, found, key=lambda trial: trial.drop)
            if number >= len(values):
                raise QuantizeError(
                    f"the network loses {least.drop:.2f} points with 8-bit weights and up to 16 "
                    f"bits for activations, more than the {most:g} that are allowed; allow more, "
                    "give more typical samples, or train the network quantization-aware"
                )
            number = min(2 * number, len(values))

    # Single tensors.

    def _tensors(self, widths: Any) -> Iterator[_Tensor]:
        """All tensors with their noises and costs."""
        seen = measure(self.graph, self.calibration)
        frames = take(self.frames, slice(PROBED))
        exact = self.exact[:PROBED]
        power = float(np.var(exact)) or 1.0
        plain = self.cost(Policy())
        tensors = [*self._weights(), *self._values()]
        for number, tensor in enumerate(tensors):
            self.progress(f"widths: tensor {number + 1} of {len(tensors)}", number / len(tensors))
            off = self._run(self._alone(tensor, seen), frames) - exact
            noise = float(np.square(off).mean()) / power
            costs = {bits: self.cost(tensor.given(Policy(), bits)) - plain for bits in widths}
            yield replace(tensor, noise=noise, costs=costs)

    def _weights(self) -> Iterator[_Tensor]:
        for op in self.graph:
            if isinstance(op, ir.Conv) and not op.quantized:
                yield _Tensor(weights=op.name)

    def _values(self) -> Iterator[_Tensor]:
        """The groups of values whose width the policy decides."""
        usual, wide = types(self.graph, Policy()), types(self.graph, Policy(activation_bits=9))
        for group in shared(self.graph):
            name = next(iter(group))
            if usual[name].bits == DEFAULT_BITS and wide[name].bits == DEFAULT_BITS + 1:
                yield _Tensor(values=group)

    def _alone(self, tensor: _Tensor, seen: Mapping[str, Statistics]) -> ir.Graph:
        """The float network with one tensor rounded to :data:`PROBE` bits."""
        if tensor.weights is not None:
            return self.graph.replace(
                _rounded(op) if isinstance(op, ir.Conv) and op.name == tensor.weights else op
                for op in self.graph
            )
        dtype = ir.Int(PROBE, True)
        method = METHODS.get(self.method, mean_square)
        ranges = [method(seen[name], 1 << PROBE) for name in sorted(tensor.values)]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        quant = affine(low, high, dtype)
        values = [replace(self.graph.values[name], quant=quant) for name in sorted(tensor.values)]
        return self.graph.replace(self.graph.ops, values)

    def _run(self, graph: ir.Graph, frames: ir.Feeds) -> NDArray[np.float64]:
        """The scores [frames, classes] of a network in real numbers."""
        parts = []
        for start in range(0, count(frames), BATCH):
            part = take(frames, slice(start, start + BATCH))
            values = evaluate(graph, model_input(graph, part))
            parts.append(values[self.scores].reshape(count(part), -1))
        return np.concatenate(parts).astype(np.float64)


def _rounded(op: ir.Conv) -> ir.Op:
    high = (1 << (PROBE - 1)) - 1
    flat = op.weight.reshape(op.channels, -1)
    scale = np.abs(flat).max(axis=1, keepdims=True) / high
    scale[scale == 0] = 1
    weight = np.rint(flat / scale) * scale
    return replace(op, weight=weight.reshape(op.weight.shape).astype(np.float32))


def _scores(graph: ir.Graph) -> str:
    """The value that gives a score a class."""
    found = [port.value for port in graph.outputs if max(graph.shape(port.value).array) > 1]
    if len(found) != 1 or max(graph.shape(found[0]).array) != graph.shape(found[0]).size:
        raise QuantizeError(
            "a budget of accuracy needs a network with one output that gives a score a class; "
            f"choose widths with --bits for {graph.name}"
        )
    return found[0]
