"""The accuracy step: float network, integer network and a reference runtime, side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.brief import Brief
from ..compiler.data import Samples, class_numbers
from ..compiler.driver import Compiled
from ..compiler.errors import DataError
from ..compiler.frontend import load, tensor_names
from ..compiler.frontend.reference_runtime import Difference, ReferenceRuntime, Runtime
from ..compiler.ir.feeds import count, take
from ..compiler.json_file import write_json
from ..compiler.progress import Progress, silent
from ..compiler.quantize import DEFAULT_BITS, apply, evaluate, model_input
from . import golden
from .examples import Histograms, confusion, examples
from .plausibility import InputRanges, agreement_warning, chance_warning
from .runtime_int8 import runtime_int8

__all__ = ["Accuracy", "accuracy"]

Array = NDArray[Any]
#: The share of 8-bit values that may differ from the reference runtime by one step though they are
#: not close to a rounding tie (numeric contract): of the whole network, and of one layer. A few
#: values of a small layer may always differ.
NETWORK_SHARE, LAYER_SHARE, FEW = 0.001, 0.01, 3
#: An 8-bit value is close to a tie within ``1 / TIE_PARTS`` of a step: float32 may miss that tie.
TIE_PARTS = 1 << 11
#: frames computed at a time
BATCH = 32
#: frames that every layer is looked at with; all frames count for the outputs
LAYER_FRAMES = 128


@dataclass(frozen=True, eq=False, repr=False)
class Accuracy(Brief):
    """What the comparison came to; ``summary`` is the content of ``accuracy.json``.

    ``outputs`` are the integer network's, [samples, *shape], by name. ``top1`` is its share of
    right classes, None without labels.
    """

    outputs: dict[str, Array]
    summary: dict[str, Any]

    def facts(self) -> dict[str, object]:
        floats = self.summary["float"]
        shares = {
            "integers right": self.top1,
            "floats right": None if floats is None else floats["top1"],
            "same class": self.summary["agreement"],
        }
        known = {name: f"{share:.2%}" for name, share in shares.items() if share is not None}
        return {"samples": self.summary["samples"], **known}

    @property
    def violations(self) -> list[str]:
        """How the reference runtime contradicts the numeric contract; empty if it agrees."""
        found: list[str] = self.summary["reference_runtime"]["layer_by_layer"]["violations"]
        return found

    @property
    def top1(self) -> float | None:
        found = self.summary["integer"]
        return None if found is None else float(found["top1"])


def accuracy(
    compiled: Compiled,
    samples: Samples,
    progress: Progress = silent,
    calibration: Array | ir.Feeds | None = None,
) -> Accuracy:
    """Run ``samples`` through both networks and ONNX Runtime, and write ``accuracy.json``.

    Without labels there is no accuracy, but still agreement, noise and the comparison with the
    reference runtime. The float network is ``model.float.onnx``; without it nothing is said
    about floats. The reference runtime runs
    ``model.int8.onnx``, whole on every sample, and layer by layer on the golden values of each
    layer's inputs. With samples for ``calibration`` its own static quantizations of the float
    network are compared too. Raises :class:`DataError` for labels that can not be meant for this
    network.
    """
    x = ir.feeds(compiled.ports, samples.x)
    total = count(x)
    run = _Run(compiled, samples)
    for start, part in _batches(x, total if compiled.graph.keeps else BATCH):
        progress(f"comparing: {start} of {total} samples", start / total)
        run.add(part, looks_inside=start < LAYER_FRAMES)
    progress(f"comparing: {total} of {total} samples", 1.0)
    found = _Found(run.ours.whole(), run.theirs.whole(), run.floats.whole(), run.labels)
    static = None
    if calibration is not None:
        given = ir.feeds(compiled.ports, calibration)
        static = runtime_int8(compiled, given, x, found.judged, progress)
    summary = {
        "samples": total,
        "labelled": run.labels is not None,
        **found.scores(),
        "runtime_int8": static,
        **run.inside(min(total, LAYER_FRAMES), found.end_to_end()),
        "confusion": confusion(found.classes, run.labels),
        "examples": examples(
            x, found.ours.get(found.scored or ""), found.classes, found.wanted, run.labels
        ),
        "outputs": found.by_output(),
        "warnings": [*run.ranges.warnings(), *found.warnings()],
        "how": "computed",
    }
    write_json(compiled.directory / "accuracy.json", summary)
    return Accuracy(found.ours, summary)


class _Run:
    """The integer network, the reference runtime and the float network, batch after batch."""

    def __init__(self, compiled: Compiled, samples: Samples) -> None:
        directory, self.graph = compiled.directory, compiled.graph
        first = take(ir.feeds(compiled.ports, samples.x), slice(2))
        self.compiled, self.samples = compiled, samples
        self.runtime = ReferenceRuntime(directory / "model.int8.onnx", self.graph)
        self.reference = _Float.of(
            directory / "model.float.onnx",
            self.graph,
            compiled.inside(compiled.before(first)),
            compiled.factors,
        )
        self.ours, self.theirs, self.floats = _Outputs(), _Outputs(), _Outputs()
        self.histograms = Histograms(self.graph)
        self.layers: dict[str, Difference] = {}
        self.labels: NDArray[np.int64] | None = None
        self.ranges = InputRanges(self.graph)

    def add(self, samples: ir.Feeds, *, looks_inside: bool) -> None:
        """Run the next samples; ``looks_inside``: the values of each layer are compared as well."""
        compiled, graph, first = self.compiled, self.graph, not self.ours.parts
        given = compiled.before(samples)
        part = compiled.inside(given)
        self.ranges.add(part)
        values = golden.run(graph, golden.host_input(graph, part))
        self.ours.add(compiled.after(given, golden.host_output(graph, values)))
        self.theirs.add(compiled.after(given, self.runtime.outputs(part)))
        if first:
            self.labels = _labels(self.samples, self.theirs.whole(), self.ours.whole())
        if looks_inside:
            self.histograms.add(values)
            ties = partial(_near_ties, graph, values)
            for name, difference in self.runtime.layers(part, values, ties).items():
                self.layers[name] = self.layers.get(name, Difference()) + difference
        if self.reference is not None:
            self.floats.add(compiled.after(given, self.reference.outputs(part)))
            if looks_inside:
                self.reference.listen(part, values, self.histograms)

    def inside(self, frames: int, end_to_end: dict[str, Any]) -> dict[str, Any]:
        """The entries about single layers, of so many frames."""
        return {
            "sqnr": self.reference.summary(frames) if self.reference else None,
            "reference_runtime": {
                "runtime": f"ONNX Runtime {onnxruntime.__version__}, optimizations off",
                "end_to_end": end_to_end,
                "layer_by_layer": _by_layer(self.graph, self.layers, self.runtime.missing, frames),
            },
            "histograms": self.histograms.rows(),
        }


class _Found:
    """The outputs by name of the integer network, the reference runtime and the float network
    (empty without one), compared. ``scored``: the output of scores; ``classes`` and ``wanted`` are
    the winners of the integer and the float network there.
    """

    def __init__(
        self,
        ours: dict[str, Array],
        theirs: dict[str, Array],
        floats: dict[str, Array],
        labels: NDArray[np.int64] | None,
    ) -> None:
        self.ours, self.floats, self.labels = ours, floats, labels
        self.scored = _scored(ours)
        self.compared = {name: _compared(theirs[name], output) for name, output in ours.items()}
        self.classes = _winners(ours[self.scored]) if self.scored else None
        self.wanted = _winners(floats[self.scored]) if self.scored and floats else None

    def judged(self, outputs: Mapping[str, Array]) -> dict[str, Any]:
        """Accuracy and agreement with the float network of other outputs."""
        theirs = _winners(outputs[self.scored]) if self.scored else None
        score = _score(theirs, self.labels, "ONNX Runtime int8") or {}
        return {
            "top1": score.get("top1"),
            "right": score.get("right"),
            "agreement": _agreement(theirs, self.wanted),
        }

    def scores(self) -> dict[str, Any]:
        """The entries about classes."""
        runtime = f"ONNX Runtime {onnxruntime.__version__}"
        return {
            "float": _score(self.wanted, self.labels, runtime),
            "integer": _score(self.classes, self.labels, "golden model"),
            "agreement": _agreement(self.wanted, self.classes),
        }

    def warnings(self) -> list[str]:
        """What the classes say against samples or labels."""
        if self.scored is None or self.classes is None:
            return []
        scores, network = self.ours[self.scored][0].size, "float" if self.floats else "integer"
        right = _score(self.wanted if self.floats else self.classes, self.labels, network)
        return [
            *agreement_warning(_agreement(self.wanted, self.classes), len(self.classes)),
            *chance_warning(network, right["top1"] if right else None, self.labels, scores),
        ]

    def end_to_end(self) -> dict[str, Any]:
        """The integer network against the reference runtime."""
        return _end_to_end(self.compared, self.ours, self.scored)

    def by_output(self) -> list[dict[str, Any]]:
        """An entry for each output."""
        return [
            {
                "name": name,
                "agreement": _agreement(_winners(self.floats[name]), _winners(output))
                if self.floats
                else None,
                "end_to_end": self.compared[name],
            }
            for name, output in self.ours.items()
        ]


class _Outputs:
    """Outputs by name, batch after batch."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Array]] = {}

    def add(self, part: Mapping[str, Array]) -> None:
        for name, array in part.items():
            self.parts.setdefault(name, []).append(array)

    def whole(self) -> dict[str, Array]:
        return {name: np.concatenate(parts) for name, parts in self.parts.items()}


def _batches(x: ir.Feeds, size: int) -> Iterator[tuple[int, dict[str, Array]]]:
    for start in range(0, count(x), size):
        yield start, take(x, slice(start, start + size))


# Classes.


def _winners(outputs: Array) -> NDArray[np.int64] | None:
    """The winning class of each frame; None when the output is a number or a map, not scores."""
    flat = outputs.reshape(len(outputs), -1)
    if flat.shape[1] == 1:
        return flat[:, 0].astype(np.int64) if flat.dtype == np.int64 else None
    if max(outputs.shape[1:]) != flat.shape[1]:
        return None
    best: NDArray[np.int64] = np.argmax(flat, axis=1)
    return best


def _scored(outputs: Mapping[str, Array]) -> str | None:
    """The only output that gives classes, with scores if there is one with labels alone too; None
    when there is none, or several do.
    """
    names = [name for name, output in outputs.items() if _winners(output) is not None]
    scores = [name for name in names if outputs[name].dtype != np.int64]
    found = scores or names
    return found[0] if len(found) == 1 else None


def _labels(
    samples: Samples, seen: Mapping[str, Array], outputs: Mapping[str, Array]
) -> NDArray[np.int64] | None:
    """The classes in ``samples.y``, one-hot rows or numbers, checked against the output that gives
    classes.
    """
    labels = class_numbers(samples)
    if labels is None:
        return None
    name = _scored(outputs)
    if name is None and len(outputs) > 1:
        raise DataError(
            f"y holds labels, but of the outputs {', '.join(outputs)} not exactly one gives a "
            "score for each class; leave y out to compare values only"
        )
    if name is None:
        (shape,) = (output.shape[1:] for output in outputs.values())
        raise DataError(
            f"y holds labels, but the network's output is {shape}, which is "
            "not one score a class; leave y out to compare values only"
        )
    scores = seen[name]
    number = scores[0].size
    if labels.size and (labels.min() < 0 or (number > 1 and labels.max() >= number)):
        raise DataError(
            f"y holds classes {labels.min()} to {labels.max()}, but the network knows 0 "
            f"to {number - 1}; number the labels as the network does"
        )
    return labels


def _score(
    classes: NDArray[np.int64] | None, labels: NDArray[np.int64] | None, model: str
) -> dict[str, Any] | None:
    if classes is None or labels is None:
        return None
    return {
        "top1": float((classes == labels).mean()),
        "right": int((classes == labels).sum()),
        "model": model,
    }


def _agreement(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> float | None:
    return None if one is None or other is None else float((one == other).mean())


# The float network.


class _Float:
    """The float network: outputs of ONNX Runtime, values of the compiler's float model.

    ``factors``: what the channels of some of its values were divided by before quantization.
    """

    def __init__(
        self, path: Path, graph: ir.Graph, x: ir.Feeds, factors: Mapping[str, Array]
    ) -> None:
        self.integer, self.graph, self.factors = graph, load(path), factors
        self.runtime = Runtime(path)
        self.runtime.takes_batches(x)
        names = tensor_names(self.graph)
        self.pairs = {
            names[op.output]: op.output
            for op in self.graph
            if not op.view and self._same(names[op.output], op.output)
        }
        self.signal = dict.fromkeys(self.pairs, 0.0)
        self.noise = dict.fromkeys(self.pairs, 0.0)
        self.own = self._own(names)
        self.added = dict.fromkeys(self.own, 0.0)

    @classmethod
    def of(
        cls, path: Path, graph: ir.Graph, x: ir.Feeds, factors: Mapping[str, Array]
    ) -> "_Float | None":
        return cls(path, graph, x, factors) if path.exists() else None

    def _same(self, quantized: str, real: str) -> bool:
        return quantized in self.integer.values and self.integer.shape(
            quantized
        ) == self.graph.shape(real)

    def _own(self, names: Mapping[str, str]) -> dict[str, tuple[ir.Op, list[str]]]:
        """Of each value that both networks have: the float operator that computes it, and the
        integer network's values that it reads; without those whose inputs only one network has.
        """
        found = {}
        for op in self.graph:
            inputs = [names.get(name, name) for name in op.inputs]
            alike = all(map(self._same, inputs, op.inputs))
            if names[op.output] in self.pairs and alike:
                found[names[op.output]] = op, inputs
        return found

    def outputs(self, x: ir.Feeds) -> dict[str, Array]:
        return self.runtime.run(x)

    def listen(self, x: ir.Feeds, values: Mapping[str, Array], histograms: Histograms) -> None:
        """Add up signal and noise of every value that both networks have, and the noise that its
        operator adds by itself: what it is off by though its inputs were exact.
        """
        exact = evaluate(self.graph, model_input(self.graph, x))
        for quantized, real in self.pairs.items():
            wanted = exact[real].astype(np.float64)
            histograms.add_floats(quantized, wanted / self.factors.get(real, 1.0))
            found = self._real(quantized, real, values)
            self.signal[quantized] += float(np.square(wanted).sum())
            self.noise[quantized] += float(np.square(found - wanted).sum())
        for quantized, (op, inputs) in self.own.items():
            real_inputs = (
                self._real(name, real, values) for name, real in zip(inputs, op.inputs, strict=True)
            )
            found = self._real(quantized, op.output, values)
            alone = apply(op, *real_inputs).reshape(found.shape)
            self.added[quantized] += float(np.square(found - alone, dtype=np.float64).sum())

    def _real(self, quantized: str, real: str, values: Mapping[str, Array]) -> Array:
        """The float network's value that integers stand for."""
        return self.integer.quant(quantized).dequantize(values[quantized]) * self.factors.get(
            real, 1.0
        )

    def summary(self, frames: int) -> dict[str, Any]:
        rows: list[dict[str, Any]] = [
            {
                "name": op.name,
                "op": type(op).__name__,
                "output": op.output,
                "sqnr_db": _decibels(self.signal[op.output], self.noise[op.output]),
                "own_db": _decibels(self.signal[op.output], self.added.get(op.output, 0.0)),
            }
            for op in self.integer
            if op.output in self.pairs
        ]
        own = [(db, row["name"]) for row in rows if (db := row["own_db"]) is not None]
        worst = min(own, default=(0.0, None))[1]
        return {"frames": frames, "worst": worst, "layers": rows}


def _decibels(signal: float, noise: float) -> float | None:
    """``10 log10(signal / noise)``; None where either is nothing."""
    return 10 * log10(signal / noise) if signal > 0 and noise > 0 else None


# The reference runtime.


def _end_to_end(
    rows: Mapping[str, Mapping[str, Any]], outputs: Mapping[str, Array], scored: str | None
) -> dict[str, Any]:
    """How far ONNX Runtime's outputs are from ours, all together, by the ``rows`` of each; the
    agreement of the winning classes is that of the output ``scored``.
    """
    known = {name: row for name, row in rows.items() if row["fraction"] is not None}
    sizes = {name: outputs[name].size for name in known}
    differing = sum(row["fraction"] * sizes[name] for name, row in known.items())
    return {
        "frames": min(len(output) for output in outputs.values()),
        "agreement": rows[scored]["agreement"] if scored else None,
        "fraction": differing / sum(sizes.values()) if known else None,
        "largest": max(row["largest"] for row in known.values()) if known else None,
    }


def _compared(seen: Array, output: Array) -> dict[str, Any]:
    """How far ONNX Runtime's output is from ours; differences only where both are of one kind."""
    alike = seen.shape == output.shape
    apart = np.abs(seen.astype(np.float64) - output.astype(np.float64)) if alike else None
    return {
        "agreement": _agreement(_winners(seen), _winners(output)),
        "fraction": None if apart is None else float((apart > _noise(seen)).mean()),
        "largest": None if apart is None else float(apart.max(initial=0)),
    }


def _noise(outputs: Array) -> float:
    """What two ways to compute one float32 (a softmax on the host) may differ by."""
    if outputs.dtype.kind != "f":
        return 0.0
    return 1e-5 * float(np.abs(outputs).max(initial=0))


def _by_layer(
    graph: ir.Graph, layers: Mapping[str, Difference], missing: list[str], frames: int
) -> dict[str, Any]:
    rows = [
        {"name": op.name, "op": type(op).__name__, "output": op.output, **_row(layers[op.output])}
        for op in graph
        if op.output in layers
    ]
    whole = sum(layers.values(), Difference())
    expected = {name: found.values * _coarse(graph, name) for name, found in layers.items()}
    violations = [
        _violation(row["name"], layers[row["output"]], LAYER_SHARE * expected[row["output"]])
        for row in rows
    ]
    violations.append(_violation("the network", whole, NETWORK_SHARE * sum(expected.values())))
    return {
        "frames": frames,
        **_row(whole),
        "layers": rows,
        "missing": missing,
        "violations": [violation for violation in violations if violation],
    }


def _near_ties(
    graph: ir.Graph, values: Mapping[str, Array], output: str, frames: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which values of an operator's ``output`` in ``frames`` are close to a rounding tie."""
    op = graph.producer(output)
    assert op is not None
    parts = max(2, TIE_PARTS // int(_coarse(graph, output)))
    inputs = (values[name][frames] for name in op.inputs)
    return golden.near_ties(op, graph, *inputs, parts=parts)


def _coarse(graph: ir.Graph, name: str) -> float:
    """How much coarser float32 is for a wide value: each bit above the usual doubles its error."""
    return float(1 << max(0, graph.quant(name).dtype.bits - DEFAULT_BITS))


def _violation(name: str, difference: Difference, allowed: float) -> str | None:
    """A message if more than single steps near ties, or in rare values, differ; else None."""
    if difference.largest > 1:
        return f"{name}: differs by {difference.largest:g} steps; the contract allows 1"
    unexplained = difference.differing - difference.near_ties
    if unexplained > FEW + allowed:
        return (
            f"{name}: {unexplained} of {difference.values} values differ that are not close to a "
            f"rounding tie; the contract allows {FEW + int(allowed)}"
        )
    return None


def _row(difference: Difference) -> dict[str, Any]:
    return {
        "values": difference.values,
        "differing": difference.differing,
        "fraction": difference.fraction,
        "largest": difference.largest,
        "near_ties": difference.near_ties,
    }
