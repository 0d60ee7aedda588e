"""What stays on the host: the head before the hardware and the tail after it, in ONNX Runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import ir
from ..errors import DataError
from ..ir.feeds import count, take
from ..json_file import Key, Keys
from ..json_file import take as taken
from .reference_runtime import Runtime

__all__ = ["Border", "HostPart", "Output"]

Array = NDArray[Any]

HEAD, TAIL = "head.onnx", "tail.onnx"
_PORT: Keys = {
    "name": Key(str),
    "shape": Key(list, of=int),
    "dtype": Key(str),
    "batch": Key(int, least=1),
}
_OUTPUT: Keys = {"name": Key(str), "frames": Key(bool)}


@dataclass(frozen=True)
class Output:
    """An output of the model; ``frames``: its first axis is that of the frames."""

    name: str
    frames: bool


@dataclass(frozen=True, eq=False)
class HostPart:
    """A part of the model that ONNX Runtime runs."""

    model: onnx.ModelProto
    runtime: Runtime

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "HostPart":
        """Raises DataError where ONNX Runtime can not run it."""
        return cls(model, Runtime(model))

    def __call__(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for one call, of as many frames as the model's batch has.

        Raises DataError where ONNX Runtime refuses the numbers.
        """
        try:
            return self.runtime.call({name: given[name] for name in self.runtime.inputs})
        except Exception as error:  # its exceptions have no common base but this
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.model.graph.name}.onnx: ONNX Runtime can not compute it for these samples "
                f"({reason}); give samples that the model's inputs allow"
            ) from error


@dataclass(frozen=True, eq=False)
class Border:
    """How the hardware's inputs come from the model's, and the model's outputs from the hardware's.

    ``inputs`` and ``outputs`` are the model's; ``batch`` is how many frames one call takes.
    """

    inputs: tuple[ir.InputPort, ...]
    outputs: tuple[Output, ...]
    head: HostPart | None
    tail: HostPart | None
    batch: int

    def before(self, x: ir.Feeds) -> dict[str, Array]:
        """The model's inputs [frames, ...] and the outputs of the head, by name."""
        given = {name: np.asarray(array) for name, array in x.items()}
        if self.head is None:
            return given
        parts = [self.head(part) for part in self._calls(given)]
        return given | {
            name: np.concatenate([part[name] for part in parts])[: count(given)]
            for name in parts[0]
        }

    def after(self, given: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs, by name: for what :meth:`before` gave, and the hardware's outputs.

        An output whose first axis is not that of the frames gets one before it; where frames differ
        in shape, the smaller ones are filled up at their ends with -1, or with NaN.
        """
        known = {**given, **found}
        frames = count(found)
        results = {name: [array] for name, array in known.items()}
        if self.tail is not None:
            wanted = {name: known[name] for name in self.tail.runtime.inputs}
            # constants read nothing, but each frame gets them
            parts = [self.tail(part) for part in self._calls(wanted or found)]
            results |= {name: [part[name] for part in parts] for name in parts[0]}
        return {
            port.name: _joined(results[port.name], port.frames or port.name in known)[:frames]
            for port in self.outputs
        }

    def _calls(self, x: ir.Feeds) -> list[dict[str, Array]]:
        """``x`` in parts of a batch each, the last one filled up with its last frame."""
        frames = count(x)
        starts = range(0, frames, self.batch)
        return [
            take(x, np.minimum(np.arange(start, start + self.batch), frames - 1))
            for start in starts
        ]

    # -- files -------------------------------------------------------------------------------------

    def write(self, directory: Path) -> None:
        """Write the parts that there are."""
        for part, name in ((self.head, HEAD), (self.tail, TAIL)):
            if part is not None:
                directory.joinpath(name).write_bytes(part.model.SerializeToString())

    def described(self) -> dict[str, Any]:
        """What ``compile.json`` keeps of it."""
        return {
            "inputs": [
                {
                    "name": port.name,
                    "shape": list(port.shape),
                    "dtype": port.dtype,
                    "batch": self.batch,
                }
                for port in self.inputs
            ],
            "outputs": [{"name": port.name, "frames": port.frames} for port in self.outputs],
        }

    @classmethod
    def open(cls, directory: Path, entry: Mapping[str, Any]) -> "Border":
        """What :meth:`write` left in ``directory``, and :meth:`described` in its summary.

        Raises DataError where that is damaged.
        """
        where = f"{directory / 'compile.json'}: host"
        ports = [taken(where, port, _PORT, DataError) for port in _rows(where, entry, "inputs")]
        outputs = [
            taken(where, port, _OUTPUT, DataError) for port in _rows(where, entry, "outputs")
        ]
        return cls(
            inputs=tuple(
                ir.InputPort(p["name"], tuple(p["shape"]), p["dtype"], "", np.zeros(0, np.int64))
                for p in ports
            ),
            outputs=tuple(Output(port["name"], port["frames"]) for port in outputs),
            head=_part(directory / HEAD),
            tail=_part(directory / TAIL),
            batch=max(port["batch"] for port in ports),
        )


def _rows(where: str, entry: Mapping[str, Any], key: str) -> Sequence[Any]:
    rows = entry.get(key)
    if not isinstance(rows, list) or not rows:
        raise DataError(f'{where}: lacks "{key}"; run `gatewright compile` again')
    return rows


def _part(path: Path) -> HostPart | None:
    if not path.exists():
        return None
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError, whose package has no types
        raise DataError(f"{path}: is damaged; run `gatewright compile` again") from error
    return HostPart.of(model)


def _joined(parts: Sequence[Array], frames: bool) -> Array:
    """The frames of several calls in one array."""
    if frames:
        return np.concatenate(parts)
    ranks = {part.ndim for part in parts}
    shape = tuple(np.max([part.shape for part in parts], axis=0)) if len(ranks) == 1 else ()
    whole = np.full((len(parts), *shape), nan if parts[0].dtype.kind == "f" else -1, parts[0].dtype)
    for place, part in zip(whole, parts, strict=True):
        place[tuple(slice(n) for n in part.shape)] = part
    return whole
