"""The sliding window: a line buffer that is read in any order, so that padding, stride and dilation
are free.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
from amaranth import C, Module, Mux, Shape, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from numpy.typing import NDArray

from .delay import delay
from .stream import Flow, beats
from .width import ceil_div

__all__ = ["WindowConfig", "SlidingWindow"]


@dataclass(frozen=True)
class WindowConfig:
    """A map of ``height`` x ``width`` x ``channels`` and the kernel that slides over it.

    A memory word holds ``chunk`` channels of one pixel. Each cycle reads one word under each of
    ``parallel`` = (rows, columns) taps, where each of the two is 1 or the kernel's extent.
    For each output pixel the reads run, from the outside in, over ``groups`` of channels,
    ``passes`` repetitions, the kernel's taps (rows, then columns), and the group's words.
    """

    height: int
    width: int
    channels: int
    element: Shape
    chunk: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    fill: int
    parallel: tuple[int, int] = (1, 1)
    groups: int = 1
    passes: int = 1

    def __post_init__(self):
        assert all(p in (1, k) for p, k in zip(self.parallel, self.kernel, strict=True))
        assert self.channels % self.groups == 0
        assert self.groups == 1 or (self.channels // self.groups) % self.chunk == 0
        assert self.height_out >= 1
        assert self.width_out >= 1

    # Geometry

    @property
    def span(self) -> tuple[int, int]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def height_out(self) -> int:
        return (self.height + self.pads[0] + self.pads[2] - self.span[0]) // self.stride[0] + 1

    @property
    def width_out(self) -> int:
        return (self.width + self.pads[1] + self.pads[3] - self.span[1]) // self.stride[1] + 1

    @property
    def words(self) -> int:
        """Memory words a pixel."""
        return ceil_div(self.channels, self.chunk)

    @property
    def group_words(self) -> int:
        return self.words // self.groups

    @property
    def steps(self) -> tuple[int, int]:
        """Reads of one reduction along the kernel's rows and columns."""
        return tuple(k // p for k, p in zip(self.kernel, self.parallel, strict=True))

    @property
    def reads(self) -> int:
        """Reads of one reduction."""
        return self.steps[0] * self.steps[1] * self.group_words

    @property
    def taps(self) -> int:
        """Words read in one cycle."""
        return self.parallel[0] * self.parallel[1]

    def cycles(self) -> int:
        """Cycles that reading a frame takes."""
        return self.height_out * self.width_out * self.groups * self.passes * self.reads

    def beats_in(self) -> int:
        """Cycles that writing a frame takes."""
        return self.height * self.width * self.words

    def order(self) -> NDArray[np.int64]:
        """Which weight meets which element: flat index into (rows, columns, channels of a group) of
        each element of each read, shape [reads, taps * chunk], -1 for a padded one.
        """
        rows, columns = self.kernel
        depth = self.channels // self.groups
        index = np.full([*self.steps, self.group_words, *self.parallel, self.chunk], -1, np.int64)
        for row in range(rows):
            for column in range(columns):
                for channel in range(depth):
                    place = (row // self.parallel[0], column // self.parallel[1],
                             channel // self.chunk, row % self.parallel[0],
                             column % self.parallel[1], channel % self.chunk)
                    index[place] = (row * columns + column) * depth + channel
        return index.reshape(self.reads, -1)

    # Rows: what a row of output needs, and what it lets go

    def _first_row(self, row: int) -> int:
        return row * self.stride[0] - self.pads[0]

    def needed(self, row: int) -> int:
        """Rows of the frame that must have arrived before output row ``row`` starts."""
        return min(max(self._first_row(row) + self.span[0], 0), self.height)

    @property
    def leftover(self) -> int:
        """Rows at the end of a frame that no output row needs."""
        return self.height - self.needed(self.height_out - 1)

    def arrivals(self) -> list[int]:
        """New rows that each output row waits for; the first one also waits out the last frame's
        leftover.
        """
        needed = [self.needed(row) for row in range(self.height_out)]
        return [b - a for a, b in zip([-self.leftover, *needed], needed, strict=False)]

    def releases(self) -> list[int]:
        """Rows that are free for new ones after each output row."""
        kept = [min(max(self._first_row(row), 0), self.height) for row in range(1, self.height_out)]
        kept.append(self.height)
        return [b - a for a, b in zip([0, *kept], kept, strict=False)]

    @property
    def ahead(self) -> int:
        """Most rows released before they have come: a frame's leftover, or what strides skip."""
        released = np.cumsum(self.releases())
        return max(0, *(int(n) - self.needed(row) for row, n in enumerate(released)))

    @property
    def banks(self) -> tuple[int, int]:
        """Memories along rows and columns: at least the taps read at once, coprime to the dilation.
        """
        def least(taps: int, dilation: int) -> int:
            return next(n for n in range(taps, 2 * taps + dilation + 1)
                        if taps == 1 or gcd(n, dilation) == 1)
        return tuple(least(p, d) for p, d in zip(self.parallel, self.dilation, strict=True))

    @property
    def rows(self) -> int:
        """Rows stored: enough that the next ones arrive, across frames too, while the last are
        read.
        """
        last = max(self._first_row(self.height_out - 1), 0)
        held = self.height - last
        needed = max(self.needed(row) - max(self._first_row(row), 0)
                     for row in range(self.height_out))
        enough = max(needed + self.stride[0], held + self.needed(0)) + (self.height > 1)
        return ceil_div(enough, self.banks[0]) * self.banks[0]

    @property
    def line_words(self) -> int:
        """Words that one row takes in one bank."""
        return ceil_div(self.width, self.banks[1]) * self.words

    @property
    def depth(self) -> int:
        """Words of one bank."""
        return self.rows // self.banks[0] * self.line_words

    @property
    def memory_bits(self) -> int:
        return self.banks[0] * self.banks[1] * self.depth * self.chunk * self.element.width

    @property
    def capacity(self) -> int:
        """Pixels that can be inside, the row being written included."""
        return self.rows * self.width


class SlidingWindow(wiring.Component):
    """Store rows as they come, read windows as they are wanted.

    A row of output starts when its rows of input are complete; each reduction starts when ``grant``
    is up in the cycle it would start in (``start`` tells that it did), and then runs without a
    pause. With rows and grants at hand there is a read every cycle, from one output pixel to the
    next, one row to the next and one frame to the next. Padding reads as ``fill``.

    Latency from a read's cycle to ``o``: :attr:`latency`.

    Members
    -------
    i : In(beats(chunk, element))
    grant : In(1)
    start : Out(1)
    o : Out(Flow(taps * chunk, element))
    """

    #: two cycles for the address, two for the memory, one to choose the bank and pad
    latency = 5

    def __init__(self, config: WindowConfig):
        self.config = config
        super().__init__({
            "i": In(beats(config.chunk, config.element)),
            "grant": In(1),
            "start": Out(1),
            "o": Out(Flow(config.taps * config.chunk, config.element)),
        })

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.writer = writer = _Writer(c)
        m.submodules.reader = reader = _Reader(c)
        wiring.connect(m, wiring.flipped(self.i), writer.i)
        m.d.comb += [
            reader.grant.eq(self.grant),
            self.start.eq(reader.start),
            reader.row_written.eq(writer.row_written),
            writer.released.eq(reader.released),
        ]

        # Read data of each bank; one word under each tap comes out of the choice below.
        words = {}
        for row in range(c.banks[0]):
            for column in range(c.banks[1]):
                store = memory.Memory(shape=c.chunk * c.element.width, depth=c.depth, init=[])
                m.submodules[f"bank_{row}_{column}"] = store
                write, read = store.write_port(), store.read_port()
                m.d.comb += [
                    write.addr.eq(writer.address),
                    write.data.eq(writer.data),
                    write.en.eq(writer.enable & (writer.bank_row == row)
                                & (writer.bank_column == column)),
                    read.addr.eq(reader.address[row][column]),
                ]
                words[row, column] = Signal(c.chunk * c.element.width, name=f"word_{row}_{column}")
                m.d.sync += words[row, column].eq(read.data)

        width = c.element.width
        fill = sum((c.fill % (1 << width)) << (width * i) for i in range(c.chunk))
        for tap in range(c.taps):
            row, column = divmod(tap, c.parallel[1])
            word = Signal(c.chunk * c.element.width, name=f"tap_{tap}")
            with m.Switch(reader.turn_row):
                for turn_row in range(c.banks[0]):
                    with m.Case(turn_row), m.Switch(reader.turn_column):
                        for turn_column in range(c.banks[1]):
                            bank = ((turn_row + row * c.dilation[0]) % c.banks[0],
                                    (turn_column + column * c.dilation[1]) % c.banks[1])
                            with m.Case(turn_column):
                                m.d.comb += word.eq(words[bank])
            inside = reader.inside_row[row] & reader.inside_column[column]
            m.d.sync += self.o.payload.as_value().word_select(tap, len(word)).eq(
                Mux(inside, word, fill))
        m.d.sync += [
            self.o.valid.eq(reader.flags[0]),
            self.o.first.eq(reader.flags[1]),
            self.o.last.eq(reader.flags[2]),
        ]
        return m


class _Writer(wiring.Component):
    """Put beats into the banks, row after row around the ring, while there is a row to write to."""

    def __init__(self, config: WindowConfig):
        self.config = config
        super().__init__({
            "i": In(beats(config.chunk, config.element)),
            "address": Out(range(max(2, config.depth))),
            "bank_row": Out(range(max(2, config.banks[0]))),
            "bank_column": Out(range(max(2, config.banks[1]))),
            "data": Out(config.chunk * config.element.width),
            "enable": Out(1),
            "row_written": Out(1),
            "released": In(range(config.height + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        c = self.config
        line, offset = Signal(range(c.depth + 1)), Signal(range(c.line_words + 1))
        column, word = Signal(range(c.width)), Signal(range(c.words))
        bank_row, bank_column = Signal.like(self.bank_row), Signal.like(self.bank_column)
        # Rows released before they were written count as space at once.
        space = Signal(range(c.rows + c.ahead + 1), init=c.rows)
        ends_pixel, ends_row = word == c.words - 1, column == c.width - 1
        accept = Signal()
        m.d.comb += [self.i.ready.eq(space != 0), accept.eq(self.i.valid & self.i.ready)]
        # Registered once, so that the memories' inputs are not behind the handshake.
        m.d.sync += [
            self.enable.eq(accept),
            self.address.eq(line + offset + (word if c.banks[1] > 1 else 0)),
            self.data.eq(self.i.payload.as_value()),
            self.bank_row.eq(bank_row),
            self.bank_column.eq(bank_column),
        ]
        finished = Signal()
        m.d.comb += finished.eq(accept & ends_pixel & ends_row)
        m.d.sync += [self.row_written.eq(finished), space.eq(space + self.released - finished)]
        with m.If(accept):
            m.d.sync += word.eq(Mux(ends_pixel, 0, word + 1))
            if c.banks[1] == 1:
                m.d.sync += offset.eq(offset + 1)
            with m.If(ends_pixel):
                m.d.sync += column.eq(Mux(ends_row, 0, column + 1))
                if c.banks[1] > 1:
                    wrap = bank_column == c.banks[1] - 1
                    m.d.sync += bank_column.eq(Mux(wrap, 0, bank_column + 1))
                    with m.If(wrap):
                        m.d.sync += offset.eq(offset + c.words)
        with m.If(finished):
            m.d.sync += [offset.eq(0), bank_column.eq(0)]
            wrap = bank_row == c.banks[0] - 1
            m.d.sync += bank_row.eq(Mux(wrap, 0, bank_row + 1))
            with m.If(wrap):
                last_line = line == c.depth - c.line_words
                m.d.sync += line.eq(Mux(last_line, 0, line + c.line_words))
        return m


class _Reader(wiring.Component):
    """Walk the windows: addresses of each bank, and beside them what to do with the words.

    ``turn_row`` and ``turn_column`` name the bank of the first tap, ``inside_*`` tell which taps
    lie in the map and ``flags`` are valid, first and last; all come with the words, two cycles
    after ``address``.
    """

    def __init__(self, config: WindowConfig):
        self.config = c = config
        super().__init__({
            "grant": In(1),
            "start": Out(1),
            "row_written": In(1),
            "released": Out(range(c.height + 1)),
            "address": Out(range(max(2, c.depth))).array(*c.banks),
            "turn_row": Out(range(max(2, c.banks[0]))),
            "turn_column": Out(range(max(2, c.banks[1]))),
            "inside_row": Out(1).array(c.parallel[0]),
            "inside_column": Out(1).array(c.parallel[1]),
            "flags": Out(3),
        })

    def elaborate(self, platform):
        m = Module()
        c = self.config
        go = Signal()

        # The loops, from the inside out.
        limits = {"word": c.group_words, "tap_column": c.steps[1], "tap_row": c.steps[0],
                  "repeat": c.passes, "group": c.groups, "column": c.width_out, "row": c.height_out}
        count = {name: Signal(range(max(2, n)), name=name) for name, n in limits.items()}
        ends, carry = {}, C(1)
        for name, n in limits.items():
            if n > 1:
                ends[name] = Signal(name=f"ends_{name}")
                m.d.comb += ends[name].eq(carry & (count[name] == n - 1))
                with m.If(go & carry):
                    m.d.sync += count[name].eq(Mux(count[name] == n - 1, 0, count[name] + 1))
            else:
                ends[name] = carry
            carry = ends[name]
        reduction_ends, pixel_ends = ends["tap_row"], ends["group"]
        row_ends, frame_ends = ends["column"], ends["row"]

        # A reduction starts by grant, a row when its input has arrived.
        starts_reduction, starts_row = Signal(init=1), Signal(init=1)
        arrived = Signal(range(c.rows + c.height + 2), init=c.leftover)
        arrivals, releases = Signal(range(c.height + 1)), Signal(range(c.height + 1))
        _table(m, arrivals, count["row"], c.arrivals())
        _table(m, releases, count["row"], c.releases())
        enough = Signal()
        m.d.comb += [
            enough.eq(~starts_row | (arrived >= arrivals)),
            go.eq(enough & (~starts_reduction | self.grant)),
            self.start.eq(go & starts_reduction),
        ]
        with m.If(go):
            m.d.sync += [starts_reduction.eq(reduction_ends), starts_row.eq(row_ends)]
        m.d.sync += arrived.eq(arrived + self.row_written
                               - Mux(go & starts_row, arrivals, 0))

        # Where the window is: rows and columns of the map (they may lie outside), and where in the
        # ring.
        top = _Place(m, "top", c.stride[0], -c.pads[0], c.height_out, go & row_ends, frame_ends)
        left = _Place(m, "left", c.stride[1], -c.pads[1], c.width_out, go & pixel_ends, row_ends)
        line = self._lines(m, count, go, row_ends, frame_ends)
        column = self._columns(m, count, go, pixel_ends, row_ends)

        # One cycle later: the parts of the addresses; two: the addresses.
        row_part, turn_row = line
        column_part, turn_column = column
        flags = Signal(3)
        m.d.sync += [flags[0].eq(go), flags[1].eq(starts_reduction), flags[2].eq(reduction_ends)]
        for i in range(c.banks[0]):
            for j in range(c.banks[1]):
                m.d.sync += self.address[i][j].eq(row_part[i] + column_part[j])

        inside = {}
        for axis, place, extent, counter in ((0, top, c.height, "tap_row"),
                                             (1, left, c.width, "tap_column")):
            for tap in range(c.parallel[axis]):
                at = Signal(signed(ceil_log2(2 * extent + 2 * c.span[axis]
                                             + 2 * c.stride[axis]) + 2), name=f"at_{axis}_{tap}")
                offset = tap * c.dilation[axis]
                if c.steps[axis] > 1:
                    offset = Signal(range(c.span[axis]), name=f"reach_{axis}")
                    _table(m, offset, count[counter],
                           [k * c.dilation[axis] for k in range(c.steps[axis])])
                m.d.sync += at.eq(place + offset)
                flag = Signal(name=f"inside_{axis}_{tap}")
                m.d.sync += flag.eq((at >= 0) & (at < extent))
                inside[axis, tap] = flag
        # The word of an address is there two cycles after it; its companions wait for it.
        m.d.sync += self.flags.eq(delay(m, flags, 2))
        for tap in range(c.parallel[0]):
            m.d.sync += self.inside_row[tap].eq(delay(m, inside[0, tap], 1))
        for tap in range(c.parallel[1]):
            m.d.sync += self.inside_column[tap].eq(delay(m, inside[1, tap], 1))
        m.d.sync += [self.turn_row.eq(delay(m, turn_row, 2)),
                     self.turn_column.eq(delay(m, turn_column, 2))]
        # Rows are free once the last read of them is done.
        done = Signal.like(releases)
        m.d.sync += done.eq(Mux(go & row_ends, releases, 0))
        m.d.sync += self.released.eq(delay(m, done, 2))
        return m

    def _lines(self, m, count, go, row_ends, frame_ends):
        """Registered start of each bank's line in the ring, and the bank of the first tap."""
        c = self.config
        ring = c.rows
        back = c.height - (c.height_out - 1) * c.stride[0]
        start = -c.pads[0] % ring
        parts = [Signal(range(max(2, c.depth)), name=f"line_{i}") for i in range(c.banks[0])]
        turn = Signal(range(max(2, c.banks[0])))
        if c.parallel[0] == 1:
            # One bank: addresses wrap around the ring as the taps walk down the rows.
            base = Signal(range(max(2, c.depth)), init=start * c.line_words)
            tap = Signal(range(max(2, c.depth)), init=start * c.line_words)
            def onward(value, rows):
                return _add_modulo(value, rows % ring * c.line_words, ring * c.line_words)
            following = Signal.like(base)
            m.d.comb += following.eq(Mux(frame_ends, onward(base, back), onward(base, c.stride[0])))
            # a tap row ends when its words and columns do
            inner = (count["word"] == c.group_words - 1) & (count["tap_column"] == c.steps[1] - 1)
            with m.If(go & inner):
                m.d.sync += tap.eq(Mux(count["tap_row"] == c.steps[0] - 1, base,
                                       onward(tap, c.dilation[0])))
            with m.If(go & row_ends):
                m.d.sync += [base.eq(following), tap.eq(following)]
            m.d.sync += parts[0].eq(tap)
            return parts, turn
        slot = Signal(range(ring), init=start)
        with m.If(go & row_ends):
            m.d.sync += slot.eq(Mux(frame_ends, _add_modulo(slot, back % ring, ring),
                                    _add_modulo(slot, c.stride[0] % ring, ring)))
        with m.Switch(slot):
            for s in range(ring):
                with m.Case(s):
                    m.d.sync += turn.eq(s % c.banks[0])
                    for tap in range(c.parallel[0]):
                        at = (s + tap * c.dilation[0]) % ring
                        m.d.sync += parts[at % c.banks[0]].eq(at // c.banks[0] * c.line_words)
        return parts, turn

    def _columns(self, m, count, go, pixel_ends, row_ends):
        """Registered offset of the word in each bank's line, and the bank of the first tap."""
        c = self.config
        width = signed(ceil_log2(c.line_words + (c.span[1] + c.pads[3] + c.stride[1]) * c.words
                                 + 2) + 2)
        word = Signal(range(max(2, c.words)))
        m.d.comb += word.eq(count["word"])
        if c.groups > 1:
            start = Signal(range(c.words))
            with m.If(go & pixel_ends):
                m.d.sync += start.eq(0)
            with m.Elif(go & _ends_inner(count, c)):
                m.d.sync += start.eq(start + c.group_words)
            m.d.comb += word.eq(start + count["word"])
        parts = [Signal(width, name=f"offset_{j}") for j in range(c.banks[1])]
        turn = Signal(range(max(2, c.banks[1])))
        if c.parallel[1] == 1:
            base = Signal(width, init=-c.pads[1] * c.words)
            with m.If(go & pixel_ends):
                m.d.sync += base.eq(Mux(row_ends, -c.pads[1] * c.words,
                                        base + c.stride[1] * c.words))
            reach = Signal(range(max(2, (c.kernel[1] - 1) * c.dilation[1] * c.words + 1)))
            _table(m, reach, count["tap_column"],
                   [k * c.dilation[1] * c.words for k in range(c.steps[1])])
            m.d.sync += parts[0].eq(base + (reach + word))
            return parts, turn
        banks = c.banks[1]
        phase = Signal(range(banks), init=-c.pads[1] % banks)
        base = Signal(width, init=(-c.pads[1] // banks) * c.words)
        with m.If(go & pixel_ends):
            with m.If(row_ends):
                m.d.sync += [phase.eq(-c.pads[1] % banks), base.eq((-c.pads[1] // banks) * c.words)]
            with m.Else(), m.Switch(phase):
                for p in range(banks):
                    with m.Case(p):
                        moved = p + c.stride[1]
                        m.d.sync += [phase.eq(moved % banks),
                                     base.eq(base + moved // banks * c.words)]
        with m.Switch(phase):
            for p in range(banks):
                with m.Case(p):
                    m.d.sync += turn.eq(p)
                    for tap in range(c.parallel[1]):
                        at = p + tap * c.dilation[1]
                        m.d.sync += parts[at % banks].eq(base + (at // banks * c.words + word))
        return parts, turn


def _ends_inner(count, c):
    """The last read of the last repetition of a group."""
    return ((count["word"] == c.group_words - 1) & (count["tap_column"] == c.steps[1] - 1)
            & (count["tap_row"] == c.steps[0] - 1) & (count["repeat"] == c.passes - 1))


def _Place(m, name, stride, start, extent, step, wrap):
    """Signed coordinate of the window's first row or column, as it steps and wraps."""
    place = Signal(signed(ceil_log2(extent * stride + abs(start) + 2) + 2), name=name, init=start)
    with m.If(step):
        m.d.sync += place.eq(Mux(wrap, start, place + stride))
    return place


def _table(m, target, index, values):
    """``target = values[index]``, the commonest value by default."""
    common = max(set(values), key=values.count)
    with m.Switch(index):
        for i, value in enumerate(values):
            if value != common:
                with m.Case(i):
                    m.d.comb += target.eq(value)
        with m.Default():
            m.d.comb += target.eq(common)


def _add_modulo(value, step, modulus):
    """``(value + step) % modulus`` for a value below the modulus and a constant step."""
    if step == 0:
        return value
    below = Signal(signed(ceil_log2(modulus) + 2))
    return Mux(
        (value + (step - modulus)) < 0, value + step, (value + (step - modulus))[: len(below)]
    )
