"""Small integer networks, built operator by operator, and their simulation in Amaranth."""

from dataclasses import dataclass, replace

import numpy as np
from amaranth import signed, unsigned
from gatewright.compiler import ir
from gatewright.compiler.errors import PlanError
from gatewright.compiler.lower import accelerator
from gatewright.compiler.plan import Dataflow, Plan, StagePlan
from gatewright.compiler.plan.fifo import with_queues
from gatewright.compiler.stages import kind_of, stage_ops
from gatewright.hw.target import GENERIC
from gatewright.hw.target.ecp5 import LFE5U_25F
from gatewright.hw.target.ice40 import ICE40UP5K
from gatewright.sim import golden

from ..hw.bench import Port, beats_of, exchange, pixels_of
from ..operators import functions

__all__ = [
    "LFE5U_25F",
    "GENERIC_DEVICE",
    "ICE40UP5K",
    "Builder",
    "Measured",
    "design",
    "fold",
    "foldings",
    "measure",
    "random_folding",
    "stage_plan",
]

#: builds from the generic twins, which Amaranth's simulator can run
GENERIC_DEVICE = replace(LFE5U_25F, name="generic", target=GENERIC, dsp_sites=())
LFE5U_25F = replace(LFE5U_25F, dsp_sites=())

INT8 = ir.Int(8, True)
FUNCTIONS = functions()


class Builder:
    """Grows a quantized graph; every method appends an operator and returns its output's name.

    Weights, types, scales and zero points are drawn from ``seed``; each output's scale is such that
    the values of a trial run use its range. ``simple`` keeps all types 8 bits and signed. With
    ``widths`` every value has one of those widths; without, half of them have 8 bits, the others 3
    to 8.
    """

    def __init__(self, height, width, channels, seed=0, *, dtype=None, simple=True, widths=None):
        self.rng = np.random.default_rng(seed)
        self.simple, self.widths = simple, widths
        self.ops, self.values, self.trial, self.inputs = [], {}, {}, []
        self.input = self.add_input("x", height, width, channels, dtype=dtype)

    def add_input(self, name, height, width, channels, *, dtype=None):
        """Another input of the network."""
        shape = ir.Shape(height, width, channels)
        quant = self._quant(1.0, dtype)
        low, high = quant.dtype.low, quant.dtype.high
        self.trial[name] = self.rng.integers(low, high, (2, *shape.array), endpoint=True)
        self.inputs.append(name)
        return self._value(name, shape, quant)

    def _value(self, name, shape, quant):
        self.values[name] = ir.Value(name, shape, quant)
        return name

    def _dtype(self):
        if self.widths is not None:
            return ir.Int(int(self.rng.choice(self.widths)), bool(self.rng.random() < 0.6))
        if self.simple or self.rng.random() < 0.5:
            return INT8
        return ir.Int(int(self.rng.integers(3, 9)), bool(self.rng.random() < 0.6))

    def _quant(self, largest, dtype=None):
        """For reals up to about ``largest``; a third of the scales are powers of two."""
        dtype = dtype or self._dtype()
        scale = max(largest, 1e-6) * self.rng.uniform(0.7, 1.4) / (1 << (dtype.bits - 1))
        if self.rng.random() < 1 / 3:
            scale = 2.0 ** np.round(np.log2(scale))
        middle = (dtype.low + dtype.high) // 2
        zero = int(
            np.clip(
                middle + self.rng.integers(-dtype.high // 2, dtype.high // 2 + 1),
                dtype.low,
                dtype.high,
            )
        )
        return ir.Quant(dtype, float(np.float32(scale)), zero)

    def shape(self, name):
        return self.values[name].shape

    def _append(self, op, shape, quant=None):
        """Add ``op``; without ``quant`` its output gets one that suits the trial run."""
        inputs = [self.trial[name] for name in op.inputs]
        if quant is None:
            self.values[op.output] = ir.Value(
                op.output, shape, ir.Quant(ir.Int(40, True), 2.0**-12, 0)
            )
            reals = golden.step(op, self._graph(op.output), *inputs) * 2.0**-12
            quant = self._quant(float(np.abs(reals).max()))
        self._value(op.output, shape, quant)
        self.ops.append(op)
        self.trial[op.output] = golden.step(op, self._graph(op.output), *inputs)
        return op.output

    def _names(self, kind, *inputs):
        name = f"{kind}{len(self.ops)}"
        return name, inputs, f"{name}_out"

    def _clamp(self):
        choice = 0 if self.simple else self.rng.integers(3)
        return (ir.Clamp(), ir.Clamp(0), ir.Clamp(-0.5, 2))[choice]

    # Operators.

    def conv(self, x, channels, kernel=(1, 1), *, groups=1, weight_bits=8, **window):
        name = self._names("conv", x)
        depth = self.shape(x).channels // groups
        top = (1 << (weight_bits - 1)) - 1
        weight = self.rng.integers(-top, top, (channels, *kernel, depth), endpoint=True)
        scale = (self.rng.uniform(0.5, 2, channels) / top).astype(np.float32)
        if self.rng.random() < 1 / 3:
            scale = (2.0 ** np.round(np.log2(scale))).astype(np.float32)
        bias_scale = scale * np.float32(self.values[x].quant.scale)
        bias = self.rng.integers(-500, 500, channels).astype(np.int32)
        window = ir.Window(kernel, **window)
        op = ir.Conv(
            *name,
            weight.astype(ir.Int(weight_bits, True).numpy),
            scale,
            bias,
            bias_scale,
            window=window,
            groups=groups,
            clamp=self._clamp(),
        )
        return self._append(op, window.output(self.shape(x), channels))

    def depthwise(self, x, kernel=(3, 3), **window):
        channels = self.shape(x).channels
        return self.conv(x, channels, kernel, groups=channels, **window)

    def dense(self, x, channels):
        return self.conv(self.reshape(x, 1, 1), channels)

    def max_pool(self, x, kernel=(2, 2), stride=None, **window):
        window = ir.Window(kernel, stride or kernel, **window)
        op = ir.MaxPool(*self._names("maxpool", x), window)
        return self._append(
            op, window.output(self.shape(x), self.shape(x).channels), self.values[x].quant
        )

    def average_pool(self, x, kernel=(2, 2), stride=None, *, count_padding=False, **window):
        window = ir.Window(kernel, stride or kernel, **window)
        op = ir.AveragePool(
            *self._names("averagepool", x), window, count_padding, clamp=self._clamp()
        )
        return self._append(op, window.output(self.shape(x), self.shape(x).channels))

    def pad(self, x, pads=(1, 1, 1, 1), fill=0.0):
        shape, (top, left, bottom, right) = self.shape(x), pads
        padded = ir.Shape(shape.height + top + bottom, shape.width + left + right, shape.channels)
        return self._append(
            ir.Pad(*self._names("pad", x), pads, fill), padded, self.values[x].quant
        )

    def add(self, a, b):
        return self.elementwise(ir.Add, a, b)

    def elementwise(self, kind, *inputs):
        """An elementwise operator, of the default parameters."""
        shape = self.shape(inputs[0])
        if kind.selecting:
            inputs = self._alike(*inputs)
            return self._append(
                kind(*self._names(kind.__name__.lower(), *inputs)),
                shape,
                self.values[inputs[0]].quant,
            )
        names = self._names(kind.__name__.lower(), *inputs)
        return self._append(kind(*names, clamp=self._clamp()), shape)

    def unary(self, x, function=None):
        function = function or FUNCTIONS[self.rng.integers(len(FUNCTIONS))]
        op = ir.Unary(*self._names("unary", x), function, clamp=self._clamp())
        return self._append(op, self.shape(x))

    def concat(self, *inputs):
        """Side by side, each first brought to one quantization."""
        alike = self._alike(*inputs)
        shape = self.shape(inputs[0])
        channels = sum(self.shape(x).channels for x in alike)
        return self._append(
            ir.Concat(*self._names("concat", *alike)),
            ir.Shape(shape.height, shape.width, channels),
            self.values[inputs[0]].quant,
        )

    def _alike(self, *inputs):
        """The inputs, each brought to the quantization of the first."""
        quant = self.values[inputs[0]].quant
        return [
            x
            if self.values[x].quant == quant
            else self._append(ir.Unary(*self._names("same", x)), self.shape(x), quant)
            for x in inputs
        ]

    def gather(self, x, shape, order, fill=0.0):
        """A map of ``shape`` (height, width, channels)."""
        op = ir.Gather(*self._names("gather", x), np.asarray(order).reshape(-1), fill)
        return self._append(op, ir.Shape(*shape), self.values[x].quant)

    def matmul(self, a, b, products=1):
        """Rows of ``a`` times columns of ``b``, each a map one pixel wide."""
        shape = ir.Shape(self.shape(a).height, 1, self.shape(b).channels)
        names = self._names("matmul", a, b)
        op = ir.ops.MatMul(*names, products=products, clamp=self._clamp())
        return self._append(op, shape)

    def reshape(self, x, height, width):
        size = self.shape(x).size
        return self._append(
            ir.Reshape(*self._names("reshape", x)),
            ir.Shape(height, width, size // (height * width)),
            self.values[x].quant,
        )

    def delay(self, x, initial=0.3):
        """The rows of ``x``, one pixel wide, a row later."""
        first = np.broadcast_to(np.float32(initial), self.shape(x).channels)
        return self._append(
            ir.Delay(*self._names("delay", x), first), self.shape(x), self.values[x].quant
        )

    def state(self, steps, channels, initial=0.3, first=None):
        """A state of one pixel a step, which :meth:`close` gives what it becomes; it begins with
        the value ``first``, or with numbers.
        """
        shape, quant = ir.Shape(steps, 1, channels), self._quant(1.0)
        given = ()
        if first is not None:
            given, quant = (first,), self.values[first].quant
        name, numbers = f"state{len(self.ops)}", np.broadcast_to(np.float32(initial), channels)
        self.ops.append(ir.Delay(name, (f"{name}_next", *given), f"{name}_out", numbers))
        low, high = quant.dtype.low, quant.dtype.high
        self.trial[f"{name}_out"] = self.rng.integers(low, high, (2, *shape.array), endpoint=True)
        return self._value(f"{name}_out", shape, quant)

    def kept(self, height, width, channels, initial=0.3):
        """A state that is kept from frame to frame, which :meth:`close` gives what it becomes."""
        name = f"kept{len(self.ops)}"
        shape, quant = ir.Shape(height, width, channels), self._quant(1.0)
        port = ir.InputPort(name, shape.array, quant.dtype.name, name, np.arange(shape.size))
        on_level = quant.dequantize(quant.quantize(initial))  # a file of integers holds no other
        first = np.broadcast_to(on_level, shape.array)
        self.ops.append(ir.FrameDelay(name, (f"{name}_next",), name, first, port, f"{name}_after"))
        low, high = quant.dtype.low, quant.dtype.high
        self.trial[name] = self.rng.integers(low, high, (2, *shape.array), endpoint=True)
        return self._value(name, shape, quant)

    def close(self, state, x):
        """Let a state become ``x``, rounded to its type; returns that."""
        name = state.removesuffix("_out")
        op = ir.Unary(f"{name}_round", (x,), f"{name}_next")
        return self._append(op, self.shape(x), self.values[state].quant)

    def argmax(self, x):
        bits = max(1, (self.shape(x).size - 1).bit_length())
        return self._append(
            ir.ArgMax(*self._names("argmax", x)),
            ir.Shape(1, 1, 1),
            ir.Quant(ir.Int(bits, False), 1.0, 0),
        )

    def _graph(self, *outputs):
        names = ["y"] if len(outputs) == 1 else [f"y{n}" for n, _ in enumerate(outputs)]
        return ir.Graph(
            "net",
            tuple(
                ir.InputPort(
                    x.name, x.shape.array, x.quant.dtype.name, x.name, np.arange(x.shape.size)
                )
                for x in (self.values[name] for name in self.inputs)
            ),
            tuple(
                ir.OutputPort(
                    name, y.shape.array, y.quant.dtype.name, y.name, np.arange(y.shape.size)
                )
                for name, y in zip(names, (self.values[y] for y in outputs), strict=True)
            ),
            tuple(self.ops),
            dict(self.values),
        )

    def graph(self, *outputs):
        """The network up to here, verified; its outputs are called y, or y0, y1 and so on."""
        graph = self._graph(*(outputs or [self.ops[-1].output]))
        graph = graph.replace(graph.ops)
        ir.verify(graph, after="the test's builder")
        return graph

    def frames(self, count, seed=0):
        """Random frames of each input, by name; of a lone input its array. A third of all elements
        are ends of their range.
        """
        rng = np.random.default_rng(seed)
        found = {}
        for name in self.inputs:
            dtype = self.values[name].quant.dtype
            size = (count, *self.shape(name).array)
            values = rng.integers(dtype.low, dtype.high, size, endpoint=True)
            ends = rng.choice([dtype.low, dtype.high], size)
            found[name] = np.where(rng.random(size) < 1 / 3, ends, values)
        return found if len(found) > 1 else found["x"]


def stage_plan(name, op, *folding, **more):
    """The plan of a stage that runs ``op`` alone; what its kind has no use for is left out."""
    kind = kind_of((op,))
    stage = StagePlan(name, kind.name, (op.output,), *folding, **more)
    used = {field: getattr(stage, field) for field in kind.fields}
    return StagePlan(name, kind.name, (op.output,), **used)


def design(op, graph, stage, device):
    """The design of a stage that runs ``op`` alone."""
    return kind_of((op,)).design(stage, (op,), graph, device)


def foldings(op, graph):
    """The (simd, pe) worth trying for ``op``."""
    return kind_of((op,)).foldings((op,), graph)


def fold(graph, folds=None, device=GENERIC_DEVICE, *, lanes_in=1, queues=True, **stage):
    """The network of ``graph`` with the given (simd, pe) of each output's stage; else 1, 1."""
    folds = folds or {}
    stages = tuple(
        stage_plan(
            f"s{n:02d}_{type(op).__name__.lower()}", op, *folds.get(op.output, (1, 1)), **stage
        )
        for n, op in enumerate(graph)
        if op in stage_ops(graph)
    )
    if isinstance(lanes_in, int):
        lanes_in = {port.name: lanes_in for port in graph.inputs}
    plan = Plan("test", stages, {}, lanes_in)
    network = Dataflow(graph, plan, device)
    return with_queues(network) if queues else network


def random_folding(graph, rng, most=600, device=GENERIC_DEVICE):
    """A network whose stages have any legal (simd, pe), of at most ``most`` cycles if they can.

    No array has more than 24 multipliers, so that the simulation is quick.
    """
    stages = []
    for n, op in enumerate(graph):
        if not isinstance(op, ir.Reshape):
            stages.append(_random_stage(op, n, graph, rng, most, device))
    lanes = {
        port.name: int(rng.integers(1, graph.shape(port.value).channels + 1))
        for port in graph.inputs
    }
    plan = Plan("test", tuple(stages), {}, lanes)
    return with_queues(Dataflow(graph, plan, device))


def _random_stage(op, number, graph, rng, most, device):
    windowed = isinstance(op, ir.Conv | ir.MaxPool | ir.AveragePool)
    deepest = op.reduction if isinstance(op, ir.Conv) else op.window.taps if windowed else 1
    if isinstance(op, ir.Gather):
        deepest = graph.shape(op.inputs[0]).channels
    channels = max(graph.shape(name).channels for name in (*op.inputs, op.output))
    fastest = None
    for _ in range(300):
        simd = int(rng.integers(1, min(deepest, 24) + 1))
        pe = int(rng.integers(1, min(channels, 24 // simd) + 1))
        hard = simd * pe - int(rng.integers(0, min(3, simd * pe) + 1))
        stage = stage_plan(
            f"s{number:02d}_{type(op).__name__.lower()}",
            op,
            simd,
            pe,
            hard,
            str(rng.choice(["block_ram", "packed_rows", "logic"])),
            windowed and bool(rng.integers(2)),
            isinstance(op, ir.Conv) and not rng.integers(3),
            isinstance(op, ir.Conv) and not rng.integers(3),
        )
        try:
            cycles = design(op, graph, stage, device).cycles()
        except PlanError:
            continue
        if cycles <= most:
            return stage
        fastest = min(fastest or (cycles, stage), (cycles, stage), key=lambda pair: pair[0])
    assert fastest, f"no folding of {op.name} is legal"
    return fastest[1]


@dataclass(frozen=True)
class Measured:
    """What a simulation of the accelerator gave: ``outputs`` [frames, h, w, c] by the name of their
    port, and cycles.
    """

    outputs: dict[str, np.ndarray]
    latency: int
    intervals: list[int]

    @property
    def values(self):
        """The only output."""
        (values,) = self.outputs.values()
        return values


def measure(network, frames, *, stall=0.0, seed=0, around=lambda dut: dut):
    """Run ``frames`` through the accelerator, or what is ``around`` it, in Amaranth's simulator.

    ``frames`` of several inputs are a mapping by name. The latency is from the first beat in to
    the last beat out, over all ports; the intervals are those of the slowest output, between the
    last beats of its frames.
    """
    accelerated = accelerator(network)
    dut = around(accelerated)
    graph = network.graph
    frames = ir.feeds(graph, frames)
    (count,) = {len(each) for each in frames.values()}
    sources = [
        (
            _port(dut, accelerated.source_prefixes[source.name], graph, source),
            beats_of(frames[source.name], source.lanes),
        )
        for source in network.inputs
    ]
    sinks = [
        (_port(dut, accelerated.sink_prefixes[sink.name], graph, sink), sink.beats * count)
        for sink in network.outputs
    ]
    lasts = [getattr(dut, f"{prefix}_tlast") for prefix in accelerated.sink_prefixes.values()]
    seen, went = exchange(dut, sources, sinks, stall=stall, seed=seed, lasts=lasts)
    outputs, cycles = {}, []
    for port, sink, found in zip(graph.outputs, network.outputs, seen, strict=True):
        ends = [n for n, last in enumerate(found.lasts) if last]
        wanted = list(range(sink.beats - 1, sink.beats * count, sink.beats))
        assert ends == wanted, f"tlast of {sink.name} is wrong"
        cycles.append([found.cycles[end] for end in ends])
        pixels = pixels_of(found.values, graph.shape(sink.value).channels)
        outputs[sink.name] = pixels.reshape(count, *graph.shape(port.value).array)
    begin = min(each[0] for each in went)
    intervals = np.max(np.diff(cycles, axis=1), axis=0).tolist()
    return Measured(outputs, max(each[0] for each in cycles) - begin + 1, intervals)


def _port(dut, prefix, graph, port):
    dtype = graph.quant(port.value).dtype
    element = (signed if dtype.signed else unsigned)(dtype.bits)
    return Port(
        *(getattr(dut, f"{prefix}_{name}") for name in ("tvalid", "tready", "tdata")),
        port.lanes,
        element,
    )
