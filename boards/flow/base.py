"""What differs between families on the way from RTLIL to a bitstream."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from amaranth import Instance, Signal
from amaranth.hdl import ClockSignal

from ...hw.sizes import filled, within
from ...hw.target import Target
from ..board import Board

__all__ = [
    "RESOURCES",
    "Bypass",
    "Cell",
    "CellModels",
    "Flow",
    "Limit",
    "LoopPll",
    "Pll",
    "Synthesis",
]


#: what the cells of a netlist are counted as
RESOURCES = ("lut", "ff", "dsp", "bram")


# --- clocks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pll(ABC):
    """A way to make the accelerator's clock from the board's clock of ``input_mhz``."""

    input_mhz: float

    @property
    @abstractmethod
    def output_mhz(self) -> float:
        """The accelerator's clock."""

    @property
    def board_mhz(self) -> float | None:
        """The board's own clock if other logic can use it as well; None if it cannot."""
        return None

    @property
    def jitter(self) -> tuple[float, float]:
        """Orders settings of one clock: the smallest has the least jitter."""
        return (float("-inf"), 0.0)


@dataclass(frozen=True)
class Bypass(Pll):
    """No PLL: the board's own clock."""

    @property
    def output_mhz(self) -> float:
        return self.input_mhz


class LoopPll(Pll):
    """A phase-locked loop; ``output_mhz`` is a division of its oscillator."""

    @property
    @abstractmethod
    def board_mhz(self) -> float | None: ...

    @property
    @abstractmethod
    def detector_mhz(self) -> float:
        """The clock at the phase detector."""

    @property
    @abstractmethod
    def vco_mhz(self) -> float:
        """The clock of the oscillator."""

    @property
    def jitter(self) -> tuple[float, float]:
        return (-self.detector_mhz, -self.vco_mhz)

    @abstractmethod
    def instance(self, board: Board, clk: Signal, clock: ClockSignal, locked: Signal) -> Instance:
        """The primitive: ``clk`` is the board's clock pin, ``clock`` the clock that it drives."""


# --- the netlist ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A cell of the synthesized netlist: its type and parameters."""

    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """No clock above ``mhz``, because of ``reason``."""

    mhz: float
    reason: str

    def __post_init__(self) -> None:
        within(1, 2000, self, "mhz")
        filled(self, "reason")


@dataclass(frozen=True)
class Synthesis:
    """yosys' synthesis of a family.

    ``command`` takes ``{top}`` and ``{dsp}``; the latter is ``inference[infer]``, the option that
    makes multiplications DSP blocks or not. ``cells`` is what each cell counts as: an empty mapping
    for one that costs nothing of the :data:`RESOURCES`. ``improve``
    rewrites ``netlist.json`` in a folder and returns the cells that this saved; ``sources`` are the
    modules that it depends on.
    """

    command: str
    inference: Mapping[bool, str]
    cells: Mapping[str, Mapping[str, int]]
    improve: Callable[[Path], Mapping[str, int]] | None = None
    sources: tuple[ModuleType, ...] = ()

    def __post_init__(self) -> None:
        filled(self, "command", "inference", "cells")
        lacking = [word for word in _COMMAND_WORDS if word not in self.command]
        if lacking:
            raise ValueError(f"Synthesis: command={self.command!r} lacks {', '.join(lacking)}")
        if set(self.inference) != {False, True}:
            raise ValueError(
                f"Synthesis: inference={dict(self.inference)}; accepted: an option for False and "
                "one for True"
            )
        strange = {kind for counted in self.cells.values() for kind in counted} - {*RESOURCES}
        if strange:
            raise ValueError(
                f"Synthesis: cells count as {sorted(strange)}; accepted: {', '.join(RESOURCES)}"
            )
        if (self.improve is None) != (not self.sources):
            raise ValueError(
                "Synthesis: improve and sources belong together: the modules that improve calls "
                "are in the cache key"
            )


_COMMAND_WORDS = ("{top}", "{dsp}", "netlist.json")


@dataclass(frozen=True)
class CellModels:
    """Verilog models of a family's cells: files of yosys' share folder, then own ``files``.

    They are read with ``defines``. ``renamed`` maps cells to the models that replace them.
    """

    share: tuple[str, ...]
    files: tuple[Path, ...] = ()
    defines: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        filled(self, "share")


def _chip_options(board: Board) -> list[str]:
    speed = ["--speed", board.speed] if board.speed else []
    return [board.chip, "--package", board.package, *speed]


@dataclass(frozen=True)
class Flow:
    """Everything that the flow from RTLIL to a bitstream needs to know of a family.

    ``place`` and ``pack`` are tools. ``chip_options``: how nextpnr is told chip, package and speed
    grade. ``sites`` maps what nextpnr counts to our names. ``io_standards``: those of the family's
    single-ended pins. ``placers``: seeds take them in turn; the last one gives up by itself.
    ``routers``: the one that gives the better clock, and the one that always ends. Documented clock
    limits that nextpnr does not know: ``clock_tree`` maps speed grades to the clock tree's,
    ``limits`` yields those of cells. ``flash_only``: a bitstream is always loaded into the board's
    flash memory, not into the chip.
    """

    target: Target
    synthesis: Synthesis
    place: str
    pack: str
    routed_option: str
    pack_options: tuple[str, ...]
    bitstream_suffix: str
    constraints_option: str
    constraints: Callable[[Board], str]
    sites: Mapping[str, str]
    io_standards: frozenset[str]
    pll_settings: Callable[[float], Iterator[Pll]]
    clock_tree: Mapping[str, Limit]
    limits: Callable[[Iterable[Cell]], Iterable[Limit]]
    cell_models: CellModels
    placers: tuple[str, ...] = ("heap",)
    routers: tuple[str, str] = ("router1", "router2")
    flash_only: bool = False
    chip_options: Callable[[Board], Sequence[str]] = _chip_options

    def __post_init__(self) -> None:
        filled(self, *(name for name in vars(self) if name not in ("pack_options", "flash_only")))
        for name in ("routed_option", "constraints_option"):
            if not getattr(self, name).startswith("-"):
                raise ValueError(f"Flow: {name}={getattr(self, name)!r} is no option")
        if not re.fullmatch(r"\.\w+", self.bitstream_suffix):
            raise ValueError(f"Flow: bitstream_suffix={self.bitstream_suffix!r}; like .bit")
        if len(set(self.routers)) != 2:
            raise ValueError(f"Flow: routers={self.routers}; accepted: two that differ")

    def lowest_limit(self, speed: str, cells: Iterable[Cell]) -> Limit:
        """The lowest documented limit of the clock tree at a speed grade, and of ``cells``."""
        if speed not in self.clock_tree:
            raise ValueError(
                f"{self.target.name}: clock_tree has no limit for the speed grade {speed!r}; it "
                f"has those of {', '.join(map(repr, self.clock_tree))}"
            )
        return min((self.clock_tree[speed], *self.limits(cells)), key=lambda limit: limit.mhz)
