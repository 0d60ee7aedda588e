"""The networks of the benchmark: MLPerf Tiny's four topologies with drawn weights, and two digits'.

Weights are drawn after He et al. (ICCV 2015, section 2.2), so that about half of all activations
are alive in every layer; batch normalization counts as folded, so every layer has a bias. Cycles,
clock and area depend on the topology and on integers that use their whole range, not on what the
network was trained for, so accuracy is none of this benchmark's business. The frames are shaped
noise: white noise blurred along rows and columns, whose neighbours are alike as those of images and
spectrograms are. All draws have a fixed seed. Layout: NCHW.

Topologies: Banbury et al., "MLPerf Tiny Benchmark" (NeurIPS 2021), table 1, and the models of its
closed division. "SAME" padding is theirs: what is odd goes to the bottom and to the right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["NETWORKS", "Builder", "Network", "count"]

Floats = NDArray[np.float32]

SEED = 2021
DIGITS = Path(__file__).parents[1] / "examples" / "mnist"


# --- building -----------------------------------------------------------------------------------


class Builder:
    """Grows a float network node by node; every method returns its output's name.

    Shapes are [channels, height, width], or [features], without the batch.
    """

    def __init__(self, name: str, *shape: int, seed: int = SEED):
        self.name, self.rng = name, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {"input": shape}

    def conv(
        self,
        x: str,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: int = 1,
        *,
        groups: int = 1,
        relu: bool = True,
    ) -> str:
        """Convolution with SAME padding."""
        depth, *size = self.shapes[x]
        pads = [same(n, k, stride) for n, k in zip(size, kernel, strict=True)]
        shape = (channels, *(-(-n // stride) for n in size))
        weight = self._weight((channels, depth // groups, *kernel), relu)
        out = self._node(
            "Conv",
            [x, weight, self._bias(channels)],
            shape,
            kernel_shape=list(kernel),
            strides=[stride, stride],
            group=groups,
            pads=[begin for begin, _ in pads] + [end for _, end in pads],
        )
        return self.relu(out) if relu else out

    def separable(self, x: str, channels: int, stride: int = 1) -> str:
        """A depthwise 3x3 convolution, then a pointwise one."""
        depth = self.shapes[x][0]
        return self.conv(self.conv(x, depth, stride=stride, groups=depth), channels, (1, 1))

    def dense(self, x: str, features: int, *, relu: bool = False) -> str:
        weight = self._weight((features, prod(self.shapes[x])), relu)
        out = self._node("Gemm", [x, weight, self._bias(features)], (features,), transB=1)
        return self.relu(out) if relu else out

    def relu(self, x: str) -> str:
        return self._node("Relu", [x], self.shapes[x])

    def add(self, a: str, b: str) -> str:
        return self._node("Add", [a, b], self.shapes[a])

    def average(self, x: str) -> str:
        """The mean of each channel, as a vector of features."""
        channels, *size = self.shapes[x]
        pooled = self._node("AveragePool", [x], (channels, 1, 1), kernel_shape=size, strides=size)
        return self._node("Flatten", [pooled], (channels,))

    def softmax(self, x: str) -> str:
        return self._node("Softmax", [x], self.shapes[x], axis=1)

    def model(self, output: str) -> onnx.ModelProto:
        """The network up to ``output``; any number of frames."""
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *self.shapes[name]])
            for name in ("input", output)
        ]
        graph = helper.make_graph(self.nodes, self.name, ports[:1], ports[1:], self.constants)
        made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
        onnx.checker.check_model(made)
        return made

    def _node(
        self, kind: str, inputs: list[str], shape: tuple[int, ...], **attributes: object
    ) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self.shapes[name] = shape
        return name

    def _weight(self, shape: tuple[int, ...], relu: bool) -> str:
        """He's scale: sums keep their variance; twice the power where Relu drops half of it."""
        scale = np.sqrt((2 if relu else 1) / prod(shape[1:]))
        return self._constant(self.rng.normal(scale=scale, size=shape))

    def _bias(self, channels: int) -> str:
        return self._constant(self.rng.normal(scale=0.1, size=channels))

    def _constant(self, array: NDArray[np.float64]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after such that ceil(size / stride) outputs come out."""
    padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return padding // 2, padding - padding // 2


def count(model: onnx.ModelProto) -> tuple[int, int]:
    """Products a frame, and weights without biases, of convolutions and dense layers."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    sizes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    macs = weights = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            size = prod(shapes[node.input[1]])
            weights += size
            macs += size * prod(sizes[node.output[0]][2:])
    return macs, weights


# --- topologies ---------------------------------------------------------------------------------


def resnet8() -> onnx.ModelProto:
    """CIFAR-10 classification: a convolution and three residual stacks."""
    net = Builder("resnet8", 3, 32, 32)
    x = net.conv("input", 16)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        inner = net.conv(net.conv(x, channels, stride=stride), channels, relu=False)
        skip = net.conv(x, channels, (1, 1), stride, relu=False) if stride > 1 else x
        x = net.relu(net.add(inner, skip))
    return net.model(net.softmax(net.dense(net.average(x), 10)))


def ds_cnn() -> onnx.ModelProto:
    """Keyword spotting on 49 x 10 spectral coefficients, 64 channels."""
    net = Builder("ds_cnn", 1, 49, 10)
    x = net.conv("input", 64, (10, 4), 2)
    for _ in range(4):
        x = net.separable(x, 64)
    return net.model(net.softmax(net.dense(net.average(x), 12)))


def mobilenet() -> onnx.ModelProto:
    """Person detection at 96 x 96: MobileNetV1 of width 0.25."""
    net = Builder("mobilenet", 3, 96, 96)
    x = net.conv("input", 8, stride=2)
    for channels, stride in (
        (16, 1),
        (32, 2),
        (32, 1),
        (64, 2),
        (64, 1),
        (128, 2),
        *[(128, 1)] * 5,
        (256, 2),
        (256, 1),
    ):
        x = net.separable(x, channels, stride)
    return net.model(net.softmax(net.dense(net.average(x), 2)))


def autoencoder() -> onnx.ModelProto:
    """Anomaly detection on five frames of 128 log bands."""
    net = Builder("autoencoder", 640)
    x = "input"
    for features in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = net.dense(x, features, relu=True)
    return net.model(net.dense(x, 640))


def digits() -> onnx.ModelProto:
    """The trained digit recogniser of the examples."""
    return onnx.load(DIGITS / "digits.onnx")


def digits_small() -> onnx.ModelProto:
    """The smaller of the trained digit recognisers."""
    return onnx.load(DIGITS / "digits_small.onnx")


# --- frames -------------------------------------------------------------------------------------


def noise(frames: int, *shape: int, seed: int) -> Floats:
    """Noise [frames, *shape] of mean 0 and variance 1, blurred along its last two axes.

    A vector is seen as five rows, as the autoencoder's input is five frames of a spectrogram. The
    blur is a binomial filter of five taps on a ring.
    """
    image = shape if len(shape) > 1 else (5, shape[0] // 5)
    x = np.random.default_rng(seed).normal(size=(frames, *image))
    for axis in (-2, -1):
        x = sum(
            tap * np.roll(x, shift, axis)
            for tap, shift in zip((1, 4, 6, 4, 1), range(-2, 3), strict=True)
        )
    return (x / x.std()).reshape(frames, *shape).astype(np.float32)


def real_digits(frames: int, *_shape: int, seed: int) -> Floats:
    """Digits [frames, 1, 28, 28] of the examples: seed 0 calibrates, the others test."""
    name = "digits_calibration.npz" if seed == 0 else "digits_test.npz"
    with np.load(DIGITS / name) as file:
        x = file["x"]
    return x[np.arange(frames) % len(x)]


# --- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network of the benchmark: ``shape`` [C, H, W] or [features] in, its products and weights.

    ``draw(frames, *shape, seed=...)`` gives frames; seed 0 is for calibration, 1 for tests.
    """

    title: str
    build: Callable[[], onnx.ModelProto]
    shape: tuple[int, ...]
    macs: int
    weights: int
    draw: Callable[..., Floats] = noise

    def model(self) -> onnx.ModelProto:
        """The float network, counted."""
        made = self.build()
        found = count(made)
        assert found == (self.macs, self.weights), f"{self.title}: {found} MACs and weights"
        return made

    def calibration(self, frames: int = 64) -> Floats:
        return self.draw(frames, *self.shape, seed=0)

    def frames(self, frames: int) -> Floats:
        return self.draw(frames, *self.shape, seed=1)


NETWORKS = {
    "resnet8": Network("ResNet-8, CIFAR-10", resnet8, (3, 32, 32), 12_501_632, 77_360),
    "ds_cnn": Network("DS-CNN, keywords", ds_cnn, (1, 49, 10), 2_656_768, 22_016),
    "mobilenet": Network(
        "MobileNetV1 0.25, wake words", mobilenet, (3, 96, 96), 7_489_664, 208_112
    ),
    "autoencoder": Network("autoencoder, anomalies", autoencoder, (640,), 264_192, 264_192),
    "digits": Network("digits (trained)", digits, (1, 28, 28), 390_432, 9_192, real_digits),
    "digits_small": Network(
        "digits_small (trained)", digits_small, (1, 28, 28), 24_064, 3_232, real_digits
    ),
}
