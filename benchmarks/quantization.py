"""What quantization loses on trained networks, compared with ONNX Runtime's static quantizations.

    python benchmarks/quantization.py --models DIR --data DIR [--only NAME]... [--frames N]

The networks and their data are not part of the project: MODELS and DATA are directories with the
files that :data:`NETWORKS` names. Each network's rows are kept in the output directory and shown
until the script runs for it again.
"""

import io
import json
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from time import perf_counter
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from gatewright.compiler.errors import DataError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.frontend.static_quantization import ALL, StaticQuantizer
from gatewright.compiler.json_file import write_json
from gatewright.compiler.quantize import Policy, equalized, quantize
from gatewright.compiler.report.progress_line import progress_line
from gatewright.sim import golden
from numpy.typing import NDArray
from rich.console import Console

__all__ = ["NETWORKS", "WAYS", "Network", "Way", "main", "page"]

Array = NDArray[Any]

#: of the order in which samples are taken
SEED = 1
#: the share of confidence intervals that hold what they are of, for all recipes together
CONFIDENCE = 0.95
#: frames that the golden model runs too
CHECKED = 50
#: frames that ONNX Runtime takes at a time
BATCH = 250
HERE = Path(__file__).parent

err = Console(stderr=True, soft_wrap=True)


def _shuffled(x: Array, y: Array) -> tuple[Array, Array]:
    order = np.random.default_rng(SEED).permutation(len(x))
    return x[order], y[order]


def cifar(data: Path) -> tuple[Array, Array]:
    """The test images of CIFAR-10 as JPEG, [n, 32, 32, 3] of 0 to 255."""
    from PIL import Image

    with np.load(data / "cifar10_test10k_jpegbytes.npz") as file:
        content, offset, y = file["jpeg"].tobytes(), file["offset"], file["y"]
    ends = [*offset[1:], len(content)][: len(y)]
    images = [
        np.asarray(Image.open(io.BytesIO(content[start:end])).convert("RGB"))
        for start, end in zip(offset, ends, strict=False)
    ]
    return _shuffled(np.stack(images).astype(np.float32), y)


def cifar_normalized(data: Path) -> tuple[Array, Array]:
    """The same as [n, 3, 32, 32] of -1 to 1."""
    x, y = cifar(data)
    return ((x / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2), y


def keywords(data: Path) -> tuple[Array, Array]:
    """Spectral coefficients of spoken commands, [n, 49, 10, 1]."""
    with np.load(data / "kws_mfcc_int8_1000_finn.npz") as file:
        x = file["x"] * np.float32(file["scale"])
        return _shuffled(x.reshape(-1, 49, 10, 1), file["y"])


def digits(data: Path) -> tuple[Array, Array]:
    """MNIST's test images, [n, 1, 28, 28] of 0 to 255."""
    with np.load(data / "mnist_test10k.npz") as file:
        return _shuffled(file["x"].reshape(-1, 1, 28, 28).astype(np.float32), file["y"])


def flowers(_data: Path) -> tuple[Array, Array]:
    """Fisher's iris flowers, [n, 4] in centimetres (from scikit-learn)."""
    from sklearn.datasets import load_iris

    found = load_iris()
    return _shuffled(found.data.astype(np.float32), found.target)


@dataclass(frozen=True)
class Way:
    """Bits of activations and of weights, and whether channels are divided between layers."""

    activations: int
    weights: int
    equalize: bool = False

    def __str__(self) -> str:
        even = ", equalized" if self.equalize else ""
        return f"A{self.activations} W{self.weights}{even}"


#: the first one is compared with ONNX Runtime's quantizations
WAYS = (Way(8, 8), Way(8, 8, True), Way(8, 4), Way(4, 4), Way(4, 4, True))


@dataclass(frozen=True)
class Network:
    """A float network with labelled data; the first ``calibration`` samples calibrate, the others
    test.
    """

    title: str
    file: str
    samples: Callable[[Path], tuple[Array, Array]]
    calibration: int = 200


NETWORKS = {
    "resnet8": Network("ResNet-8, CIFAR-10", "ic_resnet8_mlperf_fp32.onnx", cifar),
    "cnn50k": Network("CNN, CIFAR-10", "cifar_cnn50k_winml_fp32.onnx", cifar_normalized),
    "ds_cnn": Network("DS-CNN, keywords", "kws_dscnn7k_alibaba_fp32.onnx", keywords),
    "mnist8": Network("MNIST-8, digits", "mnist-8_cntk_fp32.onnx", digits),
    "mnist8_folded": Network("MNIST-8 folded, digits", "mnist-8_folded_fp32.onnx", digits),
    "iris": Network("MLP, iris", "iris_mlp_winml_fp32.onnx", flowers, 50),
}


# Measuring.


def measure(network: Network, models: Path, data: Path, frames: int, step: Any) -> dict[str, Any]:
    """All rows of a network."""
    x, y = network.samples(data)
    x, y = x[: network.calibration + frames], y[: network.calibration + frames]
    seen, calibration = x[network.calibration :], x[: network.calibration]
    labels = y[network.calibration :].astype(np.int64)
    path = models / network.file
    step(f"{network.title}: float")
    exact = _classes(path, seen)
    found = [_ours(path, calibration, seen, way, step) for way in WAYS]
    usual = found[0][1]
    return {
        "title": network.title,
        "calibration": len(calibration),
        "frames": len(seen),
        "float": _right(exact, labels),
        "ours": [row | _judged(classes, exact, labels, usual) for row, classes in found],
        "onnxruntime": [
            row if classes is None else row | _judged(classes, exact, labels, usual)
            for row, classes in _theirs(path, calibration, seen, step)
        ],
        "how": {
            "onnxruntime": onnxruntime.__version__,
            "onnx": onnx.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "seed": SEED,
        },
    }


def _ours(
    path: Path, calibration: Array, seen: Array, way: Way, step: Any
) -> tuple[dict[str, Any], Array]:
    """The compiler's quantization, and the classes of its ``model.int8.onnx``."""
    name, policy = f"{path.stem}: {way}", Policy(way.activations, way.weights)
    began = perf_counter()
    graph = load(path)
    if way.equalize:
        graph = equalized(graph, calibration, policy=policy).graph
    made = quantize(
        graph,
        calibration,
        policy=policy,
        progress=lambda what, share=None: step(f"{name}: {what}", share),
    )
    seconds = perf_counter() - began
    step(f"{name}: running")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.int8.onnx"
        write_qdq(made, target)
        made = load(target)
        classes = _classes(target, seen)
    checked = seen[:CHECKED]
    (ours,) = golden.host_output(made, golden.run(made, golden.host_input(made, checked))).values()
    row = {
        "way": str(way),
        "golden": _right(_best(ours), classes[: len(checked)]),
        "seconds": round(seconds, 1),
    }
    return row, classes


def _judged(classes: Array, exact: Array, labels: Array, usual: Array) -> dict[str, Any]:
    """The shares of right classes and of the float network's; how many are right where ``usual``
    is not, and the other way round.
    """
    right, other = classes == labels, usual == labels
    return {
        "right": float(right.mean()),
        "agreement": _right(classes, exact),
        "better": int((right & ~other).sum()),
        "worse": int((other & ~right).sum()),
    }


def _theirs(
    path: Path, calibration: Array, seen: Array, step: Any
) -> Iterator[tuple[dict[str, Any], Array | None]]:
    """ONNX Runtime's quantizations to 8 bits, and their classes."""
    runtime = Runtime(path)
    quantizer = StaticQuantizer(path, {runtime.inputs[0]: calibration})
    for recipe in ALL:
        step(f"{path.stem}: ONNX Runtime, {recipe}")
        row: dict[str, Any] = {"recipe": str(recipe)}
        try:
            yield row, _classes(quantizer.quantized(recipe), seen)
        except DataError as error:
            yield row | {"failed": str(error)}, None


def _classes(model: Path | onnx.ModelProto, x: Array) -> Array:
    runtime = Runtime(model)
    runtime.takes_batches(x)
    parts = [next(iter(runtime.run(x[at : at + BATCH]).values())) for at in range(0, len(x), BATCH)]
    return _best(np.concatenate(parts))


def _best(outputs: Array) -> Array:
    return np.argmax(outputs.reshape(len(outputs), -1), axis=1)


def _right(classes: Array, labels: Array) -> float:
    return float((classes == labels).mean())


# The page.


def page(found: list[dict[str, Any]]) -> str:
    """The table of all rows."""
    how = found[0]["how"] if found else {}
    return "\n".join(
        [
            "# What quantization loses",
            "",
            "Made by `benchmarks/quantization.py`; do not edit. Trained float networks that others "
            "published, with labelled",
            "data; the samples that calibrate are not among those that test. All integer networks "
            "run in ONNX Runtime, ours",
            f"from `model.int8.onnx`; the golden model runs the first {CHECKED} frames too. "
            "A8 W4: activations of 8 bits, weights of 4;",
            "equalized: `--equalize`.",
            f"ONNX Runtime {how.get('onnxruntime')}, onnx {how.get('onnx')}, NumPy "
            f"{how.get('numpy')}, Python {how.get('python')}, {how.get('machine')}; samples "
            f"are drawn with seed {how.get('seed')}.",
            "",
            "## Right classes, in percent",
            "",
            "`best of ONNX Runtime`: the highest of its static quantizations to 8 bits on these "
            "test samples. Which one",
            "that is, only the test samples tell; none of ours is chosen by them. The last column "
            "has an interval of",
            f"{100 * CONFIDENCE:.0f} % confidence for all its quantizations together (Bonferroni, "
            "paired samples): where it holds 0, the",
            "difference is no more than the choice of the best one makes.",
            "",
            *_results(found),
            "",
            "## The same classes as the float network, in percent",
            "",
            *_agreements(found),
            "",
            "## ONNX Runtime's static quantizations, right classes in percent",
            "",
            *_recipes(found),
            "",
        ]
    )


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    line = ["---"] + ["---:"] * (len(heads) - 1)
    return [f"| {' | '.join(row)} |" for row in (heads, line, *rows)]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _top(row: dict[str, Any], key: str) -> float | None:
    return max((each[key] for each in row["onnxruntime"] if key in each), default=None)


def _results(found: list[dict[str, Any]]) -> list[str]:
    heads = ["network", "calibrated with", "tested with", "float", "best of ONNX Runtime"]
    rows = []
    for row in found:
        cells = [row["title"], f"{row['calibration']}", f"{row['frames']:,}"]
        cells += [_percent(row["float"]), _percent(_top(row, "right"))]
        for each in row["ours"]:
            lost = 100 * (row["float"] - each["right"])
            cells.append(f"{_percent(each['right'])} ({-lost:+.2f})")
        rows.append([*cells, _ahead(row)])
    return _table([*heads, *map(str, WAYS), f"best of ONNX Runtime less {WAYS[0]}"], rows)


def _ahead(row: dict[str, Any]) -> str:
    """How many points the best recipe is ahead, with an interval that holds for all recipes
    together (Bonferroni), from the samples that only one of the two has right.
    """
    tried = [each for each in row["onnxruntime"] if "right" in each]
    best = max(tried, key=lambda each: each["right"])
    better, worse, frames = best["better"], best["worse"], row["frames"]
    ahead = (better - worse) / frames
    spread = sqrt(max(better + worse - (better - worse) ** 2 / frames, 0)) / frames
    width = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / len(tried)) * spread
    low, high = 100 * (ahead - width), 100 * (ahead + width)
    return f"{100 * ahead:+.2f} ({low:+.2f} to {high:+.2f})"


def _agreements(found: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            row["title"],
            _percent(_top(row, "agreement")),
            *(_percent(each["agreement"]) for each in row["ours"]),
            ", ".join(_percent(each["golden"]) for each in row["ours"]),
            ", ".join(f"{each['seconds']:g}" for each in row["ours"]),
        ]
        for row in found
    ]
    heads = ["network", "best of ONNX Runtime", *map(str, WAYS)]
    return _table([*heads, "golden model and ONNX Runtime", "seconds to quantize"], rows)


def _recipes(found: list[dict[str, Any]]) -> list[str]:
    rows = [
        [str(recipe), *(_percent(row["onnxruntime"][n].get("right")) for row in found)]
        for n, recipe in enumerate(ALL)
    ]
    return _table(["quantization", *(row["title"] for row in found)], rows)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--models", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--only", multiple=True, type=click.Choice(list(NETWORKS)), help="May be repeated.")
@click.option(
    "--frames", type=click.IntRange(1), default=10_000, show_default=True, help="At most, to test."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("out") / "quantization",
    show_default=True,
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=HERE / "quantization.md",
    show_default="quantization.md beside this file",
    help="The page to write.",
)
def main(
    models: Path, data: Path, only: tuple[str, ...], frames: int, output: Path, results: Path
) -> None:
    """Quantize trained networks in several ways and write the page of what each way loses."""
    output.mkdir(parents=True, exist_ok=True)
    with progress_line(err, keep=True) as step:
        for name in only or NETWORKS:
            row = measure(NETWORKS[name], models, data, frames, step)
            write_json(output / f"{name}.json", row)
    kept = [output / f"{name}.json" for name in NETWORKS]
    rows = [json.loads(file.read_text()) for file in kept if file.exists()]
    results.write_text(page(rows), encoding="utf-8")
    err.print(f"written: {results}", highlight=False, markup=False)


if __name__ == "__main__":
    main()
