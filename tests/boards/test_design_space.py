"""Builds of a design space: which plans, what is kept of them."""

import json
from dataclasses import replace

import pytest
from gatewright import boards
from gatewright.boards.flow import design_space
from gatewright.compiler.errors import DataError, TimingError
from gatewright.compiler.plan.explore import Point

BOARD = boards.get("icebreaker")
POINT = Point(0, 0, 9, 1, 100, 100, 1, 1, share=0.5, pareto=True)


def points(*intervals):
    return [replace(POINT, interval=number, plan=str(number)) for number in intervals]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(0, []), (1, [100]), (2, [100, 10_000]), (3, [100, 1_000, 10_000]), (9, None)],
)
def test_the_built_plans_are_spread_over_the_front(count, chosen):
    found = points(100, 120, 1_000, 9_000, 10_000)
    promising = [point.interval for point in design_space._promising(found, count)]
    assert promising == ([100, 120, 1_000, 9_000, 10_000] if chosen is None else chosen)


def test_a_plan_off_the_front_is_not_built():
    found = [replace(point, pareto=point.interval == 20) for point in points(10, 20, 30)]
    assert [point.interval for point in design_space._promising(found, 5)] == [20]


def explored(model, out, builds):
    return design_space.explore_model(model, BOARD, out, samples=None, points=2, builds=builds)


@pytest.fixture
def built(monkeypatch):
    """Directories that were built; the second one does not meet its clock."""
    found = []

    def build(directory, board):
        found.append(directory)
        met = len(found) != 2
        summary = {
            "timing_met": met,
            "clock_mhz": 24.0,
            "fmax_mhz": 30.0 if met else 20.0,
            "utilization": {"lut": {"used": 7, "available": 9}},
            "tools": {},
        }
        (directory / "build.json").write_text(json.dumps(summary))
        if not met:
            raise TimingError("too slow")

    monkeypatch.setattr(design_space, "build", build)
    return found


def test_builds_are_kept_by_content(qdq, built, tmp_path):
    first = explored(qdq, tmp_path, 1)
    assert len(built) == 1
    assert (built[0] / "rtl" / "accelerator.v").exists()
    row = next(point for point in first["points"] if point["built"])
    assert row["built"]["fps"] == 24e6 / row["interval"]
    assert explored(qdq, tmp_path, 1) == first
    assert len(built) == 1
    more = explored(qdq, tmp_path, 2)
    assert len(built) == 2
    slow = [point["built"] for point in more["points"] if point["built"]]
    assert [one["timing_met"] for one in slow].count(False) == 1
    assert [one["fps"] for one in slow].count(None) == 1


def test_the_unit_of_logic_is_that_of_the_boards_family(qdq, tmp_path):
    assert explored(qdq, tmp_path, 0)["logic_unit"] == BOARD.device.target.logic_unit
    assert '"logic_unit": "logic cells"' in (tmp_path / "explore.html").read_text()


def test_a_float_network_needs_samples_to_be_built(floats, tmp_path):
    with pytest.raises(DataError, match="give some dozens with --calibration"):
        explored(floats, tmp_path / "space", 1)
    assert not (tmp_path / "space").exists()
