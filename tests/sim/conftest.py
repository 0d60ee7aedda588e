"""A small network, compiled once for the tests that look at what a compiled directory says."""

import shutil

import numpy as np
import onnx
import pytest
from gatewright import boards
from gatewright.compiler import driver
from onnx import TensorProto, helper, numpy_helper


def residual_network(path, rng):
    """Convolution, pool, a residual block, mean and a dense layer on a 3x8x8 image."""
    constants = []

    def constant(name, *shape):
        array = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(name, source, out, into):
        return helper.make_node(
            "Conv",
            [source, constant(f"{name}/w", out, into, 3, 3)],
            [name],
            name,
            pads=[1, 1, 1, 1],
        )

    nodes = [
        conv("first", "image", 8, 3),
        helper.make_node("Relu", ["first"], ["relu"], "relu"),
        helper.make_node(
            "MaxPool", ["relu"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        conv("second", "pool", 8, 8),
        helper.make_node("Add", ["second", "pool"], ["sum"], "sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node(
            "Gemm", ["flat", constant("dense/w", 4, 8)], ["scores"], "dense", transB=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4])],
        constants,
    )
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path
    )


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(3).normal(size=(50, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def network_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "residual.onnx"
    residual_network(path, np.random.default_rng(2))
    return path


@pytest.fixture(scope="session")
def _compiled(tmp_path_factory, network_file, images):
    board = boards.get("ulx3s-25f")
    out = tmp_path_factory.mktemp("compiled") / "dir"
    return driver.compile_model(network_file, out, board.device, board.name, samples=images)


@pytest.fixture
def compiled(_compiled, network_file, tmp_path):
    """The compiled network, float original beside it, in a directory of the test's own."""
    shutil.copytree(_compiled.directory, tmp_path / "dir")
    shutil.copyfile(network_file, tmp_path / "dir" / "model.float.onnx")
    return driver.Compiled(tmp_path / "dir", _compiled.graph, _compiled.network)
