"""The legality check blames the pass that broke a rule; the printed form is one line an op."""

from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir

TYPE = ir.Quant(ir.Int(8, True), 0.5, -128)


def graph(*ops, **values):
    table = {name: ir.Value(name, ir.Shape(*shape), q) for name, (shape, q) in values.items()}
    order = np.arange(table["x"].shape.size)
    last = table[ops[-1].output]
    return ir.Graph(
        "net",
        (ir.InputPort("in", (2, 2, 1), "float32", "x", order),),
        (ir.OutputPort("out", last.shape.array, "float32", last.name, np.arange(last.shape.size)),),
        ops,
        table,
    )


RELU = ir.Unary("relu", ("x",), "y", ir.Identity(), clamp=ir.Clamp(0.0))
GOOD = graph(RELU, x=((2, 2, 1), None), y=((2, 2, 1), None))
CONV = ir.Conv("conv", ("x",), "y", np.ones((3, 1, 1, 1), np.float32))


def test_a_legal_graph_passes():
    ir.verify(GOOD, after="test")


BROKEN = {
    "reads late": (
        GOOD.replace([replace(RELU, inputs=("y",))]),
        "relu reads y before it is computed",
    ),
    "computes twice": (GOOD.replace([RELU, RELU]), "relu computes y a second time"),
    "wrong shape": (
        graph(RELU, x=((2, 2, 1), None), y=((2, 1, 1), None)),
        "relu: y is 2x1x1, but the operator makes 2x2x1",
    ),
    "empty clamp": (
        GOOD.replace([replace(RELU, clamp=ir.Clamp(1.0, 0.0))]),
        "relu: clamps to 1.0 .. 0.0",
    ),
    "wrong channels": (
        graph(replace(CONV, groups=2), x=((2, 2, 1), None), y=((2, 2, 3), None)),
        "conv: weight .* in 2 groups for 1 channels",
    ),
    "pool requantizes": (
        graph(
            ir.MaxPool("pool", ("x",), "y", ir.Window()),
            x=((2, 2, 1), TYPE),
            y=((2, 2, 1), replace(TYPE, zero=0)),
        ),
        "pool: x is i8 .*, y is i8",
    ),
    "bad reshape": (
        graph(ir.Reshape("flat", ("x",), "y"), x=((2, 2, 1), None), y=((1, 1, 3), None)),
        "flat: y is 1x1x3",
    ),
}


@pytest.mark.parametrize(("broken", "message"), BROKEN.values(), ids=BROKEN)
def test_an_illegal_graph_blames_the_pass(broken, message):
    with pytest.raises(ir.IRError, match=f"^after fuse: .*{message}"):
        ir.verify(broken, after="fuse")


def test_port_orders_are_permutations():
    port = replace(GOOD.inputs[0], order=np.zeros(4, np.int64))
    with pytest.raises(ir.IRError, match="the order of in is no permutation of 4 elements"):
        ir.verify(replace(GOOD, inputs=(port,)), after="frontend")


def test_every_operator_prints():
    window = ir.Window((3, 2), (2, 1), (1, 2), (1, 0, 0, 1))
    ops = (
        ir.Conv(
            "c",
            ("x",),
            "a",
            np.ones((4, 3, 2, 1), np.int8),
            np.ones(4, np.float32),
            None,
            None,
            window=window,
            clamp=ir.Clamp(0.0, 6.0),
        ),
        ir.MaxPool("m", ("a",), "b", ir.Window((2, 2))),
        ir.AveragePool("v", ("b",), "c", ir.Window(), True),
        ir.Pad("p", ("c",), "d", (1, 2, 3, 4), 0.5),
        ir.Add("s", ("d", "d"), "e"),
        ir.Unary("u", ("e",), "f", ir.functions.LeakyRelu(0.1)),
        ir.Concat("k", ("f", "f"), "g"),
        ir.Reshape("r", ("g",), "h"),
        ir.ArgMax("x", ("h",), "i"),
    )
    values = {name: ((2, 2, 1), TYPE) for name in "xabcdefghi"}
    lines = ir.to_text(graph(*ops, **values)).splitlines()
    head = ": 2x2x1 i8 * 0.5 @ -128 = "
    assert [line.strip() for line in lines] == [
        "graph net",
        f"%x{head}input in [2, 2, 1] float32",
        f"%a{head}conv %x, 3x2/2x1 dilation 1x2 pads 1,0,0,1, weight int8 scaled, clamp 0..6  # c",
        f"%b{head}maxpool %a, 2x2/1x1  # m",
        f"%c{head}averagepool %b, 1x1/1x1, padding counts  # v",
        f"%d{head}pad %c, 1,2,3,4 with 0.5  # p",
        f"%e{head}add %d, %d  # s",
        f"%f{head}LeakyRelu(alpha=0.1) %e  # u",
        f"%g{head}concat %f, %f  # k",
        f"%h{head}reshape %g  # r",
        f"%i{head}argmax %h  # x",
        "output out [2, 2, 1] float32 = %i",
    ]


def test_a_graph_with_float_weights_is_not_quantized():
    values = {"x": ((2, 2, 1), TYPE), "y": ((2, 2, 3), TYPE)}
    scaled = replace(CONV, weight=CONV.weight.astype(np.int8), weight_scale=np.ones(3, np.float32))
    assert not graph(CONV, **values).quantized
    assert graph(scaled, **values).quantized
