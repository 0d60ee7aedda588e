"""A function of one integer, by table."""

from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

from amaranth import Cat, Module, Shape, Signal, Value
from amaranth.lib import memory

from ..control.delay import delay
from ..sizes import at_least
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.resources import Resources
from .pipeline import PipelineTiming, UnaryPipeline

__all__ = ["LookupConfig", "Lookup"]


@dataclass(frozen=True)
class LookupConfig(PipelineTiming):
    """``table[x]`` for each of ``lanes`` channels; the table is indexed by the bits of ``x``.

    It is in LUTs or in a block RAM, by the limit of ``target``.
    """

    lanes: int
    element: Shape
    out: Shape
    table: tuple[int, ...]
    beats: int
    target: Target = field(kw_only=True)

    #: cycles of the arithmetic: the memory, and a register
    pipeline: ClassVar[int] = 2
    #: cycles from a beat in to the beat out
    latency: ClassVar[int] = pipeline + Queue.latency

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")
        if len(self.table) != 1 << self.element.width:
            raise ValueError(
                f"LookupConfig: a table of {len(self.table)} entries, but {self.element!r} has "
                f"{1 << self.element.width} values"
            )

    @staticmethod
    def estimate(lanes: int, words: int, width: int, target: Target) -> Resources:
        """A table of ``words`` of ``width`` bits for each lane, and a queue.

        In LUTs most functions take less than a LUT for each of ``table_bits``, and selections.
        """
        table = Resources(10, 20, 0, target.block_rams(words, width))
        if _in_logic(words, width, target):
            table = Resources(10 + ceil(1.3 * words * width / target.table_bits), 20)
        return Resources(60, 40) + table * lanes + Queue.estimate(width * lanes, target)


def _in_logic(words: int, width: int, target: Target) -> bool:
    """Whether a table is in LUTs."""
    return words * width <= target.logic_table_bits


class Lookup(UnaryPipeline):
    """``o = table[i]``, lane by lane.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, out))
    """

    def __init__(self, config: LookupConfig):
        self.config = config
        super().__init__(config.lanes, config.element, config.out)

    def arithmetic(self, m: Module, words) -> Value:
        c = self.config
        mask = (1 << c.out.width) - 1
        place = "logic" if _in_logic(len(c.table), c.out.width, c.target) else "block"
        results = []
        for lane in range(c.lanes):
            table = memory.Memory(
                shape=c.out.width,
                depth=len(c.table),
                init=[value & mask for value in c.table],
                attrs={"rom_style": place, "ram_style": place},
            )
            m.submodules[f"table_{lane}"] = table
            read = table.read_port()
            m.d.comb += read.addr.eq(words[lane])
            word = Signal(c.out.width, name=f"word_{lane}")
            m.d.comb += word.eq(read.data)
            results.append(delay(m, word, c.pipeline - 1))
        return Cat(results)
