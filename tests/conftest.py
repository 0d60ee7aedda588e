"""Two tiny networks, one float and one quantized, their samples, and the option ``--models``."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

N = helper.make_node


def pytest_addoption(parser):
    parser.addoption("--models", metavar="DIR", help="real trained networks, for the long tests")
    parser.addoption("--refresh", action="store_true", help="write tests/expect anew")


def pytest_configure(config):
    # set for the test workers by whoever starts them, and it would be the width of every table
    os.environ.pop("COLUMNS", None)
    if config.getoption("--models"):
        os.environ["GATEWRIGHT_MODELS"] = os.path.abspath(config.getoption("--models"))


def unchanged(directory):
    """Yield ``directory``, which tests share: whatever one of them writes, others would read."""

    def contents():
        return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    before = contents()
    yield directory
    assert contents() == before


SHAPE = (1, 6, 6)


def save(path, nodes, shape, classes, **constants):
    """Write a network of float input ``x`` [N, *shape] and output ``y`` [N, classes]."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def cnn(path, hidden=4, kernel=3):
    """Convolution, Relu, pool and a dense layer: 36 numbers to 3 scores."""
    rng = np.random.default_rng(3)
    pad = kernel // 2

    def weight(*size):
        return rng.normal(size=size).astype(np.float32)

    return save(
        path,
        [
            N("Conv", ["x", "w1", "b1"], ["a"], name="conv", pads=[pad] * 4),
            N("Relu", ["a"], ["r"], name="relu"),
            N("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
            N("Flatten", ["p"], ["f"], name="flat"),
            N("Gemm", ["f", "w2", "b2"], ["y"], name="dense", transB=1),
        ],
        SHAPE,
        3,
        w1=weight(hidden, 1, kernel, kernel),
        b1=weight(hidden),
        w2=weight(3, 9 * hidden),
        b2=weight(3),
    )


@pytest.fixture(scope="session")
def floats(tmp_path_factory) -> Path:
    """A float CNN."""
    return cnn(tmp_path_factory.mktemp("floats") / "tiny.onnx")


@pytest.fixture(scope="session")
def wide(tmp_path_factory) -> Path:
    """A float CNN whose first layer has more channels than a small FPGA has logic for."""
    return cnn(tmp_path_factory.mktemp("wide") / "wide.onnx", hidden=600)


@pytest.fixture(scope="session")
def qdq(tmp_path_factory) -> Path:
    """A dense layer between QuantizeLinear and DequantizeLinear pairs."""
    rng = np.random.default_rng(5)
    nodes = [
        N("QuantizeLinear", ["x", "sx", "zero"], ["xq"]),
        N("DequantizeLinear", ["xq", "sx", "zero"], ["xd"]),
        N("DequantizeLinear", ["w", "sw", "zero"], ["wd"]),
        N("Gemm", ["xd", "wd"], ["a"], name="dense", transB=1),
        N("QuantizeLinear", ["a", "sy", "zero"], ["aq"]),
        N("DequantizeLinear", ["aq", "sy", "zero"], ["y"]),
    ]
    return save(
        tmp_path_factory.mktemp("qdq") / "quantized.onnx",
        nodes,
        (12,),
        3,
        w=rng.integers(-127, 128, (3, 12)).astype(np.int8),
        zero=np.int8(0),
        sx=np.float32(1 / 32),
        sw=np.float32(1 / 100),
        sy=np.float32(1 / 10),
    )


@pytest.fixture(scope="session")
def samples(tmp_path_factory) -> Path:
    """Eight samples and labels for the float CNN."""
    path = tmp_path_factory.mktemp("samples") / "samples.npz"
    x = np.random.default_rng(4).normal(size=(8, *SHAPE)).astype(np.float32)
    np.savez(path, x=x, y=np.arange(8) % 3)
    return path


@pytest.fixture(scope="session")
def vectors(tmp_path_factory) -> Path:
    """Eight samples for the quantized network."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.npz"
    np.savez(path, x=np.random.default_rng(4).normal(size=(8, 12)).astype(np.float32))
    return path
