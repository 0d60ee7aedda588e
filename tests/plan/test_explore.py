"""The design space: the front, its cache, and who computes it."""

import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import FitError, ToolError
from gatewright.compiler.plan import explore, workers
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
    return explore.explore(graph(), DEVICE, "ulx3s-25f", **{"points": 6, **more})


def point(interval, lut, **more):
    return explore.Point(
        **{
            "target": interval,
            "interval": interval,
            "share": lut / 1000,
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
    assert seen[:3] == [
        "exploring: the plan of the highest rate",
        "exploring: the plan of the least latency",
        "exploring: the plan of the least hardware",
    ]
    assert seen[3:] == [f"exploring: {number} of 7 plans" for number in range(4, 8)]


def test_nothing_fits_a_tiny_device():
    tiny = replace(DEVICE, lut=500)
    with pytest.raises(FitError, match="does not fit"):
        explore.explore(graph(), tiny, "ulx3s-25f")


@pytest.fixture(scope="module")
def cluster():
    """Three worker processes behind a scheduler on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as running:
        yield running


def test_a_cluster_that_loses_a_worker_loses_nothing_else(cluster, tmp_path):
    cache = tmp_path / "points.jsonl"
    killed = []

    def kill_one(words):
        if not killed:
            pids = cluster.scheduler_info["workers"]
            killed.append(next(iter(pids)))
            os.kill(_process(cluster, killed[0]), signal.SIGKILL)

    found = explored(scheduler=cluster.scheduler_address, cache=cache, progress=kill_one)
    assert killed
    assert found == explored()
    rows = [json.loads(line)["for"] for line in cache.read_text().splitlines()]
    assert len(rows) == len(set(rows))


def _process(cluster, address):
    """The process of the worker at ``address``."""
    nannies = [worker for worker in cluster.workers.values() if worker.worker_address == address]
    return nannies[0].pid


def test_an_interrupt_keeps_what_is_known(tmp_path, monkeypatch):
    cache = tmp_path / "points.jsonl"

    def stop(words):
        if words == "exploring: 4 of 7 plans":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explored(cache=cache, progress=stop)
    known = len(cache.read_text().splitlines())
    made = []
    make_dataflow = explore.make_dataflow
    monkeypatch.setattr(explore, "make_dataflow", lambda *a: made.append(a) or make_dataflow(*a))
    assert explored(cache=cache) == explored()
    rest = len(cache.read_text().splitlines()) - known
    assert known > 3
    assert rest > 0
    assert len(made) == 2 * rest + known


@pytest.mark.parametrize("items", [[1], []])
def test_a_scheduler_that_does_not_answer_is_reported(items):
    with pytest.raises(ToolError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 "):
        list(workers.spread(abs, items, 1, "tcp://127.0.0.1:1", patience=0.5))


def test_a_cluster_without_workers_is_reported():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", processes=False) as empty,
        pytest.raises(ToolError, match="has no workers"),
    ):
        list(workers.spread(abs, [1], 1, empty.scheduler_address))


def test_without_dask_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolError, match=r"pip install '\.\[dask\]'"):
        explored(scheduler="tcp://somewhere:8786")


def test_a_scheduler_is_not_ignored_where_the_ends_are_all_plans(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolError, match="needs Dask"):
        explored(points=2, scheduler="tcp://somewhere:8786")
