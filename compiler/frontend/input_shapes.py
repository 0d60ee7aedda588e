"""Shapes of inputs that the user gives, for axes that a model leaves open."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx

from ..errors import DataError, ModelError
from .source import check_dims, parsed

__all__ = ["parse_shapes", "write_with_shapes"]

Sizes = tuple[int, ...]


def parse_shapes(texts: Iterable[str]) -> dict[str, Sizes]:
    """Sizes by input from texts like ``x=1,3,96,96``.

    Raises :class:`~..errors.DataError` for other texts.
    """
    found: dict[str, Sizes] = {}
    for text in texts:
        name, _, given = text.rpartition("=")
        sizes = [size.strip() for size in given.split(",")]
        if not name or not all(size.isdecimal() and int(size) for size in sizes):
            raise DataError(
                f"--input-shape {text}: give the input's name and a size of at least 1 for each "
                "axis, the batch first, as in x=1,3,96,96"
            )
        if name in found:
            raise DataError(f"--input-shape {text}: {name} has a shape already; give one")
        found[name] = tuple(int(size) for size in sizes)
    return found


def write_with_shapes(path: Path, shapes: Mapping[str, Sizes], target: Path) -> None:
    """Write the model ``path``, whose inputs have the ``shapes``, into the file ``target``.

    A symbolic size stands for one number: it is replaced wherever it is named. Raises
    :class:`~..errors.ModelError` where the model has no such input or fixes another size.
    """
    model = parsed(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = {info.name: info for info in model.graph.input if info.name not in stored}
    symbols: dict[str, int] = {}
    for name, sizes in shapes.items():
        if name not in inputs:
            raise ModelError(
                f"{path}: has no input {name}; its inputs are {', '.join(inputs)}; name one of them"
            )
        check_dims(sizes, f"--input-shape of {name}")
        for symbol, size in _fixed(inputs[name], sizes):
            if symbols.setdefault(symbol, size) != size:
                raise ModelError(
                    f"{name}: the size {symbol} is {size} here and {symbols[symbol]} elsewhere; "
                    "it is one number in the model; give the same"
                )
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    target.write_bytes(model.SerializeToString())


def _fixed(info: onnx.ValueInfoProto, sizes: Sizes) -> Iterator[tuple[str, int]]:
    """Write the sizes into the shape of an input; the symbols that they replace."""
    shape = info.type.tensor_type.shape
    if not info.type.tensor_type.HasField("shape"):
        shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in sizes)
    if len(shape.dim) != len(sizes):
        raise ModelError(
            f"{info.name}: {len(sizes)} sizes are given, but the input has {len(shape.dim)} axes; "
            "give one for each, the batch first"
        )
    for axis, (dim, size) in enumerate(zip(shape.dim, sizes, strict=True)):
        if dim.HasField("dim_value") and dim.dim_value > 0 and dim.dim_value != size:
            raise ModelError(
                f"{info.name}: axis {axis} is {dim.dim_value} in the model, not {size}; only axes "
                "that the model leaves open can be given; export it with that size"
            )
        if dim.dim_param:
            yield dim.dim_param, size
        dim.dim_value = size
