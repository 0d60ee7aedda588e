"""How generated tests run: a few fixed examples in the suite, or random ones for as long as asked.

``GATEWRIGHT_FUZZ_SECONDS=S`` runs each test for S seconds on examples that differ from run to run
(``make fuzz`` divides its time so). What fails is made smaller, and saved below ``.fuzz/``.
"""

import os
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase

__all__ = ["COUNTS", "SECONDS", "generated", "saved"]

SECONDS = float(os.environ.get("GATEWRIGHT_FUZZ_SECONDS", "0"))
FOLDER = Path(os.environ.get("GATEWRIGHT_FUZZ_FOLDER", ".fuzz")).absolute()
#: examples that each test ran, by its name
COUNTS: Counter[str] = Counter()

CHECKS = (
    *(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    HealthCheck.filter_too_much,
)
PHASES = (Phase.reuse, Phase.generate, Phase.shrink)
COMMON = settings(
    deadline=None,
    phases=PHASES,
    suppress_health_check=CHECKS,
    print_blob=False,
    report_multiple_bugs=False,
)
#: examples between two looks at the clock
ROUND = 25


def generated(strategy, few):
    """A test of one argument as a test of ``few`` fixed examples, or of many random ones."""

    def decorate(body):
        def counted(example):
            COUNTS[body.__name__] += 1
            body(example)

        def suite():
            fixed = settings(COMMON, max_examples=few, derandomize=True, database=None)
            fixed(given(strategy)(counted))()

        def long():
            ends = time.monotonic() + SECONDS
            database = DirectoryBasedExampleDatabase(FOLDER / "examples")
            random = settings(COMMON, max_examples=ROUND, database=database)
            while time.monotonic() < ends:
                counted.__name__ = counted.__qualname__ = body.__name__
                random(given(strategy)(counted))()

        test = long if SECONDS else suite
        test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
        return test

    return decorate


@contextmanager
def saved(name, write, **arrays):
    """Keep the model that ``write`` writes, and the arrays, if the block fails.

    The last failure of a test is its smallest, for Hypothesis ends with that.
    """
    try:
        yield
    except Exception as error:
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "model.onnx")
        np.savez(folder / "x.npz", **arrays)
        error.add_note(f"the smallest failing model and its samples: {folder}")
        raise
