"""Mixed integer programs, built a row at a time and solved by HiGHS."""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

import highspy
import numpy as np
from numpy.typing import NDArray

__all__ = ["Program"]

#: on one thread, so that the solution does not depend on how many there are
_OPTIONS: dict[str, bool | int | float | str] = {
    "output_flag": False,
    "threads": 1,
    "parallel": "off",
}

_one_at_a_time = Lock()


class Program:
    """Minimize ``costs @ x`` over rows ``low <= a @ x <= high`` and x >= 0."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._most: list[float] = []
        self._whole: list[bool] = []
        self._rows: list[tuple[Mapping[int, float], float, float]] = []

    def binaries(self, costs: Sequence[float]) -> list[int]:
        """New variables of 0 or 1 and their numbers."""
        return self._add(costs, 1.0, True)

    def integers(self, costs: Sequence[float]) -> list[int]:
        """New whole variables, not negative."""
        return self._add(costs, np.inf, True)

    def reals(self, costs: Sequence[float]) -> list[int]:
        """New variables, not negative."""
        return self._add(costs, np.inf, False)

    def _add(self, costs: Sequence[float], most: float, whole: bool) -> list[int]:
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
        options = {**_OPTIONS, "mip_max_nodes": nodes, "mip_rel_gap": gap}
        with _nothing_printed():
            solver = highspy.Highs()  # type: ignore[no-untyped-call]
            for name, value in options.items():
                solver.setOptionValue(name, value)
            solver.passModel(self._model(relaxed))
            solver.run()
        feasible = highspy.SolutionStatus.kSolutionStatusFeasible
        if solver.getInfo().primal_solution_status != feasible:
            return None
        return np.array(solver.getSolution().col_value)

    def _model(self, relaxed: bool) -> highspy.HighsLp:
        """The program in the solver's terms."""
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self._costs), len(self._rows)
        model.col_cost_ = np.array(self._costs)
        model.col_lower_, model.col_upper_ = np.zeros(len(self._costs)), np.array(self._most)
        model.row_lower_ = np.array([low for _, low, _ in self._rows])
        model.row_upper_ = np.array([high for _, _, high in self._rows])
        matrix = model.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kRowwise
        matrix.start_ = np.cumsum([0, *(len(factors) for factors, _, _ in self._rows)])
        matrix.index_ = np.array([v for factors, _, _ in self._rows for v in factors])
        matrix.value_ = np.array(
            [float(a) for factors, _, _ in self._rows for a in factors.values()]
        )
        if not relaxed:
            kind = highspy.HighsVarType
            model.integrality_ = [
                kind.kInteger if whole else kind.kContinuous for whole in self._whole
            ]
        return model


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Drop what is written to standard output: HiGHS prints a notice with the first solver, and
    debugging lines, even when it is configured to print nothing, and standard output may be a
    report (``--json``).
    """
    if sys.stdout is None:
        yield
        return
    with _one_at_a_time:
        sys.stdout.flush()
        own, dropped = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        os.dup2(dropped, 1)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(own, 1)
            os.close(own)
            os.close(dropped)
