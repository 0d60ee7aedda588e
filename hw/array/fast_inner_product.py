"""The fast inner product (S. Winograd, 1968): two products from one multiplication, exactly. ::

    x1 * w1 + x2 * w2  =  (x1 + w2) * (x2 + w1)  -  x1 * x2  -  w1 * w2

Of the three terms, each PE computes the first: two adders of 8 bits and one multiplier of 9 by 9
bits take the place of two multipliers. ``x1 * x2`` is the same for all columns, so one more column,
the correction column, sums it (a PE whose weights are 0), and it is subtracted from the results as
they leave. ``w1 * w2`` is a constant of each column, which the array does not subtract: whoever
takes the result does (:func:`offsets`). An odd word is completed with an activation and a weight of
0. All sums are modulo a power of two, so only results have to fit the accumulator.
"""

from collections.abc import Sequence

import numpy as np
from amaranth import Module, Shape, Signal, Value
from numpy.typing import NDArray

from ..control.delay import delay_flags, duplicate
from ..sizes import ends

__all__ = ["corrected", "factors", "offsets", "pair_sum"]


def pair_sum(x: Shape, w: Shape) -> Shape:
    """Holds every ``x + w``."""
    (low, high), (least, most) = ends(x), ends(w)
    return Shape.cast(range(low + least, high + most + 1))


def offsets(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of ``w1 * w2`` over the rows of ``weights`` [pe, simd, depth]: [pe, depth]."""
    even = np.pad(weights, ((0, 0), (0, weights.shape[1] % 2), (0, 0)))
    return np.sum(even[:, 0::2] * even[:, 1::2], 1)


def factors(
    m: Module, x: tuple[Value, Value], w: tuple[Value, Value] | None, name: str
) -> tuple[Value, Value]:
    """The factors of a PE, a cycle after its operands; ``w`` None: of the correction column.

    The registers behind the adders are kept, because they let the PE be far from its block: without
    them an array of 156 ECP5 blocks runs at 131 MHz, with them at 205.
    """
    first, second = x if w is None else (x[0] + w[1], x[1] + w[0])
    return duplicate(m, first, name=f"{name}_first"), duplicate(m, second, name=f"{name}_second")


def corrected(
    m: Module,
    results: Sequence[Value],
    leaves: Value,
    correction: Value,
    ending: Sequence[Value],
) -> tuple[list[Signal], Value]:
    """What :func:`.drain` gives, less the correction of its reduction, a cycle later.

    ``correction`` is complete with the totals of the first group, a cycle after ``ending[0]``. It
    is held there until the last group's results are complete, and then while all results leave.
    """
    for n, ended in enumerate([ending[0], *ending[1:][-1:]]):
        held = Signal.like(correction, name=f"correction_held_{n}", reset_less=True)
        with m.If(duplicate(m, ended)):
            m.d.sync += held.eq(correction)
        correction = held
    less = [
        Signal.like(result, name=f"corrected_{lane}", reset_less=True)
        for lane, result in enumerate(results)
    ]
    for difference, result in zip(less, results, strict=True):
        m.d.sync += difference.eq(result - correction)
    return less, delay_flags(m, leaves, 1)
