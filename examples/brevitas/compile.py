"""Compile both exports of `train.py`, show that they are the same hardware, and simulate it."""

import argparse
import sys
from pathlib import Path

import gatewright as gw
import numpy as np

#: how a network is exported, and the file
DIALECTS = {"QONNX": "digits.qonnx.onnx", "QCDQ": "digits.qcdq.onnx"}


def main() -> int:
    """Compile, compare the RTL byte by byte, simulate some of the held-out digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=Path, default=Path("out") / "brevitas")
    parser.add_argument("--board", default="ulx3s-25f")
    parser.add_argument("--frames", type=int, default=4)
    given = parser.parse_args()
    compiled = {}
    for dialect, file in DIALECTS.items():
        out = given.networks / dialect.lower()
        one = compiled[dialect] = gw.compile(given.networks / file, out, board=given.board)
        sys.stdout.write(f"{dialect}: {one.network.interval:,} cycles a frame, in {out}\n")
    rtl = [(one.directory / "rtl" / "accelerator.il").read_bytes() for one in compiled.values()]
    same = rtl[0] == rtl[1]
    sys.stdout.write(f"RTL: {len(rtl[0]):,} bytes, {'the same' if same else 'not the same'}\n")
    with np.load(given.networks / "test.npz") as samples:
        x, y = samples["x"][: given.frames], samples["y"][: given.frames]
    found = gw.simulate(compiled["QONNX"], x, stall=0.3)
    classes = found.outputs["scores"].argmax(1)
    sys.stdout.write(
        f"simulated: {len(x)} frames, every value equal to the golden model: {found.passed}; "
        f"classes {classes.tolist()}, labels {y.tolist()}\n"
    )
    return 0 if same and found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
