"""The streams of a dataflow: between two stages, and at its ports."""

from dataclasses import dataclass
from math import ceil, gcd

from ... import hw

__all__ = ["Edge", "NetworkPort"]


@dataclass(frozen=True)
class Edge:
    """A stream from output ``output`` of a stage to input ``index`` of another.

    Without a ``source`` it comes from the network's input of that number, without a ``sink`` it
    goes to the network's output of that number.

    A pixel has ``channels_out`` channels where it leaves and ``channels_in`` where it enters: they
    differ where a reshape lies between. A queue holds ``queued`` pixels of the source. ``forked``:
    others take the value too; ``joined``: the sink waits for others too; ``in_turn``: it takes its
    inputs one after the other. ``burst``: the beats of a pixel leave the source one after the
    other.
    """

    source: str | None
    output: int
    sink: str | None
    index: int
    value: str
    lanes_out: int
    lanes_in: int
    channels_out: int
    channels_in: int
    pixels_in: int
    queued: int
    forked: bool
    joined: bool
    in_turn: bool
    burst: bool

    @property
    def common(self) -> int:
        """Lanes that divide the width of both ends so that no beat has elements of two pixels."""
        if self.channels_out == self.channels_in:
            return gcd(self.lanes_out, self.lanes_in)
        straight = self.channels_out % self.lanes_out == self.channels_in % self.lanes_out == 0
        inner = (
            self.lanes_out if straight else gcd(self.lanes_out, self.channels_out, self.channels_in)
        )
        return gcd(inner, self.lanes_in)

    @property
    def queued_wide(self) -> bool:
        """Whether the queue stands after the width conversion. It stands before it, at the source's
        width, unless the sink takes its inputs in turn: that would wait while beats which came
        during the turns of the others are widened.
        """
        return self.in_turn and self.common < self.lanes_in

    @property
    def frees_source(self) -> bool:
        """Whether a queue takes beats as fast as they leave the source."""
        return self.queued > 0 and not (self.queued_wide and self.narrowing > 1)

    @property
    def queue_lanes(self) -> int:
        """Elements a beat of the queue."""
        return self.lanes_in if self.queued_wide else self.lanes_out

    @property
    def depth(self) -> int:
        """Beats of the queue; 0: none."""
        if not self.queued_wide:
            return self.queued * self.beats
        whole, rest = divmod(self.queued * self.channels_out, self.channels_in)
        broken = rest > 0 and self.channels_in % self.lanes_in > 0  # where a pixel ends
        return whole * ceil(self.channels_in / self.lanes_in) + ceil(rest / self.lanes_in) + broken

    @property
    def converts(self) -> bool:
        return not self.lanes_out == self.lanes_in == self.common

    def conversions(self, element: hw.Shape) -> tuple[hw.WidthConfig, ...]:
        """The width converters of the stream: to the common width, and from there to the sink's."""
        steps = (
            (self.channels_out, self.lanes_out, self.common),
            (self.channels_in, self.common, self.lanes_in),
        )
        return tuple(
            hw.WidthConfig(channels, before, after, element)
            for channels, before, after in steps
            if before != after
        )

    @property
    def sliced(self) -> bool:
        """Whether there is a register slice after a fork, or a queue at the source's width. Every
        source and every width converter has one after it, and every input of a join one before it:
        a join's inputs come from distant parts of the chip, and their handshakes depend on each
        other.
        """
        return self.forked or (self.queued > 0 and not self.queued_wide)

    @property
    def held(self) -> int:
        """Elements that the stream holds at most: queue, and two beats in each register slice."""
        before, after = 1 + self.sliced, self.joined + (self.lanes_in != self.common)
        slices = before * self.lanes_out + after * self.lanes_in
        return self.depth * self.queue_lanes + 2 * slices

    def cycles(self) -> int:
        """Cycles a frame takes through the width conversion."""
        return self.pixels_in * ceil(self.channels_in / self.common)

    @property
    def beats(self) -> int:
        """Beats of a pixel at the source."""
        return ceil(self.channels_out / self.lanes_out)

    @property
    def parts(self) -> int:
        """Beats of a pixel where the stream is narrowest."""
        return ceil(self.channels_out / self.common)

    @property
    def narrowing(self) -> int:
        """Beats there that a beat of the source becomes."""
        return self.lanes_out // self.common

    @property
    def passing(self) -> int:
        """Cycles from the last beat of a pixel at the source to the last one at the sink. Without
        ``burst`` the narrowing of each beat has ended when the next one comes.
        """
        narrowed = self.parts - self.beats if self.burst else self.narrowing - 1
        return self.latency + narrowed

    @property
    def latency(self) -> int:
        """Cycles of a beat from the source to the sink: queue, conversions, and the slices between
        them.
        """
        narrows, widens = self.lanes_out != self.common, self.lanes_in != self.common
        slices = 1 + self.sliced + self.joined + narrows + widens
        return hw.RegisterSlice.latency * slices + narrows + hw.Fifo.latency * (self.queued > 0)

    @property
    def queued_latency(self) -> int:
        """:attr:`latency` if there is a queue."""
        return self.latency + hw.Fifo.latency * (self.queued == 0)


@dataclass(frozen=True)
class NetworkPort:
    """An input or output of the network as a stream: the model's ``name`` for it, the ``value`` it
    carries, elements a beat, beats a frame.
    """

    name: str
    value: str
    lanes: int
    beats: int
