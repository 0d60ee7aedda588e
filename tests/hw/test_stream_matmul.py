"""Products of two streams: every sum, without a pause between rows, products and frames."""

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import Rounding
from gatewright.hw.array.stream_matmul import StreamMatMul, StreamMatMulConfig
from gatewright.hw.target import GENERIC, ICE40
from numpy.testing import assert_array_equal

from .bench import STALLS, exchange, port, random_elements

FRAMES = 3
#: products, rows, inner, columns, lanes
SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 1, 4, 3, 1),
    (2, 3, 4, 5, 2),
    (1, 4, 8, 4, 4),
    (3, 2, 1, 5, 5),
    (2, 2, 2, 2, 1),
    (1, 1, 16, 9, 3),
]


def exact(config, a, b):
    acc = (a - config.zero_a) @ (b - config.zero_b)
    scaled = (acc * config.mult + config.offset) >> config.rounding.shift
    return np.clip(scaled, config.rounding.low, config.rounding.high)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("target", [GENERIC, ICE40])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_multiplies_matrices(shape, target, stall):
    products, rows, inner, columns, lanes = shape
    rounding = Rounding(8, None, -128, 127)
    config = StreamMatMulConfig(
        *shape, signed(8), unsigned(4), signed(8), -3, 5, 37, 1000, rounding, target=target
    )
    a = random_elements(config.a, (FRAMES, products, rows, inner), seed=1)
    b = random_elements(config.b, (FRAMES, products, inner, columns), seed=2)
    padded = np.pad(b, ((0, 0), (0, 0), (0, 0), (0, config.folds * lanes - columns)))
    beats = FRAMES * products * rows * config.folds
    dut = StreamMatMul(config)
    (seen,), _ = exchange(
        dut,
        [(port(dut.a), a.reshape(-1, 1)), (port(dut.b), padded.reshape(-1, lanes))],
        [(port(dut.o), beats)],
        stall=stall,
    )
    values = np.reshape(seen.values, (FRAMES, products, rows, -1))[..., :columns]
    assert_array_equal(values, exact(config, a, b))
    if not stall:
        ends = np.reshape(seen.cycles, (FRAMES, -1))[:, -1]
        assert set(np.diff(ends)) == {config.cycles()}
