"""Arrays for the inputs of a network, by the inputs' names."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from ..errors import DataError
from .ports import InputPort

__all__ = ["Feeds", "Ports", "count", "feeds", "take"]

#: an array for each input of a network, frames on the first axis
Feeds = Mapping[str, NDArray[Any]]


class Ports(Protocol):
    """What has inputs: a graph, or a model whose border is on the host."""

    @property
    def inputs(self) -> Sequence[InputPort]: ...


def feeds(graph: Ports, x: NDArray[Any] | Feeds) -> dict[str, NDArray[Any]]:
    """The array of every input: ``x`` is a mapping by name, or the array of a lone input.

    Raises DataError when an input lacks its array, when there is one too many, or when they do not
    hold one number of frames.
    """
    names = [port.name for port in graph.inputs]
    if not isinstance(x, Mapping):
        if len(names) != 1:
            raise DataError(
                f"the network has the inputs {', '.join(names)}, but one array was given; give one "
                "for each input, by its name"
            )
        return {names[0]: x}
    missing = [name for name in names if name not in x]
    extra = [name for name in x if name not in names]
    if missing or extra:
        problem = f"{missing[0]} has no array" if missing else f"{extra[0]} is no input"
        raise DataError(
            f"{problem}; give an array for each input of the network: {', '.join(names)}"
        )
    sizes = {name: len(x[name]) for name in names if x[name].ndim}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise DataError(f"{counts} samples; give every input the same number of them")
    return {name: x[name] for name in names}


def count(x: Feeds) -> int:
    """How many frames the arrays hold."""
    return min(len(array) for array in x.values())


def take(x: Feeds, which: Any) -> dict[str, NDArray[Any]]:
    """Some frames of every array: ``which`` is a slice or an array of their numbers."""
    return {name: array[which] for name, array in x.items()}
