"""Mixed integer programs, built a row at a time and solved by HiGHS through SciPy."""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

__all__ = ["Program"]

_one_at_a_time = Lock()


class Program:
    """Minimize ``costs @ x`` over rows ``low <= a @ x <= high`` and x >= 0."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._most: list[float] = []
        self._whole: list[int] = []
        self._rows: list[tuple[Mapping[int, float], float, float]] = []

    def binaries(self, costs: Sequence[float]) -> list[int]:
        """New variables of 0 or 1 and their numbers."""
        return self._add(costs, 1.0, 1)

    def integers(self, costs: Sequence[float]) -> list[int]:
        """New whole variables, not negative."""
        return self._add(costs, np.inf, 1)

    def reals(self, costs: Sequence[float]) -> list[int]:
        """New variables, not negative."""
        return self._add(costs, np.inf, 0)

    def _add(self, costs: Sequence[float], most: float, whole: int) -> list[int]:
        first = len(self._costs)
        self._costs += costs
        self._most += [most] * len(costs)
        self._whole += [whole] * len(costs)
        return list(range(first, len(self._costs)))

    def row(self, factors: Mapping[int, float], low: float, high: float) -> None:
        """``low <= sum of factor * variable <= high``."""
        self._rows.append((factors, low, high))

    def solve(
        self, nodes: int, *, relaxed: bool = False, gap: float = 1e-4
    ) -> NDArray[np.float64] | None:
        """The values of a solution whose cost is within a share ``gap`` of the least; None if there
        is none, or none was found within ``nodes`` nodes of the search tree. ``relaxed``: all
        variables are real.
        """
        count = [len(factors) for factors, _, _ in self._rows]
        where = np.repeat(np.arange(len(self._rows)), count)
        which = np.array([v for factors, _, _ in self._rows for v in factors])
        value = np.array([float(a) for factors, _, _ in self._rows for a in factors.values()])
        matrix = csr_array((value, (where, which)), shape=(len(self._rows), len(self._costs)))
        rows = LinearConstraint(
            matrix, [low for _, low, _ in self._rows], [high for _, _, high in self._rows]
        )
        whole = np.zeros(len(self._costs)) if relaxed else np.array(self._whole)
        with _nothing_printed():
            found = milp(
                np.array(self._costs),
                integrality=whole,
                bounds=Bounds(0, self._most),
                constraints=rows,
                options={"node_limit": nodes, "mip_rel_gap": gap},
            )
        values: NDArray[np.float64] | None = found.x
        return values


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Redirect standard output to standard error: HiGHS prints debugging lines even when it is
    configured to print nothing, and standard output may be a report (``--json``).
    """
    if sys.stdout is None:
        yield
        return
    with _one_at_a_time:
        sys.stdout.flush()
        own = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(own, 1)
            os.close(own)
