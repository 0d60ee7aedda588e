"""Train a digit network in Keras, channels last, and export it to ONNX."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

HELD_OUT = 297
CALIBRATION = 100


def network() -> keras.Model:
    """Two blocks of a depthwise and a pointwise convolution; images [N, 8, 8, 1] in 0..16."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Rescaling(1 / 16),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(max_value=6),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation("hard_swish"),
            layers.Conv2D(32, 1),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def main() -> None:
    """Train, measure, export, save samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out") / "keras")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    keras.utils.set_random_seed(given.seed)
    digits = load_digits()
    x, y = digits.images[..., None].astype(np.float32), digits.target
    order = np.random.default_rng(2024).permutation(len(x))
    rest, test = order[HELD_OUT:], order[:HELD_OUT]
    model = network()
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x[rest], y[rest], batch_size=100, epochs=given.epochs, verbose=2)
    _, right = model.evaluate(x[test], y[test], verbose=0)
    sys.stdout.write(f"held-out accuracy: {100 * right:.1f} %\n")
    given.out.mkdir(parents=True, exist_ok=True)
    model.export(str(given.out / "digits.onnx"), format="onnx", verbose=False)
    np.savez_compressed(given.out / "calibration.npz", x=x[rest[:CALIBRATION]])
    np.savez_compressed(given.out / "test.npz", x=x[test], y=y[test])
    sys.stdout.write(f"written: {given.out}/digits.onnx, calibration.npz, test.npz\n")


if __name__ == "__main__":
    main()
