"""The sliding window: a line buffer that is read in any order, so that padding, stride and dilation
are free.
"""

from functools import reduce
from itertools import product
from operator import or_

import numpy as np
from amaranth import C, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.delay import KEEP, delay, delay_flags
from ..control.loops import Loops
from ..memory.ram import Ram
from ..memory.rom import table
from ..stream.signature import Flow, beats
from .config import WindowConfig

__all__ = ["SlidingWindow"]


class SlidingWindow(wiring.Component):
    """Store rows as they come, read windows as they are wanted.

    A row of output starts when its rows of input are complete; each reduction starts when ``grant``
    is up in the cycle it would start in (``start`` tells that it did), and then runs without a
    pause. With rows and grants at hand there is a read every cycle, from one output pixel to the
    next, one row to the next and one frame to the next. Padding reads as ``fill``.

    Latency from a read's cycle to ``o``: ``config.latency``.

    Members
    -------
    i : In(beats(chunk, element))
    grant : In(1)
    start : Out(1)
    o : Out(Flow(taps * chunk, element))
    """

    def __init__(self, config: WindowConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.chunk, config.element)),
                "grant": In(1),
                "start": Out(1),
                "o": Out(Flow(config.taps * config.chunk, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.writer = writer = _Writer(c)
        m.submodules.reader = reader = _Reader(c)
        wiring.connect(m, wiring.flipped(self.i), writer.i)
        m.d.comb += [
            reader.grant.eq(self.grant),
            self.start.eq(reader.start),
            reader.arrived.eq(writer.arrived),
            writer.released.eq(reader.released),
        ]

        # Read data of each bank; one word under each tap comes out of the choice below.
        words = {}
        for row in range(c.banks[0]):
            for column in range(c.banks[1]):
                m.submodules[f"bank_{row}_{column}"] = bank = Ram(c.ram)
                m.d.comb += [
                    bank.write_address.eq(writer.address),
                    bank.write_data.eq(writer.data),
                    bank.write_enable.eq(
                        writer.enable & (writer.bank_row == row) & (writer.bank_column == column)
                    ),
                    bank.address.eq(reader.address[row][column]),
                ]
                words[row, column] = bank.data

        width = c.element.width
        fill = sum((c.fill % (1 << width)) << (width * i) for i in range(c.chunk))
        for row in range(c.parallel[0]):
            across = [
                delay(
                    m,
                    self._choose(
                        reader.row_bank,
                        row * c.dilation[0],
                        [words[i, j] for i in range(c.banks[0])],
                    ),
                    1,
                )
                for j in range(c.banks[1])
            ]
            for column in range(c.parallel[1]):
                word = self._choose(reader.column_bank, column * c.dilation[1], across)
                inside = reader.inside_row[row] & reader.inside_column[column]
                place = row * c.parallel[1] + column
                m.d.comb += (
                    self.o.payload.as_value()
                    .word_select(place, c.chunk * width)
                    .eq(delay(m, Mux(inside, word, fill), 1))
                )
        m.d.sync += [
            self.o.valid.eq(reader.flags[0]),
            self.o.first.eq(reader.flags[1]),
            self.o.last.eq(reader.flags[2]),
        ]
        return m

    @staticmethod
    def _choose(first, onward, words):
        """The word of the bank that lies ``onward`` banks (around the ring) from the ``first``."""
        if len(words) == 1:
            return words[0]
        return reduce(
            or_, (Mux(first[(n - onward) % len(words)], word, 0) for n, word in enumerate(words))
        )


class _Writer(wiring.Component):
    """Put beats into the banks, row after row around the ring, while there is a row to write to."""

    def __init__(self, config: WindowConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.chunk, config.element)),
                "address": Out(range(max(2, config.depth))),
                "bank_row": Out(range(max(2, config.banks[0]))),
                "bank_column": Out(range(max(2, config.banks[1]))),
                "data": Out(config.chunk * config.element.width),
                "enable": Out(1),
                "arrived": Out(1),
                "released": In(config.released),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        # ``closed`` is the opposite of ``ready``, near the counters
        accept, finished = Signal(), Signal()
        ready, closed = Signal(init=1), Signal(attrs=KEEP)
        loops = Loops(m, accept, {"word": c.words, "column": c.width})
        m.d.comb += [
            self.i.ready.eq(ready),
            accept.eq(self.i.valid & ~closed),
            finished.eq(accept & loops.ends["column"]),
        ]
        # Rows of space less one, and less two: the sign tells whether there is one beside the row
        # that just ends. Rows released before they were written count as space at once.
        released, fewer = delay(m, self.released, 1), delay(m, self.released - 1, 1)
        # A finished row is counted a cycle late, unless the next may end by then.
        row_done = delay_flags(m, finished, 1)
        counted = recent = finished
        if c.width * c.words > 1:
            counted, recent = row_done, finished | row_done
        change = Signal(fewer.shape())
        later = []
        for kept in (1, 2):
            space = Signal(
                signed(ceil_log2(c.rows + c.ahead + 1) + 2),
                name=f"space_{kept}",
                init=c.rows - kept,
            )
            later.append(space + change)
            m.d.sync += space.eq(later[-1])
        none_left = Mux(recent, later[1][-1], later[0][-1])
        m.d.sync += [
            change.eq(Mux(counted, fewer, released)),
            ready.eq(~none_left),
            closed.eq(none_left),
        ]

        # A cycle later, so that no address is behind the handshake; and another for the memories.
        written = delay_flags(m, accept, 1)
        pixel_done = delay_flags(m, accept & loops.ends["word"], 1)
        m.d.comb += self.arrived.eq(pixel_done if c.by_pixel else row_done)
        ring = Loops(m, row_done, {"bank": c.banks[0], "line": c.rows // c.banks[0]})
        bank_column = Signal.like(self.bank_column)
        line, at = Signal(range(max(2, c.depth))), Signal(range(max(2, c.depth)))
        following = Signal.like(line)
        word = delay(m, loops.count["word"], 1) if c.banks[1] > 1 else 0
        m.d.sync += [
            self.enable.eq(written),
            self.address.eq(at + word),
            self.data.eq(delay(m, self.i.payload.as_value(), 1)),
            self.bank_row.eq(ring.count["bank"]),
            self.bank_column.eq(bank_column),
        ]
        # a register, unless a row is but a beat
        domain = m.d.sync if c.width * c.words > 1 else m.d.comb
        domain += following.eq(
            Mux(ring.last["bank"], Mux(ring.last["line"], 0, line + c.line_words), line)
        )
        with m.If(row_done):
            m.d.sync += [line.eq(following), at.eq(following), bank_column.eq(0)]
        with m.Elif(written if c.banks[1] == 1 else pixel_done & (bank_column == c.banks[1] - 1)):
            m.d.sync += [at.eq(at + (1 if c.banks[1] == 1 else c.words)), bank_column.eq(0)]
        with m.Elif(pixel_done):
            m.d.sync += bank_column.eq(bank_column + 1)
        return m


class _Reader(wiring.Component):
    """Walk the windows: addresses of each bank, and beside them what to do with the words.

    ``row_bank`` and ``column_bank`` have the bit of the first tap's bank set, the one with the
    words (a memory's latency after ``address``), the other a cycle later, when columns are chosen;
    with it come ``inside_*``, which tell which taps lie in the map, and ``flags``: valid, first and
    last.
    """

    def __init__(self, config: WindowConfig):
        self.config = c = config
        super().__init__(
            {
                "grant": In(1),
                "start": Out(1),
                "arrived": In(1),
                "released": Out(c.released),
                "address": Out(range(max(2, c.depth))).array(*c.banks),
                "row_bank": Out(c.banks[0]),
                "column_bank": Out(c.banks[1]),
                "inside_row": Out(1).array(c.parallel[0]),
                "inside_column": Out(1).array(c.parallel[1]),
                "flags": Out(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        go = Signal()
        loops = Loops(
            m,
            go,
            {
                "word": c.group_words,
                "tap_column": c.steps[1],
                "tap_row": c.steps[0],
                "repeat": c.passes,
                "group": c.groups,
                "column": c.width_out,
                "row": c.height_out,
            },
        )
        reduction_ends, row_ends = loops.ends["tap_row"], loops.ends["column"]
        ends = loops.ends["group"] if c.by_pixel else row_ends

        # A reduction starts by grant; a pixel (or a row) when its input has arrived, that is,
        # unless what has arrived beyond what it needs is negative: ``waits`` is worked out a cycle
        # ahead.
        starts_reduction, starts, waits = Signal(init=1), Signal(init=1), Signal(init=1)
        m.d.comb += [
            go.eq(~waits & (~starts_reduction | self.grant)),
            self.start.eq(~waits & starts_reduction & self.grant),
        ]
        with m.If(go):
            m.d.sync += [starts_reduction.eq(reduction_ends), starts.eq(ends)]
        few = self._margin(m, loops, go & starts)
        m.d.sync += waits.eq(Mux(go, ends, starts) & few)

        row = loops.count["row"]
        # Rows are free once the last read of them is done.
        freed = self._row_table(m, "freed", row, c.releases(), max(c.releases()) + 1)
        row_done = delay_flags(m, go & row_ends, self._RELEASE)
        m.d.sync += self.released.eq(Mux(row_done, delay(m, freed, self._RELEASE - 2), 0))

        # Cycle 1 and 2: the parts of the addresses; 3: the addresses; then the words.
        wait = c.ram.latency
        row_part, turn_row = self._lines(m, loops, go)
        column_part, turn_column = self._columns(m, loops, go)
        for i in range(c.banks[0]):
            for j in range(c.banks[1]):
                m.d.sync += self.address[i][j].eq(row_part[i] + column_part[j])
        for axis, inside in enumerate((self.inside_row, self.inside_column)):
            for tap, flag in enumerate(self._inside(m, loops, go, axis)):
                if not isinstance(flag, Const):
                    flag = delay(m, flag, wait + 2)
                m.d.comb += inside[tap].eq(flag)
        m.d.comb += [
            self.flags.eq(delay_flags(m, Cat(go, starts_reduction, reduction_ends), wait + 4)),
            self.row_bank.eq(_one_hot(m, delay(m, turn_row, wait), c.banks[0])),
            self.column_bank.eq(_one_hot(m, delay(m, turn_column, wait + 1), c.banks[1])),
        ]
        return m

    #: cycles from a row's last read to its release: not before the memory was read
    _RELEASE = 4

    def _margin(self, m, loops, begins):
        """Whether less has arrived than what begins next needs; ``begins``: it does so now."""
        c = self.config
        arrivals = c.arrivals()
        most = (c.rows + 2 * c.height + 2) * c.width // c.unit
        margin = Signal(signed(ceil_log2(most) + 1), init=int(c.leftover - arrivals[0, 0]))
        # what the next row needs beyond this one
        onward = np.roll(arrivals[:, 0], -1).tolist()
        change = Signal(signed(max(onward).bit_length() + 2))
        if c.by_pixel:
            wanted = self._wanted(m, loops, arrivals, onward, delay_flags(m, begins, 2))
            m.d.sync += change.eq(self.arrived - wanted)
        elif c.row_cycles > 3:
            # counted three cycles late, before the next row can begin
            wanted = self._row_table(m, "wanted", loops.count["row"], onward, max(onward) + 1)
            m.d.sync += change.eq(self.arrived - Mux(delay_flags(m, begins, 2), wanted, 0))
        else:
            wanted = Signal(range(max(onward) + 1))
            _table(m, wanted, loops.count["row"], onward)
            m.d.comb += change.eq(self.arrived - Mux(begins, wanted, 0))
        later = margin + change
        m.d.sync += margin.eq(later)
        return later[len(margin) - 1]

    def _wanted(self, m, loops, arrivals, onward, begun):
        """What the next pixel needs beyond the one that has ``begun`` two cycles ago, a cycle
        later. Within a row that is the same for all rows that need any.
        """
        column, row = loops.count["column"], loops.count["row"]
        wanted = Signal(range(max(2, arrivals.max() + 1)), reset_less=True)
        next_row = self._row_table(m, "wanted_row", row, onward, max(onward) + 1)
        last = delay(m, loops.last["column"], 2)
        across = [*arrivals[0, 1:].tolist(), 0]
        here = 0
        if any(across):
            more = arrivals[:, 1:].any(axis=1).astype(int).tolist()
            steps = self._row_table(m, "wanted_column", column, across, max(across) + 1)
            here = Mux(self._row_table(m, "wanted_more", row, more, 2), steps, 0)
        m.d.sync += wanted.eq(Mux(begun, Mux(last, next_row, here), 0))
        return wanted

    def _ahead(self, m, value, cycles):
        """``value``, which stays for at least so many ``cycles``, by the last of them: from a
        register where there is time for one (iCE40 has none to spare).
        """
        return delay(m, value, 1) if cycles > 1 and self.config.target.register_rich else value

    def _inside(self, m, loops, go, axis):
        """Which of the taps read at once lie within the map on that axis; two cycles late."""
        c = self.config
        extent = (c.height, c.width)[axis]
        if not c.pads[axis] and not c.pads[axis + 2]:
            return [C(1)] * c.parallel[axis]
        step, wrap, counter = (
            (go & loops.ends["column"], loops.last["row"], "tap_row"),
            (go & loops.ends["group"], loops.last["column"], "tap_column"),
        )[axis]
        steps = (c.height_out, c.width_out)[axis]
        first = Signal(
            signed(ceil_log2(steps * c.stride[axis] + c.pads[axis] + 2) + 2),
            name=f"first_{axis}",
            init=-c.pads[axis],
        )
        following = self._ahead(
            m,
            Mux(wrap, -c.pads[axis], first + c.stride[axis]),
            (c.row_cycles, c.pixel_cycles)[axis],
        )
        with m.If(step):
            m.d.sync += first.eq(following)
        flags = []
        for tap in range(c.parallel[axis]):
            reach = tap * c.dilation[axis]
            if c.steps[axis] > 1:
                reach = Signal(range(c.span[axis]), name=f"reach_{axis}")
                _table(
                    m,
                    reach,
                    loops.count[counter],
                    [k * c.dilation[axis] for k in range(c.steps[axis])],
                )
            at = Signal(
                signed(len(first) + ceil_log2(c.span[axis] + 1) + 1), name=f"at_{axis}_{tap}"
            )
            flag = Signal(name=f"inside_{axis}_{tap}")
            m.d.sync += [at.eq(first + reach), flag.eq((at >= 0) & (at < extent))]
            flags.append(flag)
        return flags

    def _lines(self, m, loops, go):
        """Start of each bank's line in the ring, and the bank of the first tap; two cycles late."""
        c = self.config
        ring, frame_ends = c.rows, loops.last["row"]
        # rows from the first row of a frame's last window to that of the next frame's first
        back = c.height - (c.height_out - 1) * c.stride[0]
        start = -c.pads[0] % ring
        slot = Signal(range(max(2, ring)), init=start)

        def onward(value, rows, cycles):
            moved = Signal.like(value, name="moved")
            _table(m, moved, value, [(s + rows) % ring for s in range(ring)])
            return self._ahead(m, moved, cycles - 1)

        cycles = c.row_cycles
        following = self._ahead(
            m,
            Mux(frame_ends, onward(slot, back, cycles), onward(slot, c.stride[0], cycles)),
            cycles,
        )
        with m.If(go & loops.ends["column"]):
            m.d.sync += slot.eq(following)
        tap = slot
        if c.steps[0] > 1:
            tap = Signal.like(slot, init=start)
            cycles = c.group_words * c.steps[1]
            lower = self._ahead(
                m, Mux(loops.last["tap_row"], slot, onward(tap, c.dilation[0], cycles)), cycles
            )
            with m.If(go & loops.ends["tap_column"]):
                m.d.sync += tap.eq(Mux(loops.ends["column"], following, lower))

        lines = [[0] * ring for _ in range(c.banks[0])]
        for s, row in product(range(ring), range(c.parallel[0])):
            at = (s + row * c.dilation[0]) % ring
            lines[at % c.banks[0]][s] = at // c.banks[0] * c.line_words
        return (
            [self._row_table(m, f"line_{i}", tap, line, c.depth) for i, line in enumerate(lines)],
            self._row_table(m, "turn", tap, [s % c.banks[0] for s in range(ring)], c.banks[0]),
        )

    def _row_table(self, m, name, row, values, count):
        """``values[row]``, each below ``count``, two cycles late."""
        if len(set(values)) == 1:
            return Const(values[0])
        return table(m, name, row, values, (count - 1).bit_length())

    def _columns(self, m, loops, go):
        """The word's offset in each bank's line, and the bank of the first tap; two cycles late."""
        c = self.config
        pixel_ends, row_ends = loops.ends["group"], loops.last["column"]
        width = signed(
            ceil_log2(c.line_words + (c.span[1] + c.pads[3] + c.stride[1]) * c.words + 2) + 2
        )
        group = Signal(range(c.words))
        if c.groups > 1:
            with m.If(go & loops.ends["repeat"]):
                m.d.sync += group.eq(Mux(loops.last["group"], 0, group + c.group_words))
        turn = Signal(range(max(2, c.banks[1])))
        first = -c.pads[1] // c.banks[1] * c.words
        base, inner = Signal(width, init=first), Signal(range(max(2, c.span[1] * c.words + 1)))
        if c.parallel[1] == 1:
            following = self._ahead(
                m, Mux(row_ends, first, base + c.stride[1] * c.words), c.pixel_cycles
            )
            with m.If(go & pixel_ends):
                m.d.sync += base.eq(following)
            reach = Signal(range(max(2, (c.kernel[1] - 1) * c.dilation[1] * c.words + 1)))
            _table(
                m,
                reach,
                loops.count["tap_column"],
                [k * c.dilation[1] * c.words for k in range(c.steps[1])],
            )
            m.d.sync += inner.eq(reach + loops.count["word"])
            part = Signal(width)
            m.d.sync += part.eq(delay(m, base + group, 1) + inner)
            return [part], turn
        banks = c.banks[1]
        phase = Signal(range(banks), init=-c.pads[1] % banks)
        moved = [divmod(p + c.stride[1], banks) for p in range(banks)]
        step, turned = Signal(range(max(2, c.stride[1] * c.words + 1))), Signal.like(phase)
        _table(m, step, phase, [onward * c.words for onward, _ in moved])
        _table(m, turned, phase, [place for _, place in moved])
        following_base = self._ahead(m, Mux(row_ends, first, base + step), c.pixel_cycles)
        following_phase = self._ahead(m, Mux(row_ends, phase.init, turned), c.pixel_cycles)
        with m.If(go & pixel_ends):
            m.d.sync += [phase.eq(following_phase), base.eq(following_base)]
        m.d.sync += inner.eq(group + loops.count["word"])
        here, late = delay(m, base, 1), delay(m, phase, 1)
        parts = [Signal(width, name=f"offset_{j}") for j in range(banks)]
        with m.Switch(late):
            for p in range(banks):
                with m.Case(p):
                    m.d.sync += turn.eq(p)
                    for tap in range(c.parallel[1]):
                        at = p + tap * c.dilation[1]
                        m.d.sync += parts[at % banks].eq(here + (inner + at // banks * c.words))
        return parts, turn


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


def _one_hot(m, value, count):
    """A bit for each of ``count`` values, a cycle later; these drive many wires."""
    return delay(m, Cat(value == n for n in range(count)), 1)
