"""The weights of a systolic array, from block RAM or from logic, each in the cycle in which its
multiplier takes it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from amaranth import Cat, Module, Signal, Value
from numpy.typing import NDArray

from ..control.delay import delay, delays, duplicate
from ..control.loops import Loops
from ..memory.packed_rows import PackedRowsRom
from ..memory.rom import Rom, table
from ..sizes import ceil_div
from .config import ArrayConfig
from .weight_memory import BAND

__all__ = ["weights_at"]

#: (row, column) of a multiplier
Place = tuple[int, int]


def weights_at(
    m: Module, config: ArrayConfig, weights: NDArray[np.int64], steps: Value
) -> dict[Place, Value]:
    """The weight of each (row, column), from memories whose addresses travel with the activations.

    ``weights``: [pe, rows, depth] by channel. ``steps`` goes to the next word of them.
    """
    words = {
        (row, column): weights[config.channel(column), row]
        for row in range(config.rows)
        for column in range(config.pe)
    }
    if config.packed_rows:
        address = config.packed_rows[0].steps(m, steps)
    else:
        address = Value.cast(Loops(m, steps, {"address": config.depth}).count["address"])
    return (_in_block_ram if config.in_memory else _in_logic)(m, config, words, address)


def _in_logic(m, c, words, address):
    """Each weight from a memory of its own."""
    at = {}
    for row in range(c.rows):
        skews = [c.skew((row, column)) for column in range(c.pe)]
        waiting = delays(m, delay(m, address, row), max(skews) - row)
        for column, skew in enumerate(skews):
            here = waiting[skew - row]
            values = [int(word) % (1 << c.weight_word.width) for word in words[row, column]]
            w = Signal(c.weight_word, name=f"w_{row}_{column}")
            own = here if c.weight_latency == 2 else duplicate(m, here)
            m.d.comb += w.eq(
                values[0]
                if c.depth == 1
                else table(m, f"weights_{row}_{column}", own, values, c.weight_word.width)
            )
            at[row, column] = w
    return at


def _in_block_ram(m, c, words, address):
    """All weights from pieces of their words in block RAM, each read in time for the first of its
    weights; the others are delayed.
    """
    width = c.weight_word.width
    order, held, first = c.order(), [], 0
    for piece in c.pieces:
        held.append(order[first // width : ceil_div(first + piece, width)])
        first += piece
    starts = [min(places, key=c.skew) for places in held]
    addresses = _addresses(m, c, address, starts)
    parts = {place: [] for place in order}
    first = 0
    for n, (piece, places, start) in enumerate(zip(c.pieces, held, starts, strict=True)):
        offset = first % width
        values = [
            (value >> offset) & ((1 << piece) - 1)
            for value in _together([words[place] for place in places], width)
        ]
        m.submodules[f"weights_{n}"] = rom = (
            PackedRowsRom(values, c.packed_rows[n])
            if c.packed_rows
            else Rom(values, piece, c.target, whole=True)
        )
        m.d.comb += rom.address.eq(duplicate(m, addresses[start]))
        for k, place in enumerate(places):
            low = k * width - offset
            part = rom.data[max(low, 0) : min(low + width, piece)]
            parts[place].append(delay(m, part, c.skew(place) - c.skew(start)))
        first += piece
    at = {}
    for row, column in order:
        at[row, column] = w = Signal(c.weight_word, name=f"w_{row}_{column}")
        m.d.comb += w.eq(Cat(parts[row, column]))
    return at


def _addresses(m, c, address, starts: Sequence[Place]) -> Mapping[Place, Value]:
    """The address for each of ``starts``, delayed down the bands of rows and then along a band."""
    at = {}
    for band in range(max(row for row, _ in starts) // BAND + 1):
        for _ in range(BAND if band else 0):
            address = duplicate(m, address)
        places = [place for place in starts if place[0] // BAND == band]
        here, skew = address, band * BAND
        for place in sorted(places, key=c.skew):
            for _ in range(c.skew(place) - skew):
                here = duplicate(m, here)
            at[place], skew = here, c.skew(place)
    return at


def _together(words: Sequence[NDArray[np.int64]], width: int) -> list[int]:
    """Words of several weights of ``width`` bits each, the first in the low bits."""
    columns = [weights & ((1 << width) - 1) for weights in words]
    return [
        sum(int(w) << k * width for k, w in enumerate(word)) for word in zip(*columns, strict=True)
    ]
