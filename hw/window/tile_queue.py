"""A queue that takes pixels tile by tile and gives them row by row."""

from dataclasses import dataclass

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.minimal_filtering import MinimalFiltering
from ..control.credits import counter_nonzero, credit_available
from ..control.delay import delay_flags
from ..control.loops import Loops
from ..memory.ram import Ram, RamConfig
from ..sizes import at_least
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.resources import Resources

__all__ = ["TileQueue", "TileQueueConfig"]

#: tiles stored beyond a row: those under way from their reservation until they are stored, and that
#: wait for the credit of one that has left
_SPARE = 4
#: words of the queue behind the memory, in which a word is from its read until its credit is back
_DEPTH = 16
_STEP = MinimalFiltering.STEP


@dataclass(frozen=True)
class TileQueueConfig:
    """Tiles of 2 x 2 pixels, ``columns`` of them in a row, each pixel of ``beats`` words of
    ``width`` bits.
    """

    columns: int
    beats: int
    width: int
    target: Target

    def __post_init__(self):
        at_least(1, self, "columns", "beats", "width")

    @property
    def tiles(self) -> int:
        """Tiles stored."""
        return self.columns + _SPARE

    @property
    def row_words(self) -> int:
        """Words of a row of a tile."""
        return _STEP * self.beats

    @property
    def held(self) -> int:
        """Words that may be stored, and in the queue behind."""
        return self.tiles * _STEP * self.row_words + _DEPTH

    @property
    def ram(self) -> RamConfig:
        return RamConfig(self.tiles * _STEP * self.row_words, self.width, self.target)

    @property
    def latency(self) -> int:
        """Cycles from the last word of a tile to the last word of its first pixel offered."""
        return self.beats + self.ram.latency + Queue.latency

    def resources(self) -> Resources:
        """An estimate: the memory, the counters that address it and the queue behind it."""
        address = (self.ram.depth - 1).bit_length()
        return (
            self.ram.resources()
            + Queue.estimate(self.width, self.target, _DEPTH)
            + Resources(4 * address + 30, 4 * address + 20)
        )


class TileQueue(wiring.Component):
    """Words of tiles in, those of a tile's pixels row by row, and of pixels in rows of the map out.

    Without backpressure on its input: the writer holds a credit for each of ``config.tiles`` tiles,
    which ``freed`` returns. A tile's first row leaves when all of the tile is there, and the second
    rows when the first rows of all tiles in line have left. Throughput: a word a cycle.

    Members
    -------
    write : In(1)
    data : In(shape)
    o : Out(stream.Signature(shape))
    freed : Out(1), a tile has left
    """

    def __init__(self, shape: ShapeLike, config: TileQueueConfig):
        self.config = config
        super().__init__(
            {"write": In(1), "data": In(shape), "o": Out(stream.Signature(shape)), "freed": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.store = store = Ram(c.ram)
        written = Loops(m, self.write, {"word": _STEP * c.row_words, "tile": c.tiles})
        tail = Signal(range(c.ram.depth))
        with m.If(self.write):
            m.d.sync += tail.eq(Mux(written.ends["tile"], 0, tail + 1))
        m.d.comb += [
            store.write_address.eq(tail),
            store.write_data.eq(self.data),
            store.write_enable.eq(self.write),
        ]

        read, room, there, begins = Signal(), Signal(), Signal(), Signal(init=1)
        loops = Loops(m, read, {"word": c.row_words, "tile": c.columns, "row": _STEP})
        second = loops.count["row"]
        # a tile has to be there when its first word is read, which is in a first row
        m.d.comb += [
            read.eq(room & (~begins | there)),
            there.eq(
                counter_nonzero(
                    m, "tiles", self.write & written.ends["word"], read & begins, c.tiles
                )
            ),
            self.freed.eq(delay_flags(m, read & loops.last["word"] & second, 1)),
        ]
        with m.If(read):
            m.d.sync += begins.eq(
                loops.last["word"] & Mux(second, loops.ends["row"], ~loops.ends["tile"])
            )
        m.d.comb += store.address.eq(self._place(m, read, loops))

        m.submodules.queue = queue = Queue(self.data.shape(), _DEPTH, c.target)
        m.d.comb += [
            queue.write.eq(delay_flags(m, read, c.ram.latency)),
            queue.data.eq(store.data),
            room.eq(credit_available(m, _DEPTH, 1, queue.freed, read, apart=1)),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

    def _place(self, m: Module, read: Value, loops: Loops) -> Value:
        """The word that is read next. Tiles in line are stored in turn, the first one anywhere; the
        first word of the next run, ``target``, is known a cycle after this run has begun.
        """
        c = self.config
        second, end = loops.count["row"], loops.last["tile"]
        place, run, target, line, back = (
            Signal(range(c.ram.depth), name=name)
            for name in ("place", "run", "target", "line", "back")
        )
        slot, first_slot = Signal(range(c.tiles)), Signal(range(c.tiles))
        wraps = slot == c.tiles - 1
        following = Mux(wraps, 0, slot + 1)
        # past the other row of this tile, or to the tile behind the last one in line
        onward = run + Mux(second & end, c.row_words, 2 * c.row_words)
        onward = Mux(wraps, Mux(second & ~end, c.row_words, 0), onward)
        # to the second row of the first tile in line
        m.d.sync += [
            back.eq(line + c.row_words),
            target.eq(Mux(end & ~second, back if c.columns > 1 else run + c.row_words, onward)),
        ]
        with m.If(read):
            m.d.sync += place.eq(Mux(loops.last["word"], target, place + 1))
        with m.If(read & loops.last["word"]):
            m.d.sync += [run.eq(target), slot.eq(Mux(end & ~second, first_slot, following))]
            with m.If(end & second):
                m.d.sync += [line.eq(target), first_slot.eq(following)]
        return place
