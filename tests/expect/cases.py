"""Networks in ONNX's text form, and the text files that say what a pass makes of them.

A file holds a network and the text that is expected for it. Inputs named ``x``, ``x2`` ... are the
network's; every other input is a parameter, for which numbers are drawn.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["check", "network"]

BEGIN = "==== expected\n"


def network(file: Path, folder: Path) -> Path:
    """The ONNX file, written in ``folder``, of the network in ``file``."""
    graph = onnx.parser.parse_graph(_source(file))
    rng = np.random.default_rng(11)
    parameters = [info for info in graph.input if not info.name.startswith("x")]
    for info in parameters:
        graph.input.remove(info)
        graph.initializer.append(numpy_helper.from_array(_drawn(info, rng), info.name))
    path = folder / f"{file.stem}.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def _drawn(info, rng):
    """Floats from 0.5 to 1.5, integers from -3 to 3; a scalar integer (a zero point) is 0."""
    tensor = info.type.tensor_type
    shape = [dim.dim_value for dim in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if dtype.kind == "f":
        return rng.uniform(0.5, 1.5, shape).astype(dtype)
    return rng.integers(-3, 4, shape).astype(dtype) if shape else np.zeros((), dtype)


def check(file: Path, parts: dict[str, str], refresh: bool) -> None:
    """Compare the text of ``parts``, by their titles, with the file's; or write it there."""
    found = "\n".join(f"---- {title}\n{text}" for title, text in parts.items())
    source, _, expected = file.read_text().partition(BEGIN)
    if refresh:
        file.write_text(source + BEGIN + found)
    else:
        assert found == expected, f"{file.name}: refresh with pytest tests/expect --refresh"


def _source(file: Path) -> str:
    return file.read_text().partition(BEGIN)[0]
