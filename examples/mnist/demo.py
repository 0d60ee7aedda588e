"""The whole road: a trained digit recognizer from ONNX to a bitstream and a benchmark.

Place and route, the longest step, is shown; the steps that do not need its result run beside it.
"""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from time import monotonic

HERE = Path(__file__).parent
MODEL, DATA = HERE / "digits_medium.onnx", HERE / "digits_test.npz"
BOARD, GOAL, MHZ = "ulx3s-25f", ("--goal", "fps"), 150
OUT = Path("out") / "digits"


@dataclass(frozen=True)
class Step:
    """A command, and what it is for and how long it takes on two idle cores."""

    why: str
    command: tuple[str | Path, ...]

    @property
    def words(self) -> list[str]:
        return ["gatewright", *map(str, self.command)]


STEPS = (
    Step(
        "Which nodes of the network have hardware, and does it fit the board? (seconds)",
        ("check", MODEL, "--board", BOARD, *GOAL),
    ),
    Step(
        "Quantize to 8 bits on 100 digits, find the plan with the most frames a second, and write "
        "the RTL. The input takes a pixel in a cycle, so every plan needs at least 784 cycles for "
        "a digit. To reach that, this one uses all 28 DSP blocks, and multiplies in logic too. "
        "(Seconds; if yosys comes from PyPI, its first use compiles 70 MB of WebAssembly, a minute "
        "or two, once.)",
        (
            *("compile", MODEL, "--board", BOARD, *GOAL),
            *("--calibration", HERE / "digits_calibration.npz", "-o", OUT),
        ),
    ),
    Step(
        f"Make the bitstream: synthesis, then place and route for a clock of {MHZ} MHz, with the "
        "iteration and the estimated clock in the progress line. (The longest step, about two "
        "minutes. Steps 4 to 6 run at the same time; what they print follows.)",
        ("build", OUT, "--target-mhz", str(MHZ)),
    ),
    Step(
        "Do the integers still recognize digits, and where is precision lost? (seconds)",
        ("accuracy", OUT, "--data", DATA),
    ),
    Step(
        "Simulate the RTL while its streams pause at random in 30 % of the cycles: every value "
        "has to equal the golden model whenever it comes. (Compiles the RTL to C++ with "
        "Verilator and g++ first, half a minute.)",
        ("simulate", OUT, "--input", DATA, "--frames", "8", "--stall", "0.3"),
    ),
    Step(
        "Simulate once more without pauses: now the cycles are those of the hardware, and the "
        "benchmark below uses them. (The compiled simulator is kept: seconds.)",
        ("simulate", OUT, "--input", DATA, "--frames", "8"),
    ),
    Step(
        "Compare with a core of this computer's CPU on the same digits. (seconds)",
        ("bench", OUT, "--input", DATA),
    ),
)

BUILD, BESIDE = 2, slice(3, 6)


def main() -> int:
    """Run the steps; stop at the first that fails."""
    began = monotonic()
    with ThreadPoolExecutor(1) as pool:
        for number, step in enumerate(STEPS):
            if number == BUILD:
                beside = pool.submit(captured, STEPS[BESIDE])
            announce(step, number + 1, len(STEPS))
            if step in STEPS[BESIDE]:
                ended = beside.result()[number - BESIDE.start]
                say(ended.stdout)
            else:
                ended = run(step, capture=False)
            if ended.returncode:
                return ended.returncode
    say(
        f"All of it took {monotonic() - began:.0f} s. Every figure, plots and the commands:\n"
        f"  {(OUT / 'report.html').resolve()}\n"
    )
    return 0


def captured(steps: Sequence[Step]) -> list["subprocess.CompletedProcess[str]"]:
    """The steps with what they print, up to the first that fails."""
    done = []
    for step in steps:
        done.append(run(step, capture=True))
        if done[-1].returncode:
            break
    return done


def run(step: Step, *, capture: bool) -> "subprocess.CompletedProcess[str]":
    """Run its command, with its output as text or left to the terminal."""
    return subprocess.run(
        [sys.executable, "-m", *step.words],
        check=False,
        text=True,
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.STDOUT if capture else None,
    )


def announce(step: Step, number: int, of: int) -> None:
    """Why a step is run, and its command."""
    say(f"\n{fill(f'[{number}/{of}] {step.why}', 80)}\n$ {' '.join(step.words)}\n\n")


def say(text: str) -> None:
    """Print now, also into a pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
