"""The netlist of the whole chip: clock, link and the accelerator of a compiled directory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from amaranth.back import rtlil

from ...compiler import json_file
from ...compiler.emit import without_locations
from ...compiler.errors import DataError
from ...compiler.progress import Progress
from ..board import Board
from ..link.protocol import LinkConfig, LinkPort, link_ports
from . import synthesis
from .base import Flow, Pll
from .result import check_fit
from .top import Top

__all__ = ["ChipNetlist", "ChipSynthesis"]


@dataclass(frozen=True)
class ChipNetlist:
    """A synthesized chip: ``folder`` holds ``netlist.json``, ``counts`` its resources."""

    link: LinkConfig
    folder: Path
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ChipSynthesis:
    """Synthesizes the accelerator in ``directory`` with its link for ``board``.

    Results are stored in folders of ``work`` by the hash of their inputs.
    """

    directory: Path
    board: Board
    flow: Flow
    pll: Pll
    work: Path
    progress: Progress

    def run(self) -> ChipNetlist:
        """The netlist, with a frame buffer in the link if the plan leaves block RAM for it.

        If the plan allows the buffer but the netlist then has too many block RAMs, the chip is
        synthesized again without it. Raises ``FitError`` when the chip is too small and
        ``DataError`` when ``directory`` holds no accelerator.
        """
        for buffered in (True, False) if self._buffer_planned() else (False,):
            netlist = self._synthesized(self._link(buffered=buffered))
            if netlist.counts["bram"] <= self.board.device.bram:
                break
        check_fit(netlist.counts, self.board)
        return netlist

    def _buffer_planned(self) -> bool:
        path = self.directory / "compile.json"
        if not path.is_file():
            return True
        again = "run `gatewright compile` again"
        found = json_file.read_json(path, again)
        try:
            return bool(int(found["frame_buffer"]))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path} must hold the number frame_buffer ({error!r}): {again}"
            ) from error

    def _link(self, *, buffered: bool) -> LinkConfig:
        identity = hashlib.sha256(self._rtl.encode()).digest()[:8]
        inputs, outputs = self._interface()
        return LinkConfig(
            inputs=inputs,
            outputs=outputs,
            clock_hz=round(self.pll.output_mhz * 1e6),
            link_hz=round((self.pll.beside_mhz or 0) * 1e6),
            baud=self.board.uart_baud,
            buffered=buffered,
            design_id=int.from_bytes(identity, "little"),
        )

    @cached_property
    def _rtl(self) -> str:
        """The accelerator without source locations."""
        return without_locations(self._accelerator().read_text())

    def _accelerator(self) -> Path:
        path = self.directory / "rtl" / "accelerator.il"
        if not path.is_file():
            raise DataError(
                f"{self.directory} holds no rtl/accelerator.il: run `gatewright "
                "compile` first, with -o naming this folder"
            )
        return path

    def _interface(self) -> tuple[tuple[LinkPort, ...], tuple[LinkPort, ...]]:
        """The accelerator's inputs and outputs, from ``rtl/interface.json``."""
        path = self.directory / "rtl" / "interface.json"
        again = "run `gatewright compile` again"
        found = json_file.read_json(path, again)
        if not isinstance(found, dict) or "beats_in" in found:
            raise DataError(f"{path}: not the interface that this gatewright writes; {again}")
        ports = []
        for way in ("inputs", "outputs"):
            if not isinstance(found[way], list) or not found[way]:
                raise DataError(f'{path}: "{way}" must list the ports; {again}')
            ports.append(link_ports(f"{path}: {way}", found[way]))
        return ports[0], ports[1]

    def _synthesized(self, link: LinkConfig) -> ChipNetlist:
        top = Top(self.board, self.pll, link)
        text = rtlil.convert(top, name="top", ports=top.ports, emit_src=False)
        key = synthesis.key(self.flow.synthesis, text, self._rtl)
        folder = self.work / f"netlist-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "top.il").write_text(text)
        counts = synthesis.synthesize(
            [self._accelerator(), folder / "top.il"],
            self.flow.synthesis,
            folder,
            "top",
            progress=self.progress,
        )
        return ChipNetlist(link, folder, counts)
