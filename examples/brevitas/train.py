"""Train a digit network with 4-bit weights and activations in Brevitas, and export it twice.

`digits.qonnx.onnx` and `digits.qcdq.onnx` are the same network in the two dialects that Brevitas
writes: Quant nodes of QONNX, and QuantizeLinear, Clip, DequantizeLinear.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from brevitas import nn as qnn
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

HELD_OUT = 297
BATCH = 50

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def load() -> tuple[Floats, Ints, Floats, Ints]:
    """The digits of scikit-learn, ``x [N, 1, 8, 8]`` in 0..1 and ``y [N]``: those to train on, then
    those held out.
    """
    digits = load_digits()
    x = (digits.images[:, None] / 16).astype(np.float32)
    y = digits.target.astype(np.int64)
    order = np.random.default_rng(2024).permutation(len(x))
    rest, test = order[HELD_OUT:], order[:HELD_OUT]
    return x[rest], y[rest], x[test], y[test]


def network(bits: int) -> nn.Module:
    """Two convolutions and a dense layer, of ``bits``-bit weights and activations.

    The input, the weights of the dense layer and the scores have 8 bits.
    """

    def conv(channels: int, outputs: int, stride: int) -> qnn.QuantConv2d:
        return qnn.QuantConv2d(
            channels,
            outputs,
            3,
            stride=stride,
            padding=1,
            bias=False,
            weight_quant=Int8WeightPerTensorFloat,
            weight_bit_width=bits,
            weight_scaling_per_output_channel=True,
        )

    def relu() -> qnn.QuantReLU:
        return qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=bits)

    return nn.Sequential(
        qnn.QuantIdentity(act_quant=Uint8ActPerTensorFloat),
        conv(1, 16, 1),
        nn.BatchNorm2d(16),
        relu(),
        conv(16, 32, 2),
        nn.BatchNorm2d(32),
        relu(),
        nn.Flatten(),
        qnn.QuantLinear(32 * 4 * 4, 10, bias=False, weight_quant=Int8WeightPerTensorFloat),
        qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat),
    )


def train(model: nn.Module, x: Floats, y: Ints, epochs: int) -> None:
    """Minimize the cross-entropy with Adam, in random order."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    samples, labels = torch.from_numpy(x), torch.from_numpy(y)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(samples[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        sys.stdout.write(f"epoch {epoch + 1:2} of {epochs}: loss {total / len(x):.4f}\n")


def accuracy(model: nn.Module, x: Floats, y: Ints) -> float:
    """The share of right classes."""
    model.eval()
    with torch.no_grad():
        scores: Tensor = model(torch.from_numpy(x))
    return float((scores.argmax(1).numpy() == y).mean())


def main() -> None:
    """Train, measure, export, save the held-out digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out") / "brevitas")
    parser.add_argument("--bits", type=int, default=4, help="of weights and activations")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    x, y, held_x, held_y = load()
    model = network(given.bits)
    train(model, x, y, given.epochs)
    sys.stdout.write(f"held-out accuracy: {100 * accuracy(model, held_x, held_y):.1f} %\n")
    given.out.mkdir(parents=True, exist_ok=True)
    example = torch.from_numpy(held_x[:1])
    options = {"input_names": ["image"], "output_names": ["scores"], "opset_version": 18}
    export_qonnx(model, example, str(given.out / "digits.qonnx.onnx"), **options)
    export_onnx_qcdq(model, example, str(given.out / "digits.qcdq.onnx"), **options)
    np.savez_compressed(given.out / "test.npz", x=held_x, y=held_y)
    sys.stdout.write(f"written: {given.out}/digits.qonnx.onnx, digits.qcdq.onnx, test.npz\n")


if __name__ == "__main__":
    main()
