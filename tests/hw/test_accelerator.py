"""The accelerator's own ends: AXI4-Stream, and the marker of each frame's last beat."""

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import (
    Accelerator,
    AxiStreamConfig,
    Connection,
    Fifo,
    Fork,
    WidthConfig,
    WidthConverter,
)
from numpy.testing import assert_array_equal

from .bench import STALLS, Port, exchange, random_elements


def rtl(dut, beats, count, element, stall=0.0):
    def axi(prefix, border):
        return Port(
            *(getattr(dut, f"{prefix}_{name}") for name in ("tvalid", "tready", "tdata")),
            border.lanes,
            element,
        )

    (seen,), _ = exchange(
        dut,
        [(axi("s_axis", dut.source), beats)],
        [(axi("m_axis", dut.sink), count)],
        stall=stall,
        last=dut.m_axis_tlast,
    )
    return seen


def queue(lanes, element, beats):
    border = AxiStreamConfig(lanes, element, beats)
    return Accelerator(
        {"queue": Fifo(lanes, element, 4)},
        [Connection(("", "o"), ("queue", "i")), Connection(("queue", "o"), ("", "i"))],
        border,
        border,
    )


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("beats", [1, 2, 5, 8])
def test_tlast_marks_the_end_of_every_frame(beats, stall):
    words = random_elements(signed(8), (4 * beats, 2))
    seen = rtl(queue(2, signed(8), beats), words, len(words), signed(8), stall)
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
    assert_array_equal(rtl(dut, words, 6, element).values, words)


@pytest.mark.parametrize("stall", STALLS)
def test_links_join_stages_by_name(stall):
    """Into a fork; one of its ends is narrowed and leaves, the other is always ready."""
    element = unsigned(8)
    stages = {
        "fork": Fork(2, element, 2),
        "spare": Fifo(2, element, 64),
        "narrow": WidthConverter(WidthConfig(4, 2, 1, element)),
    }
    connections = [
        Connection(("", "o"), ("fork", "i")),
        Connection(("fork", "o", 0), ("spare", "i")),
        Connection(("fork", "o", 1), ("narrow", "i")),
        Connection(("narrow", "o"), ("", "i")),
    ]
    dut = Accelerator(
        stages, connections, AxiStreamConfig(2, element, 2), AxiStreamConfig(1, element, 4)
    )
    words = np.arange(24).reshape(12, 2)
    seen = rtl(dut, words, 24, element, stall)
    assert seen.values.reshape(-1).tolist() == list(range(24))
    assert [n for n, last in enumerate(seen.lasts) if last] == [3, 7, 11, 15, 19, 23]
