"""Run the benchmark: every network and variant through compile, simulate, build and bench.

    python benchmarks/run.py [--only NAME]... [--seeds N] [--jobs N] [--no-build]

Interrupt it at will: finished steps, and finished seeds of an unfinished build, are kept in the
output directory and used again while nothing that they were made from has changed.
"""

import sys
from pathlib import Path

import click
from gatewright.benchmarks.page import page
from gatewright.benchmarks.steps import (
    STEPS,
    Entry,
    Settings,
    Variant,
    record,
    run,
    source_hash,
)
from gatewright.compiler.driver import Quantization
from gatewright.compiler.plan import Goal
from gatewright.compiler.quantize import Policy, Rounding
from gatewright.compiler.report.progress_line import progress_line
from rich.console import Console

__all__ = ["ENTRIES", "VARIANTS", "main"]

#: what keeps 8 bits in ResNet-8 with 4: the first and the last layer, and what they read and give
_ENDS = Policy(4, 4, {"input": 8, "averagepool_19": 8, "gemm_21": 8}, {"conv_0": 8, "gemm_21": 8})

VARIANTS = {
    "fast": Variant("DSP blocks only, the default", Goal()),
    "latency": Variant("soft logic multiplies too, for the latency", Goal("latency")),
    "rate": Variant("soft logic multiplies too, for the rate", Goal("fps")),
    "w4a4": Variant(
        "4 bits but for the first and last layer, soft logic too, for the rate",
        Goal("fps"),
        {"quantization": Quantization("mse", _ENDS, Rounding.NEAREST)},
    ),
    "small": Variant("the default, where block RAM is short", Goal()),
}

ENTRIES = (
    Entry("resnet8", "fast", "ulx3s-85f", 165.0),
    Entry("resnet8", "latency", "ulx3s-85f", 140.0),
    Entry("resnet8", "rate", "ulx3s-85f", 140.0),
    Entry("resnet8", "w4a4", "ulx3s-85f", 140.0),
    Entry("resnet8", "small", "ulx3s-25f", 150.0),
    Entry("ds_cnn", "fast", "ulx3s-85f", 180.0),
    Entry("ds_cnn", "latency", "ulx3s-85f", 135.0),
    Entry("ds_cnn", "rate", "ulx3s-85f", 140.0),
    Entry("mobilenet", "fast", "ulx3s-85f", 160.0),
    Entry("mobilenet", "latency", "ulx3s-85f", 140.0),
    Entry("mobilenet", "rate", "ulx3s-85f", 140.0),
    Entry("autoencoder", "fast", "ulx3s-85f", 160.0),
    Entry("autoencoder", "latency", "ulx3s-85f", 140.0),
    Entry("autoencoder", "rate", "ulx3s-85f", 135.0),
    Entry("digits", "fast", "ulx3s-85f", 160.0),
    Entry("digits", "latency", "ulx3s-85f", 150.0),
    Entry("digits_small", "fast", "icebreaker", 24.0),
)

HERE = Path(__file__).parent

err = Console(stderr=True, soft_wrap=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="A network (resnet8) or an entry (resnet8-rate); may be repeated.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Place and route with so many seeds.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Seeds at a time."
)
@click.option(
    "--frames", type=click.IntRange(1), default=4, show_default=True, help="Frames to simulate."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="For each measurement of the CPU.",
)
@click.option("--no-build", is_flag=True, help="Route nothing; what was routed before is shown.")
@click.option(
    "--again",
    multiple=True,
    type=click.Choice(STEPS),
    help="A step to run again although its result is cached (bench: on an idle machine).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("out") / "bench",
    show_default=True,
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=HERE / "results.md",
    show_default="results.md beside run.py",
    help="The page to write.",
)
def main(
    only: tuple[str, ...],
    seeds: int,
    jobs: int,
    frames: int,
    seconds: float,
    no_build: bool,
    again: tuple[str, ...],
    output: Path,
    results: Path,
) -> None:
    """Compile, simulate, build and bench the networks, and write the page of results."""
    chosen = [entry for entry in ENTRIES if not only or {entry.network, entry.name} & set(only)]
    unknown = set(only) - {name for entry in ENTRIES for name in (entry.network, entry.name)}
    if unknown:
        raise click.BadParameter(
            f"{', '.join(sorted(unknown))}; choose from "
            f"{', '.join(entry.name for entry in ENTRIES)}",
            param_hint="only",
        )
    settings = Settings(frames, seeds, jobs, not no_build, seconds, again)
    output.mkdir(parents=True, exist_ok=True)
    try:
        with progress_line(err, keep=True) as step:
            for entry in chosen:
                run(entry, VARIANTS[entry.variant], output, settings, step)
    except KeyboardInterrupt:
        err.print("interrupted; finished steps are kept")
        sys.exit(130)
    records = [record(entry, output) for entry in ENTRIES]
    results.write_text(page(records, source_hash()), encoding="utf-8")
    err.print(f"written: {results}", highlight=False, markup=False)
    if any(row["failed"] for row in records):
        sys.exit(1)


if __name__ == "__main__":
    main()
