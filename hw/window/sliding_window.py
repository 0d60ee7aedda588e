"""The sliding window: a line buffer read at any address, so that padding, stride and dilation take
no cycles.
"""

from functools import reduce
from operator import or_

from amaranth import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import delay
from ..memory.ram import Ram
from ..stream.signature import PushStream, beats
from .config import WindowConfig
from .reader import Reader
from .writer import Writer

__all__ = ["SlidingWindow"]


class SlidingWindow(wiring.Component):
    """Store rows as they arrive, read the words of each window in order.

    A pixel (or row) of output starts when its input is complete. A reduction starts in a cycle in
    which ``grant`` is high, which ``start`` marks, and then runs without a pause. Padding reads as
    ``fill``.

    Throughput: while input and grants are there, a read every cycle, from one output pixel to the
    next, one row to the next and one frame to the next. Latency from a read to ``o``:
    ``config.latency``.

    Members
    -------
    i : In(beats(chunk, element))
    grant : In(1)
    start : Out(1)
    o : Out(PushStream(taps * chunk, element))
    """

    def __init__(self, config: WindowConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.chunk, config.element)),
                "grant": In(1),
                "start": Out(1),
                "o": Out(PushStream(config.taps * config.chunk, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.writer = writer = Writer(c)
        m.submodules.reader = reader = Reader(c)
        wiring.connect(m, wiring.flipped(self.i), writer.i)
        m.d.comb += [
            reader.grant.eq(self.grant),
            self.start.eq(reader.start),
            reader.arrived.eq(writer.arrived),
            writer.released.eq(reader.released),
        ]

        banks = self._banks(m, writer, reader)
        self._select(m, reader, banks)
        m.d.sync += [
            self.o.valid.eq(reader.flags[0]),
            self.o.first.eq(reader.flags[1]),
            self.o.last.eq(reader.flags[2]),
        ]
        return m

    def _banks(self, m, writer, reader):
        """The word that each bank reads, by (row, column)."""
        c = self.config
        words = {}
        for row in range(c.banks[0]):
            for column in range(c.banks[1]):
                m.submodules[f"bank_{row}_{column}"] = bank = Ram(c.ram)
                in_row = writer.enable & (writer.bank_row == row)
                m.d.comb += [
                    bank.write_address.eq(writer.address),
                    bank.write_data.eq(writer.data),
                    bank.write_enable.eq(in_row & (writer.bank_column == column)),
                    bank.address.eq(reader.address[row][column]),
                ]
                words[row, column] = bank.data
        return words

    def _select(self, m, reader, words):
        """The word under each tap: select its bank of rows, then of columns, then padding."""
        c = self.config
        width = c.chunk * c.element.width
        element = c.fill % (1 << c.element.width)
        fill = sum(element << (c.element.width * i) for i in range(c.chunk))
        for row in range(c.parallel[0]):
            in_row = [
                self._word_of(
                    reader.row_bank,
                    row * c.dilation[0],
                    [words[i, j] for i in range(c.banks[0])],
                )
                for j in range(c.banks[1])
            ]
            in_row = [delay(m, word, 1, name=f"row_{row}_{j}") for j, word in enumerate(in_row)]
            for column in range(c.parallel[1]):
                word = self._word_of(reader.column_bank, column * c.dilation[1], in_row)
                inside = reader.inside_row[row] & reader.inside_column[column]
                tap = row * c.parallel[1] + column
                word = delay(m, Mux(inside, word, fill), 1, name=f"tap_{tap}")
                m.d.comb += self.o.payload.as_value().word_select(tap, width).eq(word)

    @staticmethod
    def _word_of(first, distance, words):
        """The word of the bank ``distance`` banks around the ring from the one-hot ``first``."""
        if len(words) == 1:
            return words[0]
        return reduce(
            or_, (Mux(first[(n - distance) % len(words)], word, 0) for n, word in enumerate(words))
        )
