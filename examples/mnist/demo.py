"""The whole road: a trained digit recognizer from ONNX to a bitstream and a benchmark.

Place and route, the longest step, is shown; the steps that do not need its result run beside it.
"""

import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from time import monotonic

HERE = Path(__file__).parent
DATA = HERE / "digits_test.npz"
BOARD = "ulx3s-45f"


@dataclass(frozen=True)
class Recognizer:
    """A network, its goal, what bounds its plan, the clock it is routed for and the minutes that
    takes.
    """

    model: Path
    out: Path
    goal: tuple[str, ...]
    bound: str
    mhz: int
    minutes: str


SMALL = Recognizer(
    HERE / "digits_small.onnx",
    Path("out") / "digits",
    (),
    "The input takes a pixel in a cycle, so every plan needs at least 784 cycles for a digit.",
    200,
    "two minutes",
)

#: what the chip can do: nearly all of its DSP blocks, and soft multipliers
WHOLE_CHIP = Recognizer(
    HERE / "digits.onnx",
    Path("out") / "digits_whole_chip",
    ("--goal", "fps"),
    "It fills the DSP blocks, and multiplies in logic too.",
    160,
    "eight minutes",
)


@dataclass(frozen=True)
class Step:
    """A command, and what it is for and how long it takes on two idle cores."""

    why: str
    command: tuple[str | Path, ...]

    @property
    def words(self) -> list[str]:
        return ["gatewright", *map(str, self.command)]


def steps_of(network: Recognizer) -> tuple[Step, ...]:
    """The steps of the road, in order."""
    model, out = network.model, network.out
    return (
        Step(
            "Which nodes of the network have hardware, and does it fit the board? (seconds)",
            ("check", model, "--board", BOARD, *network.goal),
        ),
        Step(
            "Quantize to 8 bits on 100 digits, find the plan with the most frames a second, and "
            f"write the RTL. {network.bound} (Seconds; if yosys comes from PyPI, its first use "
            "compiles 70 MB of WebAssembly, a minute or two, once.)",
            (
                *("compile", model, "--board", BOARD, *network.goal),
                *("--calibration", HERE / "digits_calibration.npz", "-o", out),
            ),
        ),
        Step(
            "Make the bitstream: synthesis, then place and route for a clock of "
            f"{network.mhz} MHz, with the iteration and the estimated clock in the progress line. "
            f"(The longest step, about {network.minutes}. Steps 4 to 6 run at the same time; what "
            "they print follows.)",
            ("build", out, "--target-mhz", str(network.mhz)),
        ),
        Step(
            "Do the integers still recognize digits, and where is precision lost? (seconds)",
            ("accuracy", out, "--data", DATA),
        ),
        Step(
            "Simulate the RTL while its streams pause at random in 30 % of the cycles: every value "
            "has to equal the golden model whenever it comes. (Compiles the RTL to C++ with "
            "Verilator and g++ first, half a minute.)",
            ("simulate", out, "--input", DATA, "--frames", "8", "--stall", "0.3"),
        ),
        Step(
            "Simulate once more without pauses: now the cycles are those of the hardware, and the "
            "benchmark below uses them. (The compiled simulator is kept: seconds.)",
            ("simulate", out, "--input", DATA, "--frames", "8"),
        ),
        Step(
            "Compare with a core of this computer's CPU on the same digits. (seconds)",
            ("bench", out, "--input", DATA),
        ),
    )


BUILD, BESIDE = 2, slice(3, 6)


def main() -> int:
    """Run the steps; stop at the first that fails."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--whole-chip",
        action="store_true",
        help="a network of 16 times as many products, as fast as the chip allows",
    )
    network = WHOLE_CHIP if parser.parse_args().whole_chip else SMALL
    steps, began = steps_of(network), monotonic()
    with ThreadPoolExecutor(1) as pool:
        for number, step in enumerate(steps):
            if number == BUILD:
                beside = pool.submit(captured, steps[BESIDE])
            announce(step, number + 1, len(steps))
            if step in steps[BESIDE]:
                ended = beside.result()[number - BESIDE.start]
                say(ended.stdout)
            else:
                ended = run(step, capture=False)
            if ended.returncode:
                return ended.returncode
    say(
        f"All of it took {monotonic() - began:.0f} s. Every figure, plots and the commands:\n"
        f"  {(network.out / 'report.html').resolve()}\n"
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
