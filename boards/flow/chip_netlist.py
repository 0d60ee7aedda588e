"""The netlist of the whole chip: clock, link and the accelerator of a compiled directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from amaranth.back import rtlil

from ...compiler.progress import Progress
from ..board import Board
from ..link.design import CompiledDesign
from ..link.protocol import LinkConfig
from . import clock, synthesis
from .base import Flow, Pll
from .result import check_fit
from .top import Top

__all__ = ["ChipNetlist", "ChipSynthesis"]


@dataclass(frozen=True)
class ChipNetlist:
    """A synthesized chip: ``folder`` holds ``netlist.json``, ``counts`` its resources,
    ``latency`` the cycles of a frame by the plan.
    """

    link: LinkConfig
    folder: Path
    counts: Mapping[str, int]
    latency: int


@dataclass(frozen=True)
class ChipSynthesis:
    """Synthesizes the accelerator in ``directory`` with its link for ``board``.

    The loop of the netlist is not set to ``pll`` yet where one netlist serves several clocks:
    :func:`.clock.tuned` sets it.
    Results are stored in folders of ``work`` by the hash of their inputs.
    """

    directory: Path
    board: Board
    flow: Flow
    pll: Pll
    baud: int
    work: Path
    progress: Progress

    def run(self) -> ChipNetlist:
        """The netlist, with a frame buffer in the link if the plan leaves block RAM for it.

        If the plan allows the buffer but the netlist then has too many block RAMs, the chip is
        synthesized again without it. Raises ``FitError`` when the chip is too small and
        ``DataError`` when ``directory`` holds no accelerator.
        """
        for buffered in (True, False) if self._design.buffer_planned else (False,):
            netlist = self._synthesized(self._link(buffered=buffered))
            if netlist.counts["bram"] <= self.board.device.bram:
                break
        check_fit(netlist.counts, self.board)
        return netlist

    @cached_property
    def _design(self) -> CompiledDesign:
        return CompiledDesign(self.directory)

    def _link(self, *, buffered: bool) -> LinkConfig:
        return self._design.link(
            clock_hz=round(self.pll.output_mhz * 1e6),
            link_hz=round((self.pll.board_mhz or 0) * 1e6),
            baud=self.baud,
            buffered=buffered,
        )

    def _synthesized(self, link: LinkConfig) -> ChipNetlist:
        top = Top(self.board, clock.synthesized(self.board, self.pll), link)
        text = rtlil.convert(top, name="top", ports=top.ports, emit_src=False)
        key = synthesis.key(self.flow.synthesis, text, self._design.rtl)
        folder = self.work / f"netlist-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "top.il").write_text(text)
        counts = synthesis.synthesize(
            [self._design.accelerator, folder / "top.il"],
            self.flow.synthesis,
            folder,
            "top",
            progress=self.progress,
        )
        return ChipNetlist(link, folder, counts, self._design.latency_planned)
