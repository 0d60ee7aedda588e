"""What a chip family is to the compiler, and what one of its chips offers."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

from amaranth import signed

from ..sizes import at_least, filled, within
from .dsp import Multiplier

__all__ = ["Device", "LutRam", "MemoryShape", "Power", "Target"]

#: bits that an operand of no DSP block exceeds
_WIDEST_OPERAND = 64


@dataclass(frozen=True)
class MemoryShape:
    """A configuration of a block RAM: ``words`` words of ``bits`` bits."""

    words: int
    bits: int

    def __post_init__(self) -> None:
        at_least(1, self, "words", "bits")

    @property
    def size(self) -> int:
        """Bits in all."""
        return self.words * self.bits


@dataclass(frozen=True)
class LutRam:
    """Memory in LUTs: a cell stores ``words`` words of ``bits`` bits and costs ``luts`` LUTs.

    The write port of each row of cells costs ``row_luts`` more. ``style`` is the synthesis
    attribute ``ram_style`` that selects it.
    """

    words: int
    bits: int
    luts: int
    row_luts: int
    style: str

    def __post_init__(self) -> None:
        at_least(1, self, "words", "bits", "luts")
        at_least(0, self, "row_luts")
        filled(self, "style")


@dataclass(frozen=True)
class Target:
    """A chip family: its primitives, and what the compiler may assume of them.

    Parameters
    ----------
    name : of the family, for messages and reports
    dsp : the multiplier block; :meth:`.Multiplier.products` gives its products of two widths
    memory_shapes : of a block RAM, the widest first
    block_ram_register : whether a block RAM has an output register of its own
    lut_ram : memory in LUTs; None: every small memory is a block RAM
    carry_luts : LUTs that bring the carry into a chain of adders, on average
    gated_adders : whether gates in front of an adder are merged into its LUTs
    lone_register_cells : share of the flip-flops that take a logic cell of their own
    logic_unit : what a unit of logic is called in messages
    logic_share : share of the logic that a plan may fill
    soft_logic_share : the same with multipliers in soft logic
    register_share : share of the flip-flops that a plan may use
    table_bits : bits of a read-only table that one LUT holds
    logic_table_bits : bits up to which the table of a function is in LUTs, not in a block RAM
    simulation_models : Verilog models of the primitives that the RTL instantiates
    """

    name: str
    dsp: type[Multiplier]
    memory_shapes: tuple[MemoryShape, ...]
    block_ram_register: bool
    lut_ram: LutRam | None
    carry_luts: int
    gated_adders: bool
    lone_register_cells: float
    logic_unit: str
    logic_share: float
    soft_logic_share: float
    register_share: float
    table_bits: int
    logic_table_bits: int
    simulation_models: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        filled(self, "name", "dsp", "memory_shapes", "logic_unit", "table_bits")
        at_least(0, self, "carry_luts", "logic_table_bits")
        within(0, 1, self, "lone_register_cells")
        within(0.1, 1, self, "logic_share", "register_share")
        within(0.1, self.logic_share, self, "soft_logic_share")
        widths = [shape.bits for shape in self.memory_shapes]
        if widths != sorted(widths, reverse=True):
            raise ValueError(
                f"{self.name}: memory_shapes of {widths} bits; accepted: the widest first"
            )

    def __hash__(self) -> int:
        """By name alone: a target is part of every config, and configs are keys of caches."""
        return hash(self.name)

    @property
    def register_rich(self) -> bool:
        """Whether registers may be spent on speed, as none of them takes a logic cell: register
        slices of two beats, a queue for each operand of an addition, registers before selections.
        """
        return not self.lone_register_cells

    @cached_property
    def operand_bits(self) -> int:
        """Bits of the widest signed operands, both alike, of which a DSP block makes a product."""
        widths = range(1, _WIDEST_OPERAND + 1)
        return max(bits for bits in widths if self.dsp.products(signed(bits), signed(bits)))

    @cached_property
    def widest_memory(self) -> int:
        """Bits of a word in the widest shape of a block RAM."""
        return self.memory_shapes[0].bits

    @cached_property
    def block_ram_bits(self) -> int:
        """Bits of a block RAM in the shape that uses most of them."""
        return max(shape.size for shape in self.memory_shapes)

    def block_rams(self, depth: int, width: int) -> int:
        """The fewest block RAMs of one shape that hold ``depth`` words of ``width`` bits."""
        return min(
            ceil(depth / shape.words) * ceil(width / shape.bits) for shape in self.memory_shapes
        )


@dataclass(frozen=True)
class Power:
    """Published measurements of a chip, or of the next of its family; ``source`` says of what.

    ``toggle_pj``: energy of a register that changes, with its wire (pJ), from github.com/targeted/
    fpga-reg-power: what a board takes more than in reset, at its USB socket, divided by the clock
    and by the registers, which all change in every cycle. ``idle_mw``: what the board takes in
    reset (mW; None: most of it is that of other parts). ``core_volts``: the supply of the logic.
    """

    toggle_pj: float
    idle_mw: float | None
    core_volts: float
    source: str

    def __post_init__(self) -> None:
        within(0.01, 100, self, "toggle_pj")
        within(0.5, 5, self, "core_volts")
        if self.idle_mw is not None:
            within(0, 100_000, self, "idle_mw")
        filled(self, "source")


@dataclass(frozen=True)
class Device:
    """One chip of the family ``target``: the budgets that a plan must keep.

    ``dsp`` counts multiplier blocks. ``dsp_sites`` are their locations along a path on which
    consecutive blocks are close together; empty if the placer may choose. ``power``: what is known
    of the power that it takes; None: nothing.
    """

    name: str
    target: Target
    lut: int
    ff: int
    dsp: int
    bram: int
    dsp_sites: tuple[str, ...] = ()
    power: Power | None = None

    def __post_init__(self) -> None:
        filled(self, "name", "target")
        at_least(1, self, "lut", "ff")
        at_least(0, self, "dsp", "bram")

    @property
    def available(self) -> dict[str, int]:
        """What the chip has, by the names that reports give."""
        return {"lut": self.lut, "ff": self.ff, "dsp": self.dsp, "bram": self.bram}

    @property
    def multipliers(self) -> int:
        """Products of 8 by 8 bits that the DSP blocks compute in one cycle."""
        return self.dsp * self.target.dsp.products(signed(8), signed(8))
