"""The progress line: a line a step in a file, a moving one on a terminal."""

import io
import re

import pytest
from gatewright.compiler.report.progress_line import progress_line
from rich.console import Console

STEPS = [
    ("synthesis", None),
    ("synthesis", 1.0),
    ("frame [1]", 0.5),
    ("frame [1]", 1.0),
    ("", None),
]


def shown(terminal, **options):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, no_color=True)
    with progress_line(console, **options) as step:
        for each in STEPS:
            step(*each)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n")


@pytest.mark.parametrize("keep", [False, True])
def test_a_file_has_one_line_a_step(keep):
    """In the order of the work; a part of a step is none."""
    lines = [line.rstrip() for line in shown(False, keep=keep).splitlines() if line.strip()]
    assert lines == ["synthesis", "frame [1]"]


@pytest.mark.parametrize(("keep", "lines"), [(False, 0), (True, 1)])
def test_a_terminal_keeps_what_it_is_told_to_keep(keep, lines):
    text = shown(True, keep=keep)
    assert sum(line.strip() == "synthesis" for line in text.splitlines()) == lines
