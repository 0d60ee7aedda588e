"""Write ``operators.md`` from the code: what each ONNX operator becomes, and what that costs.

Every row is tried: each operator of the importer's registry is imported from a small
model, and the hardware is that which lowering makes of it. ``python docs/generate.py`` writes the
page; ``tests/test_docs.py`` fails when the page is not what this script makes.
"""

import inspect
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from amaranth.hdl import UnusedElaboratable
from gatewright import boards
from gatewright.compiler import ir
from gatewright.compiler.frontend import (
    dialects,
    elementwise,
    linear,
    linear_maps,
    load,
    normalizations,
    output_layout,
    pooling,
    qdq,
    recurrent,
    reductions,
    selections,
    shapes,
    transposed,
)
from gatewright.compiler.frontend.nodes import first_opset
from gatewright.compiler.frontend.states import State, describe
from gatewright.compiler.passes.argmax_in_hardware import argmax_in_hardware
from gatewright.compiler.plan.candidates import least_designs
from gatewright.compiler.quantize.assume import assume_types
from gatewright.compiler.stages import StageKind, kind_of
from onnx import helper, numpy_helper

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).with_name("operators.md")
BOARD = "ulx3s-85f"
COMPUTE = (
    linear,
    transposed,
    elementwise,
    pooling,
    reductions,
    normalizations,
    recurrent,
    selections,
    linear_maps,
)

#: (a constant's name, its array): what the samples below may name as inputs
CONSTANTS: dict[str, np.ndarray] = {
    **{
        f"{name} w": np.full((1, kind.gates * 4, 4), 0.5, np.float32)
        for name, kind in recurrent.KINDS.items()
    },
    "kernel": np.full((4, 4, 3, 3), 0.5, np.float32),
    "single": np.full((4, 1, 3, 3), 0.5, np.float32),
    "phases": np.full((4, 4, 2, 2), 0.5, np.float32),
    "matrix": np.full((4, 3), 0.5, np.float32),
    "four": np.full(4, 0.5, np.float32),
    "channel": np.full((4, 1, 1), 0.5, np.float32),
    "slopes": np.linspace(0.1, 0.4, 4, dtype=np.float32).reshape(4, 1, 1),
    "map": np.linspace(-1, 1, 144, dtype=np.float32).reshape(4, 6, 6),
    "number": np.array(0.5, np.float32),
    "zero": np.array(0.0, np.float32),
    "six": np.array(6.0, np.float32),
    "space": np.array([2, 3], np.int64),
    "first": np.array([1], np.int64),
    "axis": np.array(1, np.int64),
    "depth": np.array([4], np.int64),
    "off on": np.array([0, 1], np.float32),
    "place": np.array([[[[2]]]], np.int64),
    "places": np.array([[0, 1], [0, 2]], np.int64),
    "row": np.full((2, 6, 6), 0.5, np.float32),
    "cell": np.full((1, 1, 1, 1), 0.5, np.float32),
    "grid": np.zeros((1, 3, 3, 2), np.float32),
    "image": np.array([3, 3], np.int64),
    "block": np.array([2, 2], np.int64),
    "size": np.array([1, 1, 2, 2], np.int64),
    "border": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
}
MAP, VECTOR, TOKENS, STEP = [1, 4, 6, 6], [1, 4], [1, 6, 4], [1, 1, 4]

#: how each operator is used: (words for that use, inputs, attributes, input shape).
#: ``x`` is the input, ``r`` and ``t`` are activations made of it.
USES: dict[str, list[tuple[str, list[str], dict[str, Any], list[int]]]] = {
    **{name: [("", ["x"], {}, MAP)] for name in elementwise.FUNCTIONS},
    **{name: [("by a constant", ["x", "number"], {}, MAP)] for name in elementwise.BY_CONSTANT},
    "Mod": [("by a constant", ["x", "number"], {"fmod": 1}, MAP)],
    "Not": [("", ["x"], {}, MAP)],
    **{name: [("of two activations", ["x", "r"], {}, MAP)] for name in ("And", "Or", "Xor")},
    "Where": [("by an activation", ["x", "r", "number"], {}, MAP)],
    "Conv": [("", ["x", "kernel"], {}, MAP), ("depthwise", ["x", "single"], {"group": 4}, MAP)],
    "ConvTranspose": [("", ["x", "phases"], {"strides": [2, 2]}, MAP)],
    "Gemm": [("", ["x", "matrix"], {}, VECTOR)],
    "MatMul": [
        ("of two activations", ["x", "r"], {}, MAP),
        ("by a constant", ["x", "matrix"], {}, VECTOR),
    ],
    "BatchNormalization": [("", ["x", "four", "four", "four", "four"], {}, MAP)],
    "Relu": [("", ["x"], {}, MAP)],
    "Clip": [("", ["x", "zero", "six"], {}, MAP)],
    "PRelu": [
        ("one slope", ["x", "number"], {}, MAP),
        ("a slope a channel", ["x", "slopes"], {}, MAP),
        ("computed slopes", ["x", "r"], {}, MAP),
    ],
    "Add": [
        ("of two activations", ["x", "r"], {}, MAP),
        ("of a constant", ["x", "channel"], {}, MAP),
        ("of a constant map", ["x", "map"], {}, MAP),
    ],
    "Sub": [
        ("of two activations", ["x", "r"], {}, MAP),
        ("of a constant", ["x", "channel"], {}, MAP),
    ],
    "Mul": [
        ("of two activations", ["x", "r"], {}, MAP),
        ("of an activation and a function of it", ["x", "t"], {}, MAP),
        ("by a constant", ["x", "channel"], {}, MAP),
    ],
    "Sum": [("of two activations", ["x", "r"], {}, MAP)],
    "Mean": [("of two activations", ["x", "r"], {}, MAP)],
    "Max": [("of two activations", ["x", "r"], {}, MAP)],
    "Min": [("of two activations", ["x", "r"], {}, MAP)],
    "Div": [
        ("by a constant", ["x", "channel"], {}, MAP),
        ("of two activations", ["r", "x"], {}, MAP),
    ],
    "MaxPool": [("", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]}, MAP)],
    "AveragePool": [("", ["x"], {"kernel_shape": [2, 2], "strides": [2, 2]}, MAP)],
    "ReduceMean": [
        ("over rows and columns", ["x"], {"axes": [2, 3]}, MAP),
        ("over channels", ["x"], {"axes": [1]}, MAP),
    ],
    "ReduceSum": [
        ("over rows and columns", ["x", "space"], {}, MAP),
        ("over channels", ["x", "first"], {}, MAP),
    ],
    "ReduceMax": [("over any axes", ["x"], {"axes": [1, 2]}, MAP)],
    "ReduceMin": [("over any axes", ["x"], {"axes": [1, 2]}, MAP)],
    "ReduceL1": [("over any axes", ["x"], {"axes": [1, 2]}, MAP)],
    "ReduceL2": [("over any axes", ["x"], {"axes": [1, 2]}, MAP)],
    "ReduceSumSquare": [("over any axes", ["x"], {"axes": [1, 2]}, MAP)],
    "ReduceLogSum": [("over any axes", ["x"], {"axes": [1, 2]}, MAP)],
    "ReduceLogSumExp": [("over any axes", ["x"], {"axes": [1, 2]}, MAP)],
    "ReduceProd": [("over any axes", ["x"], {"axes": [1]}, [1, 2, 3])],
    "CumProd": [("", ["x", "axis"], {}, [1, 3, 4])],
    "OneHot": [("", ["x", "depth", "off on"], {}, VECTOR)],
    "Einsum": [
        ("of two activations", ["x", "r"], {"equation": "nchw,nchw->nchw"}, MAP),
        ("by a constant", ["x", "matrix"], {"equation": "ni,io->no"}, VECTOR),
    ],
    "Trilu": [("", ["x"], {}, MAP)],
    "Scatter": [("at constant places", ["x", "place", "cell"], {"axis": 3}, MAP)],
    "ScatterElements": [("at constant places", ["x", "place", "cell"], {"axis": 3}, MAP)],
    "ScatterND": [("at constant places", ["x", "places", "row"], {}, MAP)],
    "GridSample": [("", ["x", "grid"], {}, MAP)],
    "Col2Im": [("", ["x", "image", "block"], {}, [1, 4, 4])],
    "AffineGrid": [("", ["x", "size"], {}, [1, 2, 3])],
    "LpPool": [("", ["x"], {"kernel_shape": [2, 2]}, MAP)],
    "GlobalLpPool": [("", ["x"], {}, MAP)],
    "LayerNormalization": [("", ["x", "four", "four"], {}, TOKENS)],
    "RMSNormalization": [("", ["x", "four"], {}, TOKENS)],
    "InstanceNormalization": [("", ["x", "four", "four"], {}, MAP)],
    "GroupNormalization": [("", ["x", "four", "four"], {"num_groups": 2}, MAP)],
    "MeanVarianceNormalization": [("", ["x"], {}, MAP)],
    "LRN": [("", ["x"], {"size": 3}, MAP)],
    "LpNormalization": [("", ["x"], {}, TOKENS)],
    **{
        name: [
            ("first step", ["x", f"{name} w", f"{name} w"], {"hidden_size": 4, "layout": 1}, STEP),
            (
                f"of more than {recurrent.MOST_OPERATORS // kind.operators} steps",
                ["x", f"{name} w", f"{name} w"],
                {"hidden_size": 4, "layout": 1},
                [1, recurrent.MOST_OPERATORS // kind.operators + 1, 4],
            ),
        ]
        for name, kind in recurrent.KINDS.items()
    },
    "GlobalAveragePool": [("", ["x"], {}, MAP)],
    "GlobalMaxPool": [("", ["x"], {}, MAP)],
    "Pad": [("by a constant", ["x", "border", "number"], {}, MAP)],
    "Concat": [("of channels", ["x", "r"], {"axis": 1}, MAP)],
}


def page() -> str:
    """The whole of ``operators.md``."""
    imported = dict(_imported())
    return "\n".join(
        [
            "# Operators",
            "",
            "Made from the code by `docs/generate.py`; do not edit.",
            "",
            "## From ONNX to the graph",
            "",
            "Relu, Clip, scales and biases are fused into the operator before them if nothing is",
            "rounded in between; the table shows each operator alone.",
            "",
            *_table(("ONNX operator", "becomes", "as one stage of"), _rows(imported)),
            "",
            "## From the graph to hardware",
            "",
            "Cycles are those of a stage whose input is there and whose output is taken; one that",
            "slides a window never takes fewer than its input has beats. Stages are those of 8-bit",
            "integers; functions of more than 10 bits are built as `docs/resources.md` describes.",
            "",
            *_table(
                ("operator", "function", "stage", "folding", "cycles a frame"), _hardware(imported)
            ),
            "",
            "## Without hardware",
            "",
            *_table(("ONNX operator", "what becomes of it"), _free()),
            "",
            "## Other dialects",
            "",
            "Rewritten before import: an operator on integers becomes the float one on the right,",
            "between DequantizeLinear and QuantizeLinear with the same scales and zero points.",
            "",
            *_table(("operator in the file", "becomes"), _dialects()),
            "",
        ]
    )


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    return [
        "| " + " | ".join(cells) + " |" for cells in (heads, tuple("---" for _ in heads), *rows)
    ]


def _names(*modules: Any) -> list[str]:
    return [name for module in modules for name in module.HANDLERS]


Uses = list[tuple[str, ir.Graph, list[ir.Op]]]


def _imported() -> Iterator[tuple[str, Uses]]:
    """Each computing operator of the registry with its uses: words, graph, operators."""
    assert set(_names(*COMPUTE)) == set(USES), (
        f"give docs/generate.py a use of {set(_names(*COMPUTE)) ^ set(USES)}"
    )
    for name in _names(*COMPUTE):
        found = []
        for words, inputs, attributes, shape in USES[name]:
            graph = assume_types(_load(name, inputs, attributes, shape))
            ops = [op for op in graph if op.name.split("/")[0] in ("node", "y") and not op.view]
            found.append((words, graph, ops))
        yield name, found


def _load(op: str, inputs: list[str], attributes: dict[str, Any], shape: list[int]) -> ir.Graph:
    """A network of that one node, and of what computes its other activation."""
    pool = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    others = {
        "r": helper.make_node("MaxPool", ["x"], ["r"], name="other", **pool),
        "t": helper.make_node("Tanh", ["x"], ["t"], name="other"),
    }
    nodes = [node for name, node in others.items() if name in inputs]
    nodes.append(helper.make_node(op, inputs, ["y"], name="node", **attributes))
    return _network(nodes, shape)


def _network(nodes: list[onnx.NodeProto], shape: list[int]) -> ir.Graph:
    """The network of the ``nodes``, from x to y."""
    inputs = [name for node in nodes for name in node.input]
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        for name, size in (("x", shape), ("y", None))
    ]
    constants = [
        numpy_helper.from_array(CONSTANTS[name], name)
        for name in dict.fromkeys(inputs)
        if name in CONSTANTS
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "net", ports[:1], ports[1:], constants),
        opset_imports=[helper.make_opsetid("", _opset(nodes))],
        ir_version=11,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return load(path)


def _opset(nodes: list[onnx.NodeProto]) -> int:
    """One that has all operators of the nodes."""
    opset = max(17, *(first_opset(node.op_type) for node in nodes))
    schemas = [onnx.defs.get_schema(node.op_type, opset) for node in nodes]
    ended = [schema.since_version - 1 for schema in schemas if schema.deprecated]
    return min([opset, *ended])


def _rows(imported: dict[str, Uses]) -> Iterator[tuple[str, ...]]:
    for name, uses in imported.items():
        for words, graph, ops in uses:
            yield (
                name + (f", {words}" if words else ""),
                ", ".join(f"`{_kind(op)}`" for op in ops),
                ", ".join(f"`hw.{_stage(graph, op)[0]}`" for op in ops),
            )


def _kind(op: ir.Op) -> str:
    """The operator's name, and what makes it special."""
    if isinstance(op, ir.Unary):
        return f"Unary {type(op.function).__name__}" + (
            " + clamp" if op.clamp != ir.Clamp() else ""
        )
    if isinstance(op, ir.Conv) and op.depthwise:
        return "Conv, a product a channel" if op.window.taps == 1 else "Conv, depthwise"
    return type(op).__name__


def _stage(graph: ir.Graph, op: ir.Op) -> tuple[str, Any, StageKind]:
    """The hardware component of ``op``: its name, its config's type, its kind of stage."""
    device = boards.get(BOARD).device
    design = least_designs(op, graph, device)[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        stage: Any = design.build(design.constants())
        name, config = type(stage).__name__, type(stage.config)
        del stage
    return name, config, kind_of((op,))


def _hardware(imported: dict[str, Uses]) -> Iterator[tuple[str, ...]]:
    """A row an operator of the graph."""
    first: dict[type, tuple[ir.Graph, ir.Op]] = {}
    for uses in imported.values():
        for _, graph, ops in uses:
            for op in ops:
                first.setdefault(type(op), (graph, op))
    dense = argmax_in_hardware(imported["Gemm"][0][1])
    first[ir.ArgMax] = (dense, dense.ops[-1])
    kept = _kept()
    first[ir.FrameDelay] = (kept, kept.ops[0])
    turned = _turned()
    first[ir.Gather] = (turned, next(op for op in turned if isinstance(op, ir.Gather)))
    for function, (network, op) in first.items():
        stage, config, kind = _stage(network, op)
        yield (
            f"`{function.__name__}`",
            _sentence(function),
            f"`hw.{stage}`",
            kind.folding,
            _sentence(config.cycles).removeprefix("Cycles a frame: "),
        )


def _kept() -> ir.Graph:
    """A network that adds its last output to its input."""
    nodes = [
        helper.make_node("Add", ["x", "before"], ["after"], name="add"),
        helper.make_node("Relu", ["after"], ["y"], name="relu"),
    ]
    size = [1, 1, 1, 6]
    ports = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        for name in ("x", "before", "after", "y")
    }
    graph = helper.make_graph(
        nodes, "net", [ports["x"], ports["before"]], [ports["y"], ports["after"]]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=11)
    describe(model, [State("before", "after")])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return assume_types(load(path))


def _turned() -> ir.Graph:
    """A network that transposes a map between two operators."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["r"], name="other", kernel_shape=[2, 2]),
        helper.make_node("Transpose", ["r"], ["t"], name="turn", perm=[0, 1, 3, 2]),
        helper.make_node("MaxPool", ["t"], ["y"], name="pool", kernel_shape=[2, 2]),
    ]
    return assume_types(_network(nodes, MAP))


def _sentence(thing: Any) -> str:
    """The first paragraph of a docstring on one line."""
    text = inspect.getdoc(thing) or ""
    line = " ".join(text.split("\n\n")[0].split())
    for found, better in (("``", "`"), (":class:", ""), ("|", "\\|")):
        line = line.replace(found, better)
    return line.rstrip(".")


INTERPOLATES = "; modes linear and cubic: a `Gather` and a `Conv`"


def _free() -> Iterator[tuple[str, ...]]:
    """Operators that cost nothing in hardware."""
    for name, handler in sorted(shapes.HANDLERS.items()):
        yield (
            name,
            (
                "changes nothing"
                if handler.elementwise
                else "takes elements as they are: another order of the stream or of the weights, "
                "or a `Gather` before an operator that needs its own order"
                + INTERPOLATES
                * (name in shapes.RESIZING)
            ),
        )
    for name in qdq.HANDLERS:
        yield name, "says how the value is quantized; part of the stage that computes it"
    for name in output_layout.HANDLERS:
        yield (
            name,
            "the host's, at the end of the network"
            + ("; in hardware with `--argmax`" if name == "ArgMax" else ""),
        )


def _dialects() -> Iterator[tuple[str, ...]]:
    """Operators that are rewritten before the importer reads them."""
    for name, becomes in dialects.BECOMES.items():
        domain, _, op = name.rpartition("::")
        yield op + (f" ({domain})" if domain else ""), becomes


if __name__ == "__main__":
    PAGE.write_text(page())
