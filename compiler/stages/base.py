"""The interface of a stage kind: all that planner, lowering, simulation and reports know of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from math import ceil, inf
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..errors import PlanError

__all__ = [
    "Buffering",
    "ConfiguredDesign",
    "Design",
    "Foldings",
    "WindowNeeds",
    "MultiplierCost",
    "Products",
    "StagePort",
    "StagePorts",
    "StageKind",
    "StagePlan",
    "StageTiming",
    "check_range",
    "hw_shape",
]


class Products(IntEnum):
    """How a stage makes its products."""

    #: a multiplier for each
    SINGLE = 0
    #: a multiplier for two, by the fast inner product
    PAIRS = 1
    #: trees of adders in soft logic, without multipliers
    TREES = 2
    #: a multiplier for one and a half, by minimal filtering in rows
    FILTERED = 3
    #: a multiplier for three, by both
    FILTERED_PAIRS = 4
    #: a multiplier for two and a quarter, by minimal filtering in both directions
    SQUARE_FILTERED = 5
    #: a multiplier for four and a half, by that and the fast inner product
    SQUARE_FILTERED_PAIRS = 6

    @classmethod
    def of(cls, directions: int, paired: bool) -> "Products":
        """Minimal filtering in so many directions, with the fast inner product or without."""
        return (
            (cls.SINGLE, cls.PAIRS),
            (cls.FILTERED, cls.FILTERED_PAIRS),
            (cls.SQUARE_FILTERED, cls.SQUARE_FILTERED_PAIRS),
        )[directions][paired]

    @property
    def paired(self) -> bool:
        """Whether by the fast inner product."""
        return self in (
            Products.PAIRS,
            Products.FILTERED_PAIRS,
            Products.SQUARE_FILTERED_PAIRS,
        )

    @property
    def directions(self) -> int:
        """Those of minimal filtering; 0: without."""
        if self in (Products.SQUARE_FILTERED, Products.SQUARE_FILTERED_PAIRS):
            return 2
        return int(self in (Products.FILTERED, Products.FILTERED_PAIRS))


@dataclass(frozen=True)
class StagePlan:
    """One stage of hardware: its kind, the operators that it runs, and how wide it is.

    ``kind`` names a :class:`StageKind`; ``ops`` are names of the values that the stage computes, in
    the order in which it computes them. What ``simd`` and ``pe`` count depends on the kind
    (:attr:`StageKind.folding`), and which fields it uses (:attr:`StageKind.fields`).
    ``dsp_multipliers`` is the number of multipliers in DSP blocks, the others are soft logic.
    ``weights`` is where weights are stored: "logic", "block_ram", or "packed_rows" (the fewest
    block RAMs, at the cost of some logic). ``minimal_rows``: the line buffer has no spare row.
    ``fast_inner_product``: each multiplier gives two products. ``minimal_filtering``: its
    directions; with 1, four products give two outputs of three taps in a row, with 2, sixteen give
    two by two outputs of nine taps. ``adder_trees``: instead of multipliers, trees of adders in
    soft logic sum the products of a row. ``site`` is the index of the stage's first DSP block along
    the device's path of DSP blocks; None leaves the placement to the placer.
    """

    name: str
    kind: str
    ops: tuple[str, ...]
    simd: int = 1
    pe: int = 1
    dsp_multipliers: int = 0
    weights: str = "logic"
    minimal_rows: bool = False
    fast_inner_product: bool = False
    minimal_filtering: int = 0
    adder_trees: bool = False
    site: int | None = None

    @property
    def products(self) -> Products:
        """How the stage makes its products."""
        if self.adder_trees:
            return Products.TREES
        return Products.of(self.minimal_filtering, self.fast_inner_product)


@dataclass(frozen=True)
class StagePort:
    """A stream port of a stage's component, which carries ``lanes`` elements of ``value`` a beat.

    ``member`` is the component's attribute; ``index`` selects from an array of ports.
    """

    value: str
    lanes: int
    member: str
    index: int | None = None

    @property
    def path(self) -> tuple[str] | tuple[str, int]:
        """The port as :class:`gatewright.hw.Connection` names it within its stage."""
        return (self.member,) if self.index is None else (self.member, self.index)

    def signal(self, name: str) -> str:
        """The name of one of the stream's signals in the RTL."""
        return "__".join([*map(str, self.path), name])


@dataclass(frozen=True)
class StagePorts:
    """The stream ports of a stage's component."""

    inputs: tuple[StagePort, ...]
    outputs: tuple[StagePort, ...]


@dataclass(frozen=True)
class StageTiming:
    """The durations of a stage that the schedule depends on.

    ``pixel``: cycles between the results of two pixels of output; ``latency``: cycles from the end
    of a pixel's computation to its last beat out; ``writing``: least cycles that a pixel of input
    takes into the line buffer; ``arrival``: most cycles from its last beat in until the computation
    of a pixel that needs it; ``room``: rows that the line buffer holds; ``unit``: pixels of input
    that are counted together as they arrive; ``pace``: of a delaying stage, least cycles between
    the beginnings of two pixels. ``behind``: of a stage that takes its inputs in turn, for each
    input the cycles from its last beat of a pixel to the last one of the inputs after it. Means of
    several designs are real numbers.
    """

    pixel: float
    latency: float
    writing: float = 0
    arrival: float = 0
    room: float = inf
    unit: int = 1
    pace: float = 0
    behind: tuple[int, ...] = ()

    @property
    def durations(self) -> tuple[float, float, float]:
        """The cycles of a pixel, from its end to its last beat out, and of a pixel's writing."""
        return self.pixel, self.latency, self.writing

    def behind_of(self, index: int) -> int:
        """``behind`` of an input; 0 where the stage takes all inputs at once."""
        return self.behind[index] if self.behind else 0


@dataclass(frozen=True, eq=False)
class WindowNeeds:
    """Which pixels of input each pixel of output needs.

    ``needed`` [rows, columns]: pixels of input, in raster order, up to the last that each pixel of
    output, or one before it, reads. ``released``: rows of input that are free after each row of
    output. ``width``: pixels in a row of input. ``late``: of every two pixels of output the first
    one leaves so many of a pixel's cycles later than its number says.

    Where pixels are not computed in raster order, rows and columns are in the order of computing,
    and ``complete`` has for each pixel of output, in raster order, the number of the last one
    computed before it leaves; each takes ``leaving`` cycles to leave.
    """

    needed: NDArray[np.int64]
    released: list[int]
    width: int
    late: float = 0.0
    complete: NDArray[np.int64] | None = None
    leaving: int = 0


@dataclass(frozen=True, eq=False)
class Buffering:
    """Pixels of input that a stage holds.

    While its output is blocked a stage holds at least ``least`` pixels of each input that it has
    not yet used, and at most ``most``. ``lines``: the line buffer of a stage that stores its first
    input; None for a stage that computes each pixel as it comes. A stage that stores its first
    input computes a pixel for each pixel of its other inputs, of which it holds ``streamed``
    pixels, at least and at most. ``turns``: of a stage that takes its inputs in turn, for each
    input the consecutive cycles in which it takes the others.
    """

    least: int = 0
    most: int = 16
    lines: WindowNeeds | None = None
    streamed: tuple[int, int] = (0, 16)
    turns: tuple[int, ...] = ()

    def held(self, number: int) -> tuple[int, int]:
        """The least and the most pixels of the input of that number."""
        return (self.least, self.most) if number == 0 or self.lines is None else self.streamed


@dataclass(frozen=True)
class MultiplierCost:
    """What the multipliers of an operator take.

    ``per_block``: products that one DSP block gives (0: none, or its operands are too wide).
    ``pack``: columns whose products share a block. ``in_block`` and ``in_logic``: an array of
    ``count`` multipliers in DSP blocks and in soft logic. ``fast``: the same of the fast inner
    product, None where no folding uses it; ``filtered``: of minimal filtering, by its directions.
    """

    per_block: int
    pack: int
    in_block: hw.Resources
    in_logic: hw.Resources
    count: int = 1
    fast: "MultiplierCost | None" = None
    filtered: Mapping[int, "MultiplierCost"] = field(default_factory=dict)

    def of(self, products: Products) -> "MultiplierCost | None":
        """That of multipliers which make their products in such a way."""
        cost = self.filtered.get(products.directions) if products.directions else self
        return cost.fast if cost and products.paired else cost


@dataclass(frozen=True, eq=False)
class Foldings:
    """Foldings as columns of integers, one row each, by cycles and then multipliers.

    ``multipliers`` counts those too that the folding's DSP blocks could hold and do not. ``lanes``:
    results a beat, each with a requantizer. ``cut``: 1 where reads go through a reuse buffer.
    ``products``: of :class:`Products`.
    """

    cycles: NDArray[np.int64]
    multipliers: NDArray[np.int64]
    lanes: NDArray[np.int64]
    cut: NDArray[np.int64]
    simd: NDArray[np.int64]
    pe: NDArray[np.int64]
    products: NDArray[np.int64]


@dataclass(frozen=True)
class Design(ABC):
    """One stage of a kind: operators and their folding, before any constant is known."""

    stage: StagePlan
    ops: tuple[ir.Op, ...]
    graph: ir.Graph

    # Streams

    @property
    @abstractmethod
    def ports(self) -> StagePorts:
        """The stream ports of the component that :meth:`build` makes."""

    @property
    def pixels_out(self) -> int:
        """Pixels of a frame on the first output."""
        return self.graph.shape(self.ops[-1].output).pixels

    @property
    def beats_out(self) -> int:
        """Beats of a pixel on the first output."""
        port, *_ = self.ports.outputs
        return ceil(self.graph.shape(self.ops[-1].output).channels / port.lanes)

    # Time

    @property
    def delaying(self) -> bool:
        """Whether the stage gives a pixel of output before the input's pixel of that number, so
        that the input may depend on it; :meth:`paced` then sets how fast.
        """
        return False

    @property
    def keeping(self) -> bool:
        """Whether a delaying stage delays by a frame: all pixels of output are there before any of
        input.
        """
        return False

    @property
    def bursting(self) -> bool:
        """Whether the beats of a pixel leave one after the other, not each when it is computed."""
        return self.delaying

    def paced(self, cycles: int) -> "Design":
        """The design that begins a pixel of output, or a frame, only every ``cycles`` cycles."""
        raise NotImplementedError(f"{self.stage.name}: is not delaying")

    @abstractmethod
    def cycles(self) -> int:
        """Cycles a frame."""

    def cycles_of(self, op: ir.Op) -> int:
        """Cycles a frame that one of the stage's operators takes."""
        return self.cycles()

    def products_of(self, op: ir.Op) -> int:
        """Products of weights and activations a frame in one of the stage's operators."""
        return 0

    @property
    @abstractmethod
    def latency(self) -> int:
        """Cycles from the last element in (for a window: read) to the last beat out."""

    @property
    def timing(self) -> StageTiming:
        """The durations that the schedule of a frame depends on, for an input of any width."""
        return StageTiming(self.cycles() // self.pixels_out, self.latency)

    @property
    def drain_cycles(self) -> int:
        """Cycles after which a stage that starts nothing more is empty, its queue included, which a
        word leaves each cycle.
        """
        return self.latency

    @property
    def buffering(self) -> Buffering:
        """The pixels of input that the stage holds."""
        return Buffering()

    # Cost

    @property
    def multipliers(self) -> int:
        """Multipliers for the network's own products."""
        return 0

    @property
    def products_per_cycle(self) -> int:
        """Products of the network that the multipliers give in a cycle."""
        return self.multipliers

    @property
    def products_per_block(self) -> int | Fraction:
        """Products that a DSP block gives this stage, at most; 0: it can not use any."""
        return 0

    @property
    def block_worth(self) -> int:
        """LUTs that a DSP block's multipliers take in soft logic."""
        return 0

    def blocks(self, dsp_multipliers: int) -> int:
        """DSP blocks that make ``dsp_multipliers`` of the multipliers."""
        return 0

    @property
    def memory_bits(self) -> int:
        """Bits of weights, tables and line buffers."""
        return 0

    @abstractmethod
    def resources(self, device: Device) -> hw.Resources:
        """An estimate of the component."""

    def alternatives(self, device: Device, lean: bool) -> Iterator["Design"]:
        """The same folding with its weights in other memories; ``lean``: also in those that save
        block RAM at the cost of logic, where they do.
        """
        return iter(())

    # Hardware

    @abstractmethod
    def constants(self) -> Any:
        """Weights, tables and proven requantizers, as :meth:`build` takes them."""

    @abstractmethod
    def build(self, constants: Any) -> hw.Component:
        """The component, with the ports that :attr:`ports` lists."""

    def memory_image(self, constants: Any) -> bytes | None:
        """What the stage reads from a memory outside the FPGA; None: nothing."""
        return None


@dataclass(frozen=True)
class ConfiguredDesign(Design):
    """A design whose latency and size depend on its constants, which are found for the plan."""

    @property
    @abstractmethod
    def config(self) -> Any:
        """The component's configuration, constants included."""

    @property
    def latency(self) -> int:
        latency: int = self.config.latency
        return latency

    def resources(self, device: Device) -> hw.Resources:
        resources: hw.Resources = self.config.resources()
        return resources

    def constants(self) -> Any:
        return self.config


class StageKind(ABC):
    """A way to execute operators: which, under which foldings, and the design of each."""

    #: the name in plan files
    name: ClassVar[str]
    #: what ``simd`` and ``pe`` of a stage plan count
    folding: ClassVar[str] = "`pe`: channels a beat"
    #: fields of a :class:`StagePlan` that change the hardware; the others must have their defaults
    fields: ClassVar[frozenset[str]] = frozenset({"pe"})

    @abstractmethod
    def matches(self, ops: Sequence[ir.Op]) -> bool:
        """Whether one stage of this kind can run these operators, in this order."""

    @abstractmethod
    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        """The (simd, pe) worth trying."""

    @abstractmethod
    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> Design:
        """The design of ``stage``; :class:`PlanError` when its folding is not legal."""

    def multiplier(
        self, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> MultiplierCost | None:
        """The cost of a multiplier; None where a folding takes none."""
        return None

    def candidates(self, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device) -> Foldings:
        """Every folding worth trying: here those without multipliers, designed one by one."""
        rows = []
        for simd, pe in dict.fromkeys(self.foldings(ops, graph)):
            stage = StagePlan(ops[-1].name, self.name, (ops[-1].output,), simd, pe)
            try:
                rows.append((self.design(stage, ops, graph, device).cycles(), 0, 0, 0, simd, pe, 0))
            except PlanError:
                continue
        rows.sort(key=lambda row: row[0])
        return Foldings(*np.array(rows, np.int64).reshape(-1, 7).T)


def hw_shape(dtype: ir.Int) -> hw.Shape:
    """An integer type as the gateware spells it."""
    return hw.integer(dtype.bits, dtype.signed)


def check_range(op: ir.Op, name: str, value: int, most: int, why: str) -> None:
    """Refuse a folding parameter outside 1 to ``most``."""
    if not 1 <= value <= most:
        raise PlanError(f"{op.name}: {name}={value}, but {why}; choose 1 to {most}")
