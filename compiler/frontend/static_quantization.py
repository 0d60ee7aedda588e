"""ONNX Runtime's own static quantization of a float model, to compare with."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from .. import ir
from ..errors import DataError
from ..ir.feeds import count, take
from .reference_runtime import IR_VERSION, Runtime, distinct_names

__all__ = ["ALL", "COMMON", "Recipe", "StaticQuantizer"]

# Scales a channel need this opset.
_OPSET = 13


@dataclass(frozen=True)
class Recipe:
    """Arguments of ``onnxruntime.quantization.quantize_static``: how ranges are chosen ("MinMax",
    "Entropy" or "Percentile"), scales a channel or a tensor, signed activations or not.
    """

    method: str
    per_channel: bool
    signed: bool = True

    def __str__(self) -> str:
        scales = "per channel" if self.per_channel else "per tensor"
        return f"{self.method}, {scales}, {'int8' if self.signed else 'uint8'} activations"


#: every static quantization to 8 bits
ALL = tuple(
    Recipe(method, per_channel, signed)
    for method in ("MinMax", "Entropy", "Percentile")
    for per_channel in (False, True)
    for signed in (True, False)
)
#: those that differ most, without the slow ones
COMMON = (Recipe("MinMax", False), Recipe("MinMax", True), Recipe("Percentile", True))


class StaticQuantizer:
    """ONNX Runtime's quantizer for the float model in ``path``, calibrated on ``samples`` of its
    inputs, by name.

    Raises DataError for a model that it can not prepare.
    """

    def __init__(self, path: Path, samples: ir.Feeds) -> None:
        self._model, self._samples = _prepared(path), samples
        runtime = Runtime(self._model)
        self._batch = count(samples) if runtime.takes_batches(samples) else 1

    def quantized(self, recipe: Recipe) -> onnx.ModelProto:
        """The int8 model. Raises DataError where ONNX Runtime fails."""
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
        from onnxruntime.quantization import quantize_static as quantize

        activations = QuantType.QInt8 if recipe.signed else QuantType.QUInt8
        with tempfile.TemporaryDirectory() as folder, _quiet():
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            onnx.save(self._model, source)
            try:
                quantize(
                    source,
                    target,
                    _Reader(self._samples, self._batch),
                    quant_format=QuantFormat.QDQ,
                    per_channel=recipe.per_channel,
                    activation_type=activations,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod[recipe.method],
                )
                return onnx.load(target)
            except Exception as error:  # its exceptions have no common base but this
                raise _failed(recipe, error) from error


class _Reader:
    """The samples as ONNX Runtime asks for them: some at a time, then None."""

    def __init__(self, samples: ir.Feeds, batch: int) -> None:
        self._parts: Iterator[Mapping[str, NDArray[Any]]] = iter(
            [take(samples, slice(at, at + batch)) for at in range(0, count(samples), batch)]
        )

    def __iter__(self) -> "_Reader":
        return self

    def __next__(self) -> Mapping[str, NDArray[Any]]:
        return next(self._parts)

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        return next(self._parts, None)


def _prepared(path: Path) -> onnx.ModelProto:
    """The model after ONNX Runtime's own preparation: a newer opset, BatchNormalization folded."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = distinct_names(onnx.load(path))
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        try:
            if opsets.get("", _OPSET) < _OPSET:
                model = onnx.version_converter.convert_version(model, _OPSET)
            model.ir_version = min(model.ir_version, IR_VERSION)
            onnx.save(model, source)
            quant_pre_process(source, target, skip_symbolic_shape=True)
            return onnx.load(target)
        except Exception as error:  # its exceptions have no common base but this
            raise _failed("preparation", error) from error


def _failed(what: object, error: Exception) -> DataError:
    (why, *_) = str(error).splitlines() or [type(error).__name__]
    return DataError(f"ONNX Runtime's static quantization ({what}) fails: {why}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that ONNX Runtime's quantizer prints, logs or warns of."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
