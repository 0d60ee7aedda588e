"""Calibration refuses bad samples in words, and measures good ones."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import DataError, QuantizeError
from gatewright.compiler.quantize import evaluate, model_input
from gatewright.compiler.quantize.calibrate import (
    METHODS,
    Statistics,
    mean_square,
    measure,
    percentile,
)
from gatewright.compiler.quantize.policy import Policy
from gatewright.compiler.quantize.scheme import LAYER, quantize


def relu_graph():
    shape = ir.Shape(2, 2, 3)
    values = {name: ir.Value(name, shape) for name in "xy"}
    order = np.arange(12).reshape(3, 2, 2).transpose(1, 2, 0).reshape(-1)
    return ir.Graph(
        "net",
        (ir.InputPort("image", (3, 2, 2), "float32", "x", order),),
        (ir.OutputPort("y", (12,), "float32", "y", np.arange(12)),),
        (ir.Unary("relu", ("x",), "y", ir.Identity(), clamp=ir.Clamp(0)),),
        values,
    )


def samples(n=8):
    return np.random.default_rng(0).normal(size=(n, 3, 2, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            np.zeros((0, 3, 2, 2)),
            r"there are no calibration samples; give some as an array "
            r"\[samples, 3, 2, 2\] for image",
        ),
        (
            np.zeros((4, 2, 2, 3)),
            r"calibration samples have shape \[4, 2, 2, 3\], but image takes "
            r"\[samples, 3, 2, 2\]",
        ),
        (np.zeros((3, 2, 2)), r"have shape \[3, 2, 2\], but image takes"),
        (np.float32(1), r"have shape \[\], but image takes"),
        (np.array([["a"]]), r"are of type <U1, not numbers"),
    ],
)
def test_samples_that_can_not_be_used_are_refused(bad, message):
    with pytest.raises(DataError, match=message):
        quantize(relu_graph(), np.asarray(bad))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_first_sample_that_is_not_finite_is_named(bad):
    x = samples()
    x[5, 0, 0, 0] = x[7] = bad
    with pytest.raises(
        DataError,
        match=r"calibration sample 5 of image holds NaN or infinity; "
        r"remove it \(2 of 8 samples do\)",
    ):
        quantize(relu_graph(), x)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(QuantizeError, match="'guess'; use one of minmax, percentile, mse"):
        quantize(relu_graph(), samples(), "guess")


def test_values_are_measured_in_stream_order_over_all_chunks():
    x = samples(200)
    found = measure(relu_graph(), x)
    assert found["x"].low == x.min()
    assert found["y"].high == x.max()
    assert found["y"].low == 0
    np.testing.assert_allclose(found["x"].mean, x.mean(axis=0).transpose(1, 2, 0), atol=1e-6)


def test_progress_is_told():
    lines = []
    measure(relu_graph(), samples(70), lines.append)
    assert lines == ["calibrating: 64 of 70 samples", "calibrating: 70 of 70 samples"]


def test_an_outlier_does_not_spoil_the_range():
    kept = np.random.default_rng(0).normal(size=60000).astype(np.float32)
    kept[0] = 100
    seen = Statistics(float(kept.min()), 100.0, kept, np.zeros((1, 1, 1)))
    assert percentile(seen, 256)[1] < 5
    assert mean_square(seen, 256)[1] < 100
    assert METHODS["minmax"](seen, 256)[1] == 100


def lopsided():
    """Large values of one channel that the next layer hardly reads, small ones that it does."""
    shape = ir.Shape(1, 1, 2)
    weight = np.array([[1.0, 1e-3], [1.0, -1e-3]], np.float32).reshape(2, 1, 1, 2)
    return ir.Graph(
        "net",
        (ir.InputPort("x", (2,), "float32", "x", np.arange(2)),),
        (ir.OutputPort("y", (2,), "float32", "y", np.arange(2)),),
        (ir.Conv("c", ("x",), "y", weight),),
        {name: ir.Value(name, shape) for name in "xy"},
    )


def test_the_layer_that_reads_a_value_decides_on_its_range():
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(400, 2)) * [1, 3]).astype(np.float32)
    graph = lopsided()
    wanted = evaluate(graph, model_input(graph, x))["y"]

    def noise(method):
        made = quantize(graph, x, method, policy=Policy(4, 8, activations={"y": 12}))
        assert made.quant("x").dtype.bits == 4
        return np.square(evaluate(made, model_input(made, x))["y"] - wanted).mean()

    assert noise(LAYER) < 0.6 * min(noise(method) for method in METHODS)


def test_percentiles_leave_out_a_ten_thousandth_on_either_side():
    elements = np.arange(100_001) / 1000.0
    low, high = percentile(Statistics(0.0, 100.0, elements, np.zeros((1, 1, 1))), 256)
    assert low == pytest.approx(0.01)
    assert high == pytest.approx(99.99)


@pytest.mark.parametrize("method", [*METHODS, LAYER])
@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize(
    "values",
    [(1e4, 1e4), (1e30, 1e30), (1e4, np.nextafter(np.float32(1e4), 2e4)), (-3e38, 3e38), (0, 0)],
    ids=str,
)
@pytest.mark.filterwarnings("error")
def test_every_range_of_floats_has_a_quantization(values, bits, method):
    """Also one of a single value, and one whose span no float32 holds."""
    x = np.resize(np.array(values, np.float32), (4, 3, 2, 2))
    network = quantize(relu_graph(), x, method=method, policy=Policy(bits, 8))
    for name in "xy":
        quant = network.quant(name)
        assert np.isfinite(quant.scale)
        assert quant.scale > 0
