"""The whole road: a trained digit recogniser from ONNX to a bitstream and a benchmark."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from time import monotonic

HERE = Path(__file__).parent
OUT = Path("out") / "digits"
MODEL, DATA = HERE / "digits.onnx", HERE / "digits_test.npz"
BOARD = "ulx3s-85f"


@dataclass(frozen=True)
class Step:
    """A command, and what it is for and how long it takes on two idle cores."""

    why: str
    command: tuple[str | Path, ...]


STEPS = (
    Step(
        "Which nodes of the network have hardware, and which boards does it fit? (seconds)",
        ("check", MODEL, "--board", BOARD),
    ),
    Step(
        "Quantize to 8 bits on 100 digits, find the plan with the most frames a second that the "
        "chip's DSP blocks give, and write the RTL. (Seconds; if yosys comes from PyPI, its first "
        "use compiles 20 MB of WebAssembly, about a minute, once.)",
        (
            *("compile", MODEL, "--board", BOARD),
            *("--calibration", HERE / "digits_calibration.npz", "-o", OUT),
        ),
    ),
    Step(
        "Do the integers still recognize digits, and where is precision lost? (seconds)",
        ("accuracy", OUT, "--data", DATA),
    ),
    Step(
        "Simulate the RTL while its streams pause at random in 30 % of the cycles: every value has "
        "to equal the golden model whenever it comes. (Compiles the RTL to C++ with Verilator and "
        "g++ first, half a minute.)",
        ("simulate", OUT, "--input", DATA, "--frames", "8", "--stall", "0.3"),
    ),
    Step(
        "Simulate once more without pauses: now the cycles are those of the hardware, and the "
        "benchmark below uses them. (The compiled simulator is kept: seconds.)",
        ("simulate", OUT, "--input", DATA, "--frames", "8"),
    ),
    Step(
        "Make the bitstream: synthesis, then place and route for the board's usual 100 MHz, with "
        "the iteration and the estimated clock in the progress line. (The longest step: minutes; "
        "`--target-mhz max` takes several times as long and finds the highest clock.)",
        ("build", OUT),
    ),
    Step(
        "Compare with this computer's CPU on the same digits. (seconds)",
        ("bench", OUT, "--input", DATA),
    ),
)


def main() -> int:
    """Run the steps in order; stop at the first that fails."""
    began = monotonic()
    for number, step in enumerate(STEPS, 1):
        arguments = [str(word) for word in step.command]
        sys.stdout.write(f"\n{fill(f'[{number}/{len(STEPS)}] {step.why}', 80)}\n")
        sys.stdout.write(f"$ gatewright {' '.join(arguments)}\n\n")
        sys.stdout.flush()
        code = subprocess.run(
            [sys.executable, "-m", "gatewright", *arguments], check=False
        ).returncode
        if code:
            return code
    page = (OUT / "report.html").resolve()
    sys.stdout.write(
        f"All of it took {monotonic() - began:.0f} s. Every figure, plots and the commands:\n"
        f"  {page}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
