"""Integer programs and what solves them."""

import ctypes

import pytest
from gatewright.compiler.plan import integer_program
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


def test_a_solver_that_prints_leaves_standard_output_alone(monkeypatch, capfd):
    milp = integer_program.milp

    def prints(*args, **more):
        ctypes.CDLL(None).puts(b"debugging")
        return milp(*args, **more)

    monkeypatch.setattr(integer_program, "milp", prints)
    assert cheapest().solve(1000) is not None
    out, err = capfd.readouterr()
    assert (out, err) == ("", "debugging\n")
