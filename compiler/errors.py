"""Errors that speak to the user: what was found, what is accepted, what to do."""

import re
from collections.abc import Sequence

__all__ = [
    "GatewrightError",
    "ModelError",
    "TrainingModeError",
    "QuantizeError",
    "PlanError",
    "FitError",
    "ToolError",
    "TimingError",
    "DataError",
    "SimulationError",
    "printable",
]

#: characters of a word, and of a text, that a terminal shows
_WORD, _TEXT = 400, 8000


class GatewrightError(Exception):
    """Base of every error shown to the user as one message, without a traceback."""


class ModelError(GatewrightError):
    """The ONNX model can not be read, or holds something that has no hardware."""


class TrainingModeError(ModelError):
    """A node is in training mode. The host can not run it either: its result would be random."""


class DataError(GatewrightError):
    """Samples, labels or folders that the user named can not be used."""


class QuantizeError(GatewrightError):
    """A value can not be quantized, or a requantizer can not be proven exact."""


class PlanError(GatewrightError):
    """A hardware plan breaks a rule."""


class FitError(PlanError):
    """The network does not fit the board.

    ``lacking``: the resources that it lacks: name, needed, available.
    """

    def __init__(self, message: str, lacking: Sequence[tuple[str, int, int]] = ()) -> None:
        super().__init__(message)
        self.lacking = tuple(lacking)


class ToolError(GatewrightError):
    """An outside tool is missing, too old, or failed."""


class TimingError(ToolError):
    """The routed design does not reach its clock."""


class SimulationError(GatewrightError):
    """The simulation could not run, or did not end."""


def printable(text: str) -> str:
    """``text`` as a terminal may show it: names come from files, and may hold anything.

    Control characters, marks of writing direction and halves of surrogate pairs are escaped; long
    words, and what is beyond some pages, are cut.
    """
    plain = "".join(
        c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode()
        for c in text[:_TEXT]
    )
    plain = re.sub(rf"(\S{{{_WORD}}})\S+", r"\1...", plain)
    return plain if len(text) <= _TEXT else f"{plain}..."
