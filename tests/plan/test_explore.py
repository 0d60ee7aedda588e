"""The design space: the front, its cache, and who computes it."""

import json
import sys
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import FitError, ToolError
from gatewright.compiler.plan import explore
from gatewright.hw.target.ecp5 import LFE5U_25F

DEVICE = replace(LFE5U_25F, dsp_sites=())


def graph():
    """Two convolutions on an 8x8x4 map, in floats."""
    rng = np.random.default_rng(1)

    def conv(name, source, out, into):
        weight = rng.normal(size=(out, 3, 3, into)).astype(np.float32)
        return ir.Conv(name, (source,), name, weight, window=ir.Window((3, 3), pads=(1, 1, 1, 1)))

    values = {"x": ir.Shape(8, 8, 4), "a": ir.Shape(8, 8, 8), "b": ir.Shape(8, 8, 6)}
    return ir.Graph(
        "net",
        (ir.InputPort("x", (8, 8, 4), "float32", "x", np.arange(256)),),
        (ir.OutputPort("y", (8, 8, 6), "float32", "b", np.arange(384)),),
        (conv("a", "x", 8, 4), conv("b", "a", 6, 8)),
        {name: ir.Value(name, shape) for name, shape in values.items()},
    )


def explored(**more):
    return explore.explore(graph(), DEVICE, "ulx3s-25f", points=6, **more)


def point(interval, lut, **more):
    return explore.Point(
        **{
            "target": interval,
            "interval": interval,
            "latency": 9,
            "multipliers": 1,
            "lut": lut,
            "ff": 5,
            "dsp": 1,
            "bram": 1,
        }
        | more
    )


def test_slower_plans_are_smaller_and_all_fit():
    found = explored()
    assert [p.interval for p in found] == sorted(p.interval for p in found)
    assert len(found) >= 4
    assert all(p.fits and p.dsp <= DEVICE.dsp for p in found)
    front = [p for p in found if p.pareto]
    assert front[0].lut > front[-1].lut
    assert front[0].interval < front[-1].interval / 8


def test_a_plan_that_another_beats_is_not_on_the_front():
    found = explore.pareto(
        [point(10, 100), point(20, 100), point(20, 90), point(5, 300, fits=False)]
    )
    assert [(p.interval, p.lut, p.pareto) for p in found] == [
        (5, 300, False),
        (10, 100, True),
        (20, 90, True),
        (20, 100, False),
    ]


def test_what_does_not_fit_beats_nothing():
    found = explore.pareto([point(5, 0, fits=False), point(10, 100)])
    assert [p.pareto for p in found] == [False, True]


def test_an_interrupted_exploration_goes_on(tmp_path, monkeypatch):
    cache = tmp_path / "explore.jsonl"
    whole = explored(cache=cache)
    lines = cache.read_text().splitlines()
    # As if it had ended while the fourth line was being written.
    cache.write_text("\n".join(lines[:3]) + "\n" + lines[3][:20])
    made = []
    make_dataflow = explore.make_dataflow
    monkeypatch.setattr(explore, "make_dataflow", lambda *a: made.append(a) or make_dataflow(*a))
    assert explored(cache=cache) == whole
    assert len(made) == len(lines) - 3
    assert explored(cache=cache) == whole
    assert len(made) == len(lines) - 3


def test_another_network_does_not_read_this_ones_points(tmp_path):
    cache = tmp_path / "explore.jsonl"
    explored(cache=cache)
    before = len(cache.read_text().splitlines())
    other = graph()
    other = replace(other, ops=(other.ops[0], replace(other.ops[1], weight=-other.ops[1].weight)))
    explore.explore(other, DEVICE, "ulx3s-25f", points=6, cache=cache)
    rows = [json.loads(line) for line in cache.read_text().splitlines()]
    assert len(rows) == 2 * before
    assert len({row["key"] for row in rows}) == 2


def test_processes_find_the_same_points():
    assert explored(jobs=2) == explored()


def test_progress_counts_the_plans_to_make():
    seen = []
    explored(progress=seen.append)
    assert seen[0].startswith("exploring: 1 of ")
    number, _, total = seen[-1].split(" ")[1:4]
    assert number == total


def test_nothing_fits_a_tiny_device():
    tiny = replace(DEVICE, lut=500)
    with pytest.raises(FitError, match="does not fit"):
        explore.explore(graph(), tiny, "ulx3s-25f")


class Cluster:
    """Stands in for a Dask client: computes at once."""

    workers = ("one",)

    def __init__(self, address, timeout):
        if address == "nowhere":
            raise OSError("timed out")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def scheduler_info(self):
        return {"workers": self.workers}

    def scatter(self, task, broadcast, hash):
        return task

    def submit(self, function, *arguments, pure):
        done = Future()
        done.set_result(function(*arguments))
        return done


@pytest.fixture
def dask(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "distributed", SimpleNamespace(Client=Cluster, as_completed=iter)
    )


@pytest.mark.usefixtures("dask")
def test_a_cluster_finds_the_same_points():
    assert explored(scheduler="tcp://somewhere:8786") == explored()


@pytest.mark.usefixtures("dask")
def test_a_cluster_that_does_not_answer_is_reported():
    with pytest.raises(ToolError, match="no Dask scheduler answers at nowhere"):
        explored(scheduler="nowhere")


@pytest.mark.usefixtures("dask")
def test_a_cluster_without_workers_is_reported(monkeypatch):
    monkeypatch.setattr(Cluster, "workers", ())
    with pytest.raises(ToolError, match="has no workers"):
        explored(scheduler="tcp://somewhere:8786")


def test_without_dask_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolError, match=r'pip install "dask\[distributed\]"'):
        explored(scheduler="tcp://somewhere:8786")
