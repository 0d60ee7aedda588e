"""Mutated networks, plans, samples and serial replies end in a result or in one clear error, in
bounded time and memory.

``GATEWRIGHT_FUZZ=N`` draws N cases of each instead of the few of the suite.
"""

import os
import random
import resource
import signal
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from gatewright.boards import get
from gatewright.boards.link.driver import Host
from gatewright.boards.link.emulator import BoardModel, MemoryPort
from gatewright.boards.link.protocol import LinkConfig, LinkPort
from gatewright.cli import main
from gatewright.compiler.data import read_samples
from gatewright.compiler.driver import fit, read_network
from gatewright.compiler.errors import GatewrightError, printable
from gatewright.compiler.frontend import load
from gatewright.compiler.plan import Dataflow, Goal, make_dataflow, read_plan, write_plan
from gatewright.compiler.plan.fifo import check_queues

from .mutations import dialect, mutate_network, mutated_bytes, mutated_json, network, samples

MORE = int(os.environ.get("GATEWRIGHT_FUZZ", "0"))
SECONDS, BYTES = 20, 2 << 30
BOARD = get("ulx3s-25f")


def cases(few):
    """Seeds: a few in the suite, many when asked for."""
    return range(MORE or few)


@contextmanager
def bounded():
    """At most ``SECONDS``, and ``BYTES`` more than are in use; errors of gatewright pass."""

    def late(*_):
        pytest.fail(f"takes more than {SECONDS} s")

    page = os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * page
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    except GatewrightError as error:
        if not 1 <= len(printable(str(error))) < 8010:
            pytest.fail(f"no message, or a flood: {str(error)[:99]}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("seed", range(20))
def test_networks_of_other_dialects_are_read_unless_mutated(seed, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(dialect(random.Random(seed)), path)
    fit(load(path), BOARD.device, BOARD.name, Goal())


@pytest.mark.parametrize(
    ("build", "seed"),
    [(build, seed) for build, few in ((network, 150), (dialect, 100)) for seed in cases(few)],
)
def test_networks(build, seed, tmp_path):
    rng = random.Random(seed)
    model = build(rng)
    if rng.random() < 0.8:
        mutate_network(model, rng)
        content = model.SerializeToString()
    else:
        content = mutated_bytes(model.SerializeToString(), rng)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with bounded():
        fit(read_network(path).graph, BOARD.device, BOARD.name, Goal())


def test_a_vector_of_a_million_million_elements_takes_no_memory(tmp_path):
    """ONNX's inference of shapes holds a number for each element of it."""
    node = onnx.helper.make_node
    nodes = [
        node("Expand", ["one", "many"], ["v"], name="expand"),
        node("Add", ["v", "v"], ["w"], name="double"),
        node("Add", ["x", "w"], ["y"], name="sum"),
    ]
    port = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [port("x", onnx.TensorProto.FLOAT, ["N", 2])],
        [port("y", onnx.TensorProto.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in {"one": np.float32(1), "many": np.array([1 << 40])}.items()
        ],
    )
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=8), path)
    with bounded():
        result = CliRunner().invoke(main, ["check", str(path)])
    assert "error: expand (Expand): its result has 1099511627776 elements" in result.output


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A network of integers, with its plan as a file holds it."""
    path = tmp_path_factory.mktemp("planned")
    onnx.save(network(Only(1)), path / "model.onnx")
    graph = load(path / "model.onnx")
    write_plan(make_dataflow(graph, BOARD.device, BOARD.name, Goal()).plan, path / "plan.json")
    return graph, (path / "plan.json").read_text()


class Only(random.Random):
    """Chooses the element of a given index."""

    def __init__(self, index):
        super().__init__(0)
        self.index = index

    def choice(self, seq):
        return seq[self.index]


@pytest.mark.parametrize("seed", cases(150))
def test_plans(seed, planned, tmp_path):
    graph, text = planned
    path = tmp_path / "plan.json"
    path.write_bytes(mutated_json(text, random.Random(seed)))
    with bounded():
        check_queues(Dataflow(graph, read_plan(path), BOARD.device))


@pytest.mark.parametrize("seed", cases(150))
def test_samples(seed, planned, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(samples(random.Random(seed), (1, 5, 5)))
    with bounded():
        assert np.isfinite(read_samples(path, planned[0]).x["x"]).all()


LINK = LinkConfig(
    inputs=(LinkPort("x", "s_axis", 4, 20), LinkPort("w", "s_axis_w", 1, 3)),
    outputs=(LinkPort("y", "m_axis", 2, 8),),
    clock_hz=25_000_000,
    baud=10_000_000,
    design_id=0xABCDEF,
    pause_seconds=0.001,
)
FRAME = {"x": [0, 1, 0xFFFFF, 0x12345], "w": [5]}


def _computed(beats):
    return {"y": [sum(beats["x"]) % 256, beats["w"][0]]}


class Noisy(MemoryPort):
    """A port whose replies are mutated, or drowned in noise, or that fails."""

    def __init__(self, board, rng):
        super().__init__(board)
        self.rng = rng
        self.kind = rng.choice(("mutated", "mutated", "before", "babble", "fails"))

    def write(self, data):
        reply = self.board.feed(data)
        if self.kind == "mutated":
            reply = mutated_bytes(reply, self.rng)
        elif self.kind == "before":
            reply = self.rng.randbytes(self.rng.randrange(99)) + reply
        self._arrived += reply
        return len(data)

    def read(self, size=1):
        if self.kind == "babble":
            return bytes(self.rng.choice((0xA5, 0x46, 0x50, 0)) for _ in range(size))
        if self.kind == "fails":
            raise self.rng.choice((OSError("gone"), TypeError("closed"), ValueError("bad")))
        return super().read(size)


@pytest.mark.parametrize("seed", cases(60))
def test_replies(seed):
    rng = random.Random(seed)
    board = BoardModel(LINK, _computed, cycles=77)
    with bounded(), Host(Noisy(board, rng), LINK, patience=0.02) as host:
        if rng.random() < 0.3:
            host.ping()
        result = host.run(FRAME)
        assert {name: list(beats) for name, beats in result.beats.items()} == _computed(FRAME)


@pytest.mark.parametrize("seed", cases(20))
def test_the_command_line_prints_one_error(seed, tmp_path):
    rng = random.Random(1000 + seed)
    model = network(rng)
    mutate_network(model, rng)
    onnx.save(model, tmp_path / "model.onnx")
    with bounded():
        result = CliRunner().invoke(main, ["check", str(tmp_path / "model.onnx")])
    assert isinstance(result.exception, SystemExit | None), result.output
    if result.exit_code:
        assert result.exit_code == 1
        assert result.output.count("error: ") == 1 or "does not fit" in result.output
        assert "gatewright has a fault" not in result.output
    assert "\x1b" not in result.output
