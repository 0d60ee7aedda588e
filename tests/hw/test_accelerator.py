"""The accelerator's own ports: AXI4-Stream, and the marker of each frame's last beat."""

import json

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.compiler.emit import emit
from gatewright.hw import (
    Accelerator,
    AxiStreamConfig,
    Concat,
    ConcatConfig,
    Connection,
    Fifo,
    Fork,
    WidthConfig,
    WidthConverter,
    port_prefixes,
)
from gatewright.hw.target import GENERIC
from numpy.testing import assert_array_equal

from .bench import STALLS, Port, exchange, random_elements


def rtl(dut, frames, counts, stall=0.0):
    """What comes out of each port, ``counts`` beats, for the beats that go into each."""

    def axi(prefix, config):
        signals = (getattr(dut, f"{prefix}_{name}") for name in ("tvalid", "tready", "tdata"))
        return Port(*signals, config.lanes, config.element)

    seen, _ = exchange(
        dut,
        [
            (axi(prefix, dut.sources[name]), frames[name])
            for name, prefix in dut.source_prefixes.items()
        ],
        [
            (axi(prefix, dut.sinks[name]), counts[name])
            for name, prefix in dut.sink_prefixes.items()
        ],
        stall=stall,
        lasts=[getattr(dut, f"{prefix}_tlast") for prefix in dut.sink_prefixes.values()],
    )
    return dict(zip(dut.sinks, seen, strict=True))


def queue(lanes, element, beats):
    config = AxiStreamConfig(lanes, element, beats)
    connections = [Connection(("", "x"), ("queue", "i")), Connection(("queue", "o"), ("", "y"))]
    return Accelerator(
        {"queue": Fifo(lanes, element, 4, GENERIC)}, connections, {"x": config}, {"y": config}
    )


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("beats", [1, 2, 5, 8])
def test_tlast_marks_the_end_of_every_frame(beats, stall):
    words = random_elements(signed(8), (4 * beats, 2))
    seen = rtl(queue(2, signed(8), beats), {"x": words}, {"y": len(words)}, stall)["y"]
    assert_array_equal(seen.values, words)
    assert seen.lasts == ([0] * (beats - 1) + [1]) * 4


@pytest.mark.parametrize(
    ("lanes", "element", "bits"),
    [
        (1, signed(8), 8),
        (3, signed(8), 24),
        (3, signed(3), 16),
        (1, unsigned(1), 8),
        (5, signed(6), 32),
    ],
)
def test_the_bus_is_whole_bytes(lanes, element, bits):
    dut = queue(lanes, element, 3)
    assert len(dut.s_axis_tdata) == len(dut.m_axis_tdata) == bits
    words = random_elements(element, (6, lanes))
    assert_array_equal(rtl(dut, {"x": words}, {"y": 6})["y"].values, words)


@pytest.mark.parametrize("stall", STALLS)
def test_connections_join_stages_by_name(stall):
    """Into a fork; one of its ends is narrowed and leaves, the other is always ready."""
    element = unsigned(8)
    stages = {
        "fork": Fork(2, element, 2),
        "spare": Fifo(2, element, 64, GENERIC),
        "narrow": WidthConverter(WidthConfig(4, 2, 1, element)),
    }
    connections = [
        Connection(("", "x"), ("fork", "i")),
        Connection(("fork", "o", 0), ("spare", "i")),
        Connection(("fork", "o", 1), ("narrow", "i")),
        Connection(("narrow", "o"), ("", "y")),
    ]
    dut = Accelerator(
        stages,
        connections,
        {"x": AxiStreamConfig(2, element, 2)},
        {"y": AxiStreamConfig(1, element, 4)},
    )
    words = np.arange(24).reshape(12, 2)
    seen = rtl(dut, {"x": words}, {"y": 24}, stall)["y"]
    assert seen.values.reshape(-1).tolist() == list(range(24))
    assert [n for n, last in enumerate(seen.lasts) if last] == [3, 7, 11, 15, 19, 23]


def side_by_side():
    """Two inputs of two and three channels; all five leave, and the first input by itself too."""
    element = unsigned(8)
    stages = {
        "fork": Fork(1, element, 2),
        "concat": Concat(ConcatConfig((2, 3), 1, element, 4)),
        "queue": Fifo(1, element, 16, GENERIC),
    }
    connections = [
        Connection(("", "left eye"), ("fork", "i")),
        Connection(("fork", "o", 0), ("concat", "i", 0)),
        Connection(("", "left/eye"), ("concat", "i", 1)),
        Connection(("fork", "o", 1), ("queue", "i")),
        Connection(("concat", "o"), ("", "both")),
        Connection(("queue", "o"), ("", "left")),
    ]
    return Accelerator(
        stages,
        connections,
        {"left eye": AxiStreamConfig(1, element, 8), "left/eye": AxiStreamConfig(1, element, 12)},
        {"both": AxiStreamConfig(1, element, 20), "left": AxiStreamConfig(1, element, 8)},
    )


@pytest.mark.parametrize("stall", STALLS)
def test_every_port_has_its_own_handshake_and_its_own_frames(stall):
    left, right = (random_elements(unsigned(8), (n, 1), n) for n in (24, 36))
    frames = {"left eye": left, "left/eye": right}
    seen = rtl(side_by_side(), frames, {"both": 60, "left": 24}, stall)
    both = np.concatenate([left.reshape(-1, 2), right.reshape(-1, 3)], axis=1)
    assert_array_equal(seen["both"].values.reshape(-1, 5), both)
    assert_array_equal(seen["left"].values, left)
    assert [n for n, last in enumerate(seen["both"].lasts) if last] == [19, 39, 59]
    assert [n for n, last in enumerate(seen["left"].lasts) if last] == [7, 15, 23]


def test_prefixes_are_legal_identifiers_and_differ():
    names = ("left eye", "left/eye", "LEFT_EYE", "é", "", "n" * 100, "n" * 101)
    prefixes = port_prefixes(names, "s_axis")
    assert list(prefixes.values())[:5] == [
        "s_axis_left_eye",
        "s_axis_left_eye_2",
        "s_axis_LEFT_EYE_3",
        "s_axis__",
        "s_axis_",
    ]
    assert len({prefix.lower() for prefix in prefixes.values()}) == len(names)
    assert max(map(len, prefixes.values())) < 64
    assert port_prefixes(("left eye",), "m_axis") == {"left eye": "m_axis"}


def test_the_interface_lists_every_port(tmp_path):
    emit(side_by_side(), tmp_path)
    found = json.loads((tmp_path / "interface.json").read_text())
    port = {"bits": 8, "lanes": 1}
    signals = found.pop("signals")
    assert {"fork.o__1__valid", "concat.i__1__ready"} <= signals.keys()
    assert found == {
        "inputs": [
            {"name": "left eye", "prefix": "s_axis_left_eye", "beats": 8, **port},
            {"name": "left/eye", "prefix": "s_axis_left_eye_2", "beats": 12, **port},
        ],
        "outputs": [
            {"name": "both", "prefix": "m_axis_both", "beats": 20, **port},
            {"name": "left", "prefix": "m_axis_left", "beats": 8, **port},
        ],
    }
    verilog = (tmp_path / "accelerator.v").read_text()
    for name in ("s_axis_left_eye_2_tdata", "m_axis_both_tlast", "m_axis_left_tready"):
        assert name in verilog
