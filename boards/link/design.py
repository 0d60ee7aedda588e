"""The accelerator in a compiled directory, as the link connects it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...compiler import json_file
from ...compiler.emit import without_locations
from ...compiler.errors import DataError
from .protocol import LinkConfig, LinkPort, link_ports

__all__ = ["CompiledDesign"]

_AGAIN = "run `gatewright compile` again"


@dataclass(frozen=True)
class CompiledDesign:
    """The accelerator that ``gatewright compile`` left in ``directory``; raises ``DataError`` where
    a file is missing or damaged.
    """

    directory: Path

    @property
    def accelerator(self) -> Path:
        """The accelerator's RTLIL."""
        path = self.directory / "rtl" / "accelerator.il"
        if not path.is_file():
            raise DataError(
                f"{self.directory} holds no rtl/accelerator.il: run `gatewright "
                "compile` first, with -o naming this folder"
            )
        return path

    @cached_property
    def rtl(self) -> str:
        """The accelerator without source locations."""
        return without_locations(self.accelerator.read_text())

    @property
    def design_id(self) -> int:
        """The number by which a driver recognizes the design."""
        return int.from_bytes(hashlib.sha256(self.rtl.encode()).digest()[:8], "little")

    @property
    def buffer_planned(self) -> bool:
        """Whether the plan leaves block RAM for the link's frame buffer."""
        return bool(self._planned("frame_buffer", 1))

    @property
    def latency_planned(self) -> int:
        """Cycles of a frame by the plan; 0 where there is no plan."""
        return self._planned("latency_cycles", 0)

    def _planned(self, key: str, default: int) -> int:
        """A number of ``compile.json``; ``default`` where there is none."""
        path = self.directory / "compile.json"
        if not path.is_file():
            return default
        found = json_file.read_json(path, _AGAIN)
        try:
            return int(found[key])
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} must hold the number {key} ({error!r}): {_AGAIN}") from error

    def interface(self) -> tuple[tuple[LinkPort, ...], tuple[LinkPort, ...]]:
        """The accelerator's inputs and outputs, from the file beside it."""
        path = self.accelerator.with_name("interface.json")
        found = json_file.read_json(path, _AGAIN)
        if not isinstance(found, dict) or "beats_in" in found:
            raise DataError(f"{path}: not the interface that this gatewright writes; {_AGAIN}")
        ports = []
        for way in ("inputs", "outputs"):
            if not isinstance(found[way], list) or not found[way]:
                raise DataError(f'{path}: "{way}" must list the ports; {_AGAIN}')
            ports.append(link_ports(f"{path}: {way}", found[way]))
        return ports[0], ports[1]

    def link(self, *, clock_hz: int, link_hz: int, baud: int, buffered: bool) -> LinkConfig:
        """The link of this accelerator at these clocks."""
        inputs, outputs = self.interface()
        return LinkConfig(
            inputs=inputs,
            outputs=outputs,
            clock_hz=clock_hz,
            link_hz=link_hz,
            baud=baud,
            buffered=buffered,
            design_id=self.design_id,
        )
