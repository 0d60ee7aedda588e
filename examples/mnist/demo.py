"""The whole road: a trained digit recogniser from ONNX to a bitstream and a benchmark."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = Path("out") / "digits"
DATA = HERE / "digits_test.npz"

STEPS = [
    ["check", HERE / "digits.onnx", "--board", "ulx3s-85f"],
    [
        "compile",
        HERE / "digits.onnx",
        "--board",
        "ulx3s-85f",
        "--calibration",
        HERE / "digits_calibration.npz",
        "--goal",
        "fps=10000",
        "-o",
        OUT,
    ],
    ["simulate", OUT, "--input", DATA, "--frames", "8"],
    ["simulate", OUT, "--input", DATA, "--frames", "8", "--stall", "0.3"],
    ["accuracy", OUT, "--data", DATA],
    ["simulate", OUT, "--input", DATA, "--frames", "8"],
    ["build", OUT],
    ["bench", OUT, "--input", DATA],
]


def main() -> int:
    """Run the steps in order; stop at the first that fails."""
    for step in STEPS:
        arguments = [str(word) for word in step]
        sys.stdout.write(f"\n$ gatewright {' '.join(arguments)}\n")
        sys.stdout.flush()
        code = subprocess.run(
            [sys.executable, "-m", "gatewright", *arguments], check=False
        ).returncode
        if code:
            return code
    sys.stdout.write(f"\nall of it, with plots: {OUT / 'report.html'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
