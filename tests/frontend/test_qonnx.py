"""QONNX networks compute what its definition says, and become the standard file."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.sim import golden
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from .conftest import reference_runtime, steps

N = helper.make_node
DOMAIN = "qonnx.custom_op.general"
DOMAINS = [DOMAIN, "finn.custom_op.general", "onnx.brevitas"]


class Quant(OpRun):
    """The definition: scale, shift, clamp, round half to even, and back."""

    op_domain = DOMAIN

    def _run(self, x, scale, zero, bits, signed=1, narrow=0, rounding_mode="ROUND"):
        low = -(2 ** (bits - 1)) + narrow if signed else 0 * bits
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        round_ = {"ROUND": np.round, "FLOOR": np.floor, "CEIL": np.ceil}[rounding_mode]
        y = round_(np.clip(x / scale + zero, low, high))
        return (((y - zero) * scale).astype(np.float32),)


class BipolarQuant(OpRun):
    op_domain = DOMAIN

    def _run(self, x, scale):
        return (np.where(x >= 0, scale, -scale).astype(np.float32),)


class Trunc(OpRun):
    """Of both versions: with the bits before, or with the scale after."""

    op_domain = DOMAIN

    def _run(self, x, scale, zero, bits, last, out=None, rounding_mode="FLOOR", signed=1, narrow=0):
        round_ = {"FLOOR": np.floor, "CEIL": np.ceil, "ROUND": np.round}[rounding_mode]
        steps = np.round(x / scale + zero)
        if out is None:
            return ((round_(steps / 2.0 ** (bits - last)) * scale).astype(np.float32),)
        low = -(2 ** (out - 1)) + narrow if signed else 0
        high = 2 ** (out - 1) - 1 if signed else 2**out - 1 - narrow
        y = np.clip(steps / 2 ** np.round(np.log2(last / scale)), low, high)
        return ((round_(y) * last).astype(np.float32),)


def q(x, y, scale, zero, bits, op="Quant", domain=DOMAIN, **attributes):
    attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
    return N(op, [x, scale, zero, bits], [y], domain=domain, name=f"of {y}", **attributes)


def bipolar(x, y, scale):
    return N("BipolarQuant", [x, scale], [y], domain=DOMAIN, name=f"of {y}")


RNG = np.random.default_rng(11)
NUMBERS = {
    "none": np.float32(0),
    "sx": np.float32(0.0317),
    "sy": np.float32(0.0531),
    "one": np.float32(1),
    "half": np.float32(0.43),
    **{f"bits{n}": np.float32(n) for n in (1, 2, 3, 4, 8, 12, 16, 17)},
    "w": RNG.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32),
    "each": np.float32([0.21, 0.3, 0.11, 0.17]).reshape(4, 1, 1, 1),
    "bias": np.float32([0.3, -0.7, 0.11, 0.0]),
    "gain": np.float32([0.9, 1.3, -0.7, 1.1]),
    "shift": np.float32([0.13, -0.21, 0.3, 0.07]),
    "mean": np.float32([0.11, -0.1, 0.2, 0.0]),
    "var": np.float32([1.1, 0.8, 1.3, 0.6]),
}
NORM = N("BatchNormalization", ["c", "gain", "shift", "mean", "var"], ["n"])
FIRST = q("x", "xq", "sx", "none", "bits8")
LAST = q("r", "y", "sy", "none", "bits8")
CONV = N("Conv", ["xq", "wq"], ["r"])


def weights(scale="each", bits="bits4", **attributes):
    return q("w", "wq", scale, "none", bits, **attributes)


@pytest.fixture
def qonnx(model, rng, tmp_path):
    """Load a network, check golden and ONNX Runtime on the standard file against the definition;
    returns the graph of that file.
    """

    def check(nodes, shape=(3, 6, 5), frames=30, share=0.999, **numbers):
        read = {name for node in nodes for name in node.input}
        numbers = {name: a for name, a in (NUMBERS | numbers).items() if name in read}
        path = model(nodes, ["N", *shape], domains=DOMAINS, **numbers)
        graph = load(path)
        assert graph.quantized
        assert not graph.verbatim
        written = tmp_path / "standard.onnx"
        write_qdq(graph, written)
        again = load(written)
        x = rng.uniform(-3, 3, (frames, *shape)).astype(np.float32)
        x[0] = 0
        ops = [Quant, type("IntQuant", (Quant,), {}), BipolarQuant, Trunc]
        (wanted,) = ReferenceEvaluator(onnx.load(path), new_ops=ops).run(None, {"x": x})
        values = golden.run(again, golden.host_input(again, x))
        found = golden.host_output(again, values)["y"]
        assert np.ptp(found) > 0
        for seen in (found, reference_runtime(written, x)[0]):
            assert steps(again, seen, wanted) <= 1
            assert np.isclose(seen, wanted, rtol=1e-5, atol=1e-5).mean() > share
        return again

    return check


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12, 16])
@pytest.mark.parametrize(
    "attributes", [{}, {"narrow": 1}, {"signed": 0}, {"signed": 0, "narrow": 1}]
)
def test_activations_of_any_width(qonnx, bits, attributes):
    nodes = [FIRST, weights(), CONV, q("r", "y", "sy", "none", f"bits{bits}", **attributes)]
    share = 0.999 if bits < 16 else 0.99  # float32 has 8 bits more than 16
    graph = qonnx(nodes, share=share, sy=np.float32(3 / 2**bits))
    (op,) = graph
    assert graph.quant(op.output).dtype == ir.Int(bits, bool(attributes.get("signed", 1)))


def test_one_bit_of_zero_and_one(qonnx):
    nodes = [FIRST, weights(), CONV, q("r", "y", "one", "none", "bits1", signed=0)]
    graph = qonnx(nodes)
    assert graph.quant(graph.ops[-1].output).dtype == ir.Int(1, False)


@pytest.mark.parametrize("scale", ["half", "each"])
@pytest.mark.parametrize(("bits", "narrow"), [("bits2", 1), ("bits4", 0), ("bits8", 1)])
def test_weights_a_tensor_or_a_channel(qonnx, scale, bits, narrow):
    graph = qonnx([FIRST, weights(scale, bits, narrow=narrow), CONV, LAST])
    values = np.unique(graph.ops[0].weight)
    assert len(values) <= 2 ** int(bits[4:]) - narrow


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL"])
def test_weights_of_another_rounding(qonnx, mode):
    qonnx([FIRST, weights(rounding_mode=mode), CONV, LAST])


def test_binary_weights(qonnx):
    (op,) = qonnx([FIRST, bipolar("w", "wq", "half"), CONV, LAST])
    assert set(np.unique(op.weight)) == {-1, 1}


def test_zero_points(qonnx):
    nodes = [
        q("x", "xq", "sx", "z", "bits8", signed=0),
        q("w", "wq", "half", "zw", "bits4"),
        CONV,
        q("r", "y", "sy", "z", "bits8", signed=0),
    ]
    qonnx(nodes, z=np.float32(100), zw=np.float32(-2), sy=np.float32(0.131))


def test_quantized_bias(qonnx):
    """Of the width of accumulators."""
    nodes = [
        FIRST,
        weights("half"),
        q("bias", "bq", "product", "none", "bits32"),
        N("Conv", ["xq", "wq", "bq"], ["r"]),
        LAST,
    ]
    product = NUMBERS["sx"] * NUMBERS["half"]
    (op,) = qonnx(nodes, product=product, bits32=np.float32(32))
    assert op.bias.dtype.kind == "i"


@pytest.mark.parametrize("domain", ["", *DOMAINS])
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_names_of_the_quantizer(model, domain, op):
    nodes = [q("x", "xq", "sx", "none", "bits8", op, domain), N("Tanh", ["xq"], ["r"]), LAST]
    numbers = {name: NUMBERS[name] for name in ("sx", "sy", "none", "bits8")}
    graph = load(model(nodes, ["N", 5], domains=DOMAINS, **numbers))
    assert [op.function for op in graph] == [ir.functions.Tanh()]


def test_parameters_that_are_computed(qonnx):
    nodes = [
        FIRST,
        N("Mul", ["half", "one"], ["scale"]),
        N("Sqrt", ["bits16"], ["bits"]),
        N("Transpose", ["w"], ["wt"], perm=[0, 1, 3, 2]),
        q("wt", "wq", "scale", "none", "bits"),
        CONV,
        LAST,
    ]
    qonnx(nodes)


def test_network_of_two_bits(qonnx):
    """As FINN's CNV: BatchNormalization, Relu, two bits, MaxPool."""
    dense = RNG.normal(0, 0.5, (16, 4)).astype(np.float32)
    nodes = [
        FIRST,
        weights("half", "bits2", narrow=1),
        N("Conv", ["xq", "wq"], ["c"]),
        NORM,
        N("Relu", ["n"], ["a"]),
        q("a", "aq", "half", "none", "bits2", signed=0),
        N("MaxPool", ["aq"], ["p"], kernel_shape=[2, 1], strides=[2, 1]),
        N("Flatten", ["p"], ["f"]),
        q("v", "vq", "half", "none", "bits2", narrow=1),
        N("MatMul", ["f", "vq"], ["r"]),
        LAST,
    ]
    graph = qonnx(nodes, shape=(3, 6, 4), v=dense)
    assert [type(op) for op in graph if not op.view] == [ir.Conv, ir.MaxPool, ir.Conv]


@pytest.mark.parametrize("before", ["directly", "behind a Clip"])
def test_network_of_one_bit(qonnx, before):
    """As FINN's TFC: ±1 as input, weights and activations. A 0 counts as +1, and sums of products
    of powers of two are 0 often.
    """
    dense = [RNG.normal(0, 0.5, shape).astype(np.float32) for shape in ((6, 9), (6, 6), (3, 6))]
    names = ["gain", "shift", "mean", "var"]
    norms = {name: np.resize(NUMBERS[name], 6) for name in names}
    clip = [N("Clip", ["n1", "lowest", "one"], ["k1"])] if before != "directly" else []
    nodes = [
        bipolar("x", "xq", "one"),
        *(bipolar(f"w{n}", f"b{n}", "half") for n in range(3)),
        *(N("Transpose", [f"b{n}"], [f"t{n}"], perm=[1, 0]) for n in range(3)),
        N("MatMul", ["xq", "t0"], ["c0"]),
        N("BatchNormalization", ["c0", *names], ["n0"]),
        bipolar("n0", "a0", "half"),
        N("MatMul", ["a0", "t1"], ["n1"]),
        *clip,
        bipolar("k1" if clip else "n1", "a1", "half"),
        N("MatMul", ["a1", "t2"], ["r"]),
        LAST,
    ]
    more = {f"w{n}": w for n, w in enumerate(dense)} | {
        "lowest": np.float32(-1),
        "half": np.float32(0.5),
    }
    graph = qonnx(nodes, shape=(9,), frames=400, **norms, **more)
    bits = {value.quant.dtype for value in graph.values.values()}
    assert bits == {ir.Int(1, False), ir.Int(2, True), ir.Int(8, True)}


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND"])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("version", [1, 2])
def test_average_of_integers_without_its_last_bits(qonnx, mode, signed, version):
    """As Brevitas' TruncAvgPool2d: the sum, then without as many bits as it has more."""
    last = {1: ["bits12", "bits8"], 2: ["bits12", "after", "bits8"]}[version]
    attributes = {"rounding_mode": mode} | ({} if version == 1 else {"signed": signed})
    nodes = [
        q("x", "xq", "sx", "none", "bits8", signed=signed),
        N("AveragePool", ["xq"], ["a"], kernel_shape=[4, 3]),
        N("Mul", ["a", "area"], ["m"]),
        N("Trunc", ["m", "sx", "none", *last], ["y"], domain=DOMAIN, **attributes),
    ]
    # ONNX Runtime's sums of powers of two are exact, and ties frequent
    graph = qonnx(nodes, sx=np.float32(1 / 32), area=np.float32(12), after=np.float32(1 / 2))
    assert [type(op) for op in graph] == [ir.Conv]


REFUSED = {
    "bits that are not there": (
        N("Trunc", ["x", "one", "none", "bits4", "bits8"], ["y"], domain=DOMAIN, name="n"),
        "n (qonnx.custom_op.general::Trunc): drops -4 bits with the rounding_mode FLOOR; accepted",
    ),
    "a Trunc with a zero point": (
        N("Trunc", ["x", "one", "one", "bits8", "bits4"], ["y"], domain=DOMAIN, name="n"),
        "n (qonnx.custom_op.general::Trunc): has 1 scales, or a zero point; accepted: one scale",
    ),
    "floats": (
        N("FloatQuant", ["x", *["one"] * 6], ["y"], domain=DOMAIN, name="n"),
        "n (qonnx.custom_op.general::FloatQuant): quantizes to floats of few bits; accepted: Quant",
    ),
    "another rounding": (
        q("x", "y", "one", "none", "bits4", rounding_mode="FLOOR"),
        "of y (qonnx.custom_op.general::Quant): its rounding_mode is FLOOR; accepted: ROUND, HALF",
    ),
    "an unknown rounding": (
        q("w", "y", "one", "none", "bits4", rounding_mode="LUCK"),
        "of y (qonnx.custom_op.general::Quant): its rounding_mode is LUCK; accepted: ROUND, HALF",
    ),
    "too many bits": (
        q("x", "y", "one", "none", "bits17"),
        "of y (qonnx.custom_op.general::Quant): its bit width is 17; accepted: a whole number from",
    ),
    "half a bit": (
        q("x", "y", "one", "none", "half"),
        "of y (qonnx.custom_op.general::Quant): its bit width is 0.43; accepted: a whole number",
    ),
    "a zero point between integers": (
        q("x", "y", "one", "half", "bits4"),
        "of y (qonnx.custom_op.general::Quant): its zero point is no integer; accepted: whole",
    ),
    "a scale of nothing": (
        q("x", "y", "none", "none", "bits4"),
        "of y (qonnx.custom_op.general::Quant): its scale is not above 0; accepted: finite",
    ),
    "scales of an activation": (
        q("x", "y", "shift", "none", "bits4"),
        "of y (qonnx.custom_op.general::Quant): has 4 scales or zero points for an activation; acc",
    ),
    "scales of two axes": (
        q("w", "y", "w", "none", "bits4"),
        "of y (qonnx.custom_op.general::Quant): its scales have the shape [4, 3, 3, 3] for a",
    ),
    "a scale at run time": (
        q("x", "y", "x", "none", "bits4"),
        "of y (qonnx.custom_op.general::Quant): its scale is computed at run time; accepted: a",
    ),
    "a sign with a zero point": (
        q("x", "y", "one", "one", "bits1"),
        "of y (qonnx.custom_op.general::Quant): is of 1 signed bit with a zero point; accepted",
    ),
    "signs of several scales": (
        bipolar("x", "y", "shift"),
        "of y (qonnx.custom_op.general::BipolarQuant): has 4 scales for an activation; accepted",
    ),
    "too few inputs": (
        N("BipolarQuant", ["x"], ["y"], domain=DOMAIN, name="n"),
        "n (qonnx.custom_op.general::BipolarQuant): has 1 inputs and 1 outputs; accepted: 2 inputs",
    ),
}


@pytest.mark.parametrize(("node", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused_quantizer(model, node, expected):
    numbers = {name: a for name, a in NUMBERS.items() if name in node.input}
    numbers = {n: np.abs(a) + 1 if n in ("w", "shift") else a for n, a in numbers.items()}
    path = model([node], ["N", 3, 3], domains=DOMAINS, **numbers)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value).startswith(expected)
    assert ";" in str(caught.value)
