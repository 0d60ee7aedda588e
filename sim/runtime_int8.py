"""ONNX Runtime's own int8 networks of the same float network, for comparison with ours."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.driver import Compiled
from ..compiler.errors import DataError
from ..compiler.frontend.reference_runtime import Runtime
from ..compiler.frontend.static_quantization import COMMON, StaticQuantizer
from ..compiler.ir.feeds import count, take
from ..compiler.progress import Progress

__all__ = ["runtime_int8"]

#: samples that calibrate at most, spread over those that are given
CALIBRATING = 128
#: frames computed at a time
BATCH = 128

Array = NDArray[Any]


def runtime_int8(
    compiled: Compiled,
    calibration: ir.Feeds,
    x: ir.Feeds,
    judge: Callable[[dict[str, Array]], dict[str, Any]],
    progress: Progress,
) -> dict[str, Any] | None:
    """A row a static quantization: its ``recipe``, and what ``judge`` says of all its outputs for
    ``x``, by name; or ``failed``, the reason. None without the float network.
    """
    path = compiled.directory / "model.float.onnx"
    if not path.exists():
        return None
    total = count(calibration)
    chosen = np.unique(np.linspace(0, total - 1, min(total, CALIBRATING)).astype(np.int64))
    samples = compiled.inside(compiled.before(take(calibration, chosen)))
    found: dict[str, Any] = {
        "runtime": f"ONNX Runtime {onnxruntime.__version__}",
        "calibration": len(chosen),
        "rows": [],
    }
    if compiled.graph.keeps:
        return found | {"failed": "it calibrates frames one by one, and this network keeps states"}
    try:
        quantizer = StaticQuantizer(path, samples)
    except DataError as error:
        return found | {"failed": str(error)}
    for number, recipe in enumerate(COMMON):
        progress(f"ONNX Runtime's int8: {recipe}", number / len(COMMON))
        row = {"recipe": str(recipe)}
        try:
            runtime = Runtime(quantizer.quantized(recipe))
            found["rows"].append(row | judge(_outputs(compiled, runtime, x)))
        except DataError as error:
            found["rows"].append(row | {"failed": str(error)})
    return found


def _outputs(compiled: Compiled, runtime: Runtime, x: ir.Feeds) -> dict[str, Array]:
    """The model's outputs by name, of all frames."""
    parts = list(_parts(compiled, runtime, x))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(compiled: Compiled, runtime: Runtime, x: ir.Feeds) -> Iterator[dict[str, Array]]:
    for start in range(0, count(x), BATCH):
        given = compiled.before(take(x, slice(start, start + BATCH)))
        inside = compiled.inside(given)
        runtime.takes_batches(inside)
        yield compiled.after(given, runtime.run(inside))
