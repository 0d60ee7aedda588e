"""Integer programs and what solves them."""

import ctypes
import sys

import highspy
import pytest
from gatewright.compiler.plan.integer_program import Program


def cheapest():
    """The cheapest of three that together weigh at least 3."""
    model = Program()
    a, b, c = model.binaries([3.0, 1.0, 2.0])
    model.row({a: 2.0, b: 1.0, c: 2.0}, 3, float("inf"))
    return model


def test_the_least_cost():
    assert cheapest().solve(1000).round().tolist() == [0, 1, 1]
    assert cheapest().solve(1000, relaxed=True) @ [3, 1, 2] == pytest.approx(3)


def test_a_program_without_a_solution():
    model = cheapest()
    model.row({0: 1.0, 1: 1.0}, 3, float("inf"))
    assert model.solve(1000) is None
    assert model.solve(1000, relaxed=True) is None


def test_a_solver_that_prints_leaves_standard_output_alone(monkeypatch, capfd):
    run = highspy.Highs.run

    def prints(solver):
        ctypes.CDLL(None).puts(b"debugging")
        return run(solver)

    monkeypatch.setattr(highspy.Highs, "run", prints)
    assert cheapest().solve(1000) is not None
    sys.stdout.write("a report\n")
    assert capfd.readouterr() == ("a report\n", "")
