"""A tile queue gives the rows of a map whose pixels come tile by tile."""

import random

import numpy as np
import pytest
from amaranth import unsigned
from gatewright.hw.target import ECP5, GENERIC
from gatewright.hw.window.tile_queue import TileQueue, TileQueueConfig

from .bench import simulate

BITS = 16


@pytest.mark.parametrize("target", [GENERIC, ECP5], ids=lambda target: target.name)
@pytest.mark.parametrize(("writes", "reads"), [(1.0, 1.0), (0.3, 1.0), (1.0, 0.4), (0.5, 0.5)])
@pytest.mark.parametrize(("columns", "beats"), [(1, 1), (1, 3), (2, 1), (5, 1), (3, 4)])
def test_pixels_leave_row_by_row(columns, beats, writes, reads, target):
    """``writes``, ``reads``: the chances that a word is written where there is room, and taken."""
    rows = 12
    words = np.arange(rows * 2 * columns * beats).reshape(rows, 2 * columns, beats)
    by_tiles = words.reshape(rows // 2, 2, columns, 2, beats).swapaxes(1, 2).reshape(-1)
    dut = TileQueue(unsigned(BITS), TileQueueConfig(columns, beats, BITS, target))
    rng, seen, first = random.Random(columns), [], []
    per_tile = 4 * beats

    async def bench(ctx):
        written, room, ready, cycle = 0, dut.config.tiles, False, 0
        while len(seen) < len(by_tiles):
            begun = bool(written % per_tile)
            write = written < len(by_tiles) and (begun or room > 0) and rng.random() < writes
            ctx.set(dut.write, write)
            ctx.set(dut.data, int(by_tiles[written]) if write else 0)
            ctx.set(dut.o.ready, ready := rng.random() < reads)
            _, _, valid, payload, freed = await ctx.tick().sample(
                dut.o.valid, dut.o.payload, dut.freed
            )
            if valid and ready:
                seen.append(payload)
                first.append(cycle)
            room += freed - (write and not begun)
            written += write
            cycle += 1

    simulate(dut, bench)
    np.testing.assert_array_equal(seen, words.reshape(-1))
    if writes == reads == 1.0:  # a word a cycle, but for a tile that is read only when it is whole
        assert first[-1] - len(by_tiles) <= 2 * per_tile + 2 * columns * beats + 16
