"""Drivers for what the gateware speaks: streams with a handshake, and flows without; and what
synthesis makes of it.
"""

import random
from dataclasses import dataclass, field

import numpy as np
from amaranth import ClockDomain, Module, Shape, Value
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator
from gatewright.benchmarks.ablation import Between
from gatewright.boards.flow import flow_of
from gatewright.boards.flow.synthesis import synthesize

__all__ = [
    "STALLS",
    "Port",
    "Seen",
    "beats_of",
    "exchange",
    "flow",
    "interval",
    "pixels_of",
    "port",
    "queue_memories",
    "random_elements",
    "run",
    "simulate",
    "synthesized",
]

#: chances of a stall that every stream test runs under: none, and half of all cycles
STALLS = (0.0, 0.5)

#: cycles without a beat after which a run has failed, and that it goes on for after its last beat
_PATIENCE = 4000
_AFTERWARDS = 40


@dataclass(frozen=True)
class Port:
    """One end of a stream: its handshake, and ``lanes`` elements of ``element`` in ``payload``."""

    valid: Value
    ready: Value
    payload: Value
    lanes: int
    element: Shape

    def pack(self, beat):
        mask = (1 << self.element.width) - 1
        return sum((int(value) & mask) << (self.element.width * n) for n, value in enumerate(beat))

    def unpack(self, bits):
        return [_element(bits, n, self.element) for n in range(self.lanes)]


def _element(bits, place, shape):
    value = (bits >> (place * shape.width)) & ((1 << shape.width) - 1)
    return value - (1 << shape.width) if shape.signed and value >> (shape.width - 1) else value


def port(stream):
    """The port of a component's stream member."""
    layout = stream.payload.shape()
    return Port(
        stream.valid,
        stream.ready,
        stream.payload.as_value(),
        layout.length,
        Shape.cast(layout.elem_shape),
    )


def simulate(dut: Elaboratable, *benches):
    """Run ``benches``, coroutines of a simulation context, to the end of the first."""
    m = Module()
    m.domains.sync = ClockDomain()  # there are parts without a register
    m.submodules.dut = dut
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    first, *others = benches
    simulator.add_testbench(first)
    for bench in others:
        simulator.add_testbench(bench, background=True)
    simulator.run()


# Streams.


@dataclass
class Seen:
    """What came out of a port: ``beats`` [n, lanes], and the cycle in which each was taken."""

    beats: list = field(default_factory=list)
    cycles: list = field(default_factory=list)
    lasts: list = field(default_factory=list)

    @property
    def values(self):
        return np.array(self.beats, np.int64)


class _Pauses:
    """Whether an end pauses in this cycle: with the chance ``stall``, now and then for long."""

    def __init__(self, stall, seed):
        self.stall, self.random, self.left = stall, random.Random(seed), 0

    def __call__(self):
        if self.left:
            self.left -= 1
            return True
        if self.random.random() >= self.stall:
            return False
        self.left = 20 if self.random.random() < 0.02 else 0
        return True


class _Source:
    """Offers beats; a beat on offer stays, and between beats the payload is rubbish."""

    def __init__(self, port, beats, pauses):
        self.port, self.words, self.pauses = port, [port.pack(beat) for beat in beats], pauses
        self.at, self.offered, self.cycles = 0, False, []

    def watched(self):
        return [self.port.ready]

    def drive(self, ctx):
        if self.offered:
            return
        self.offered = self.at < len(self.words) and not self.pauses()
        rubbish = self.pauses.random.getrandbits(len(self.port.payload))
        ctx.set(self.port.valid, self.offered)
        ctx.set(self.port.payload, self.words[self.at] if self.offered else rubbish)

    def look(self, cycle, ready):
        if self.offered and ready:
            self.at, self.offered = self.at + 1, False
            self.cycles.append(cycle)
            return True
        return False


class _Sink:
    """Takes beats; a beat that it does not take must stay as it is."""

    def __init__(self, port, count, pauses, last=None):
        self.port, self.count, self.pauses, self.last = port, count, pauses, last
        self.seen, self.ready, self.held = Seen(), False, None

    def watched(self):
        last = [] if self.last is None else [self.last]
        return [self.port.valid, self.port.payload, *last]

    def drive(self, ctx):
        self.ready = not self.pauses()
        ctx.set(self.port.ready, self.ready)

    def look(self, cycle, valid, *payload):
        if self.held is not None:
            assert valid, f"cycle {cycle}: a beat was taken back"
            assert payload == self.held, f"cycle {cycle}: a beat changed while it waited"
        self.held = payload if valid and not self.ready else None
        if not (valid and self.ready):
            return False
        self.seen.beats.append(self.port.unpack(payload[0]))
        self.seen.lasts += payload[1:]
        self.seen.cycles.append(cycle)
        return True


def exchange(dut, sources, sinks, *, stall=0.0, seed=0, lasts=None, surplus=False):
    """Drive all of ``sources``, (port, beats), and take from all of ``sinks``, (port, count).

    Every port stalls on its own. ``lasts`` are the sinks' markers of a frame's last beat. Returns
    what each sink saw, and the cycles in which each source's beats went in. Fails on a deadlock, on
    a beat that changes while it waits, and (unless ``surplus``) on beats that come after the last.
    """
    givers = [
        _Source(*each, _Pauses(stall, f"source {seed} {n}")) for n, each in enumerate(sources)
    ]
    takers = [
        _Sink(*each, _Pauses(stall, f"sink {seed} {n}"), last)
        for n, (each, last) in enumerate(zip(sinks, lasts or [None] * len(sinks), strict=True))
    ]
    ends = [*givers, *takers]
    watched = [end.watched() for end in ends]
    flat = [signal for signals in watched for signal in signals]

    async def bench(ctx):
        cycle = moved = 0
        finished = None
        while finished is None or cycle < finished + _AFTERWARDS:
            for end in ends:
                end.drive(ctx)
            _, _, *found = await ctx.tick().sample(*flat)
            at = 0
            for end, signals in zip(ends, watched, strict=True):
                if end.look(cycle, *found[at : at + len(signals)]):
                    moved = cycle
                at += len(signals)
            if finished is None and all(len(t.seen.beats) >= t.count for t in takers):
                finished = cycle
                if surplus:
                    return
            assert finished is not None or cycle < moved + _PATIENCE, _standstill(givers, takers)
            cycle += 1

    simulate(dut, bench)
    for taker in takers:
        assert surplus or len(taker.seen.beats) == taker.count, "more beats came than were due"
    return [taker.seen for taker in takers], [giver.cycles for giver in givers]


def _standstill(givers, takers):
    went = ", ".join(f"{giver.at} of {len(giver.words)}" for giver in givers)
    came = ", ".join(f"{len(taker.seen.beats)} of {taker.count}" for taker in takers)
    return f"no beat moved for {_PATIENCE} cycles: {went} went in, {came} came out"


def run(dut, beats, count, *, stall=0.0, seed=0, surplus=False):
    """What comes out of ``dut.o`` when ``beats`` go into ``dut.i``."""
    (seen,), _ = exchange(
        dut, [(port(dut.i), beats)], [(port(dut.o), count)], stall=stall, seed=seed, surplus=surplus
    )
    return seen


def interval(seen, frames):
    """Cycles from the last beat of the last frame but one to that of the last."""
    a_frame = len(seen.cycles) // frames
    return seen.cycles[-1] - seen.cycles[-1 - a_frame]


# Frames and beats.


def beats_of(frames, lanes, padding=0):
    """Beats [n, lanes] of ``frames`` [..., channels], each pixel's last one padded."""
    frames = np.asarray(frames)
    channels = frames.shape[-1]
    pixels = frames.reshape(-1, channels)
    padded = np.pad(pixels, ((0, 0), (0, -channels % lanes)), constant_values=padding)
    return padded.reshape(-1, lanes)


def pixels_of(beats, channels):
    """Pixels [n, channels] of ``beats`` [n, lanes], without their padding."""
    beats = np.asarray(beats)
    a_pixel = -(-channels // beats.shape[1])
    return beats.reshape(-1, a_pixel * beats.shape[1])[:, :channels]


def random_elements(shape, size, seed=0):
    """Elements of an Amaranth shape; the two ends of its range are a third of them."""
    rng = np.random.default_rng(seed)
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    high = low + (1 << shape.width) - 1
    values = rng.integers(low, high, size, endpoint=True)
    ends = rng.choice([low, high], size)
    return np.where(rng.random(size) < 1 / 3, ends, values)


# Flows.


def flow(dut, reductions, *, gap=0.0, seed=0, also=(), initiation_interval=1):
    """Send ``reductions``, each a list of words (lists of elements), into the flow ``dut.i``.

    Before each reduction there is a pause with the chance ``gap``, with rubbish on the wires; and
    always one of ``initiation_interval - 1`` cycles, so that words may be that far apart. Returns
    (cycle, elements) for each valid word of ``dut.o``, the cycle of each reduction's last word,
    and for each signal of ``also`` the number of cycles in which it was 1.
    """
    rng = random.Random(seed)
    given = Port(dut.i.valid, None, dut.i.payload.as_value(), 0, dut.i.signature.element)
    taken = Port(
        dut.o.valid,
        None,
        dut.o.payload.as_value(),
        dut.o.signature.elements,
        dut.o.signature.element,
    )
    schedule = []
    for words in reductions:
        pause = initiation_interval - 1
        while rng.random() < gap:
            pause += 1
        schedule += [(0, rng.getrandbits(1), rng.getrandbits(1), None) for _ in range(pause)]
        schedule += [(1, n == 0, n == len(words) - 1, word) for n, word in enumerate(words)]
    out, counts = [], [0] * len(also)

    async def bench(ctx):
        for cycle in range(len(schedule) + 200):
            if cycle < len(schedule):
                valid, first, last, word = schedule[cycle]
            else:
                valid, first, last, word = 0, 1, 1, None
            ctx.set(dut.i.valid, valid)
            ctx.set(dut.i.first, first)
            ctx.set(dut.i.last, last)
            ctx.set(
                given.payload,
                rng.getrandbits(len(given.payload)) if word is None else given.pack(word),
            )
            _, _, came, payload, *others = await ctx.tick().sample(
                dut.o.valid, taken.payload, *also
            )
            if came:
                out.append((cycle, taken.unpack(payload)))
            for n, value in enumerate(others):
                counts[n] += value

    simulate(dut, bench)
    ends = [cycle for cycle, (valid, _, last, _) in enumerate(schedule) if valid and last]
    return out, ends, counts


def synthesized(part, target, folder):
    """What synthesis makes of a component between registers, and how many registers those are."""
    dut = Between(part)
    il = folder / "part.il"
    il.write_text(rtlil.convert(dut, name="top", ports=[dut.i, dut.o], emit_src=False))
    return synthesize([il], flow_of(target).synthesis, folder / "out", "top"), len(dut.i) + len(
        dut.o
    )


def queue_memories(part, streams):
    """Whether the memories of the output queue of ``part`` are in distributed RAM: all, none, or
    both.
    """
    ports = [
        Value.cast(signal)
        for name in streams
        for signal in (getattr(part, name).valid, getattr(part, name).ready)
    ]
    text = rtlil.convert(part, name="top", ports=ports, emit_src=False)
    (queue,) = (module for module in text.split("\nmodule ") if module.startswith("\\top.queue"))
    memories = queue.split("\n  memory ")
    return {'ram_style "distributed"' in before for before in memories[:-1]}
