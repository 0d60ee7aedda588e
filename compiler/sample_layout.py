"""What is wrong with the shape of an array of samples, and what makes it right."""

from itertools import permutations
from math import prod

__all__ = ["layout_advice"]

Shape = tuple[int, ...]

#: arrays of more axes are not tried in every order
_AXES = 6
#: axes of an image on which the channels may be
_PLACES = ("first", "last")


def layout_advice(shape: Shape, taken: Shape, name: str) -> str:
    """What differs between an array of ``shape`` and [samples, *taken], and what to give instead.

    ``name`` is the array's; the Python expressions apply to it.
    """
    x = name if name.isidentifier() else "x"
    if not taken:
        return "the model takes one number a sample; give an array of one axis"
    if shape == taken:
        return f"this is one sample without the axis of samples; give {x}[None]"
    return (
        _permuted(shape, taken, x)
        or _without_channels(shape, taken, x)
        or _reshaped(shape, taken, x)
        or _one_sample(shape, taken, x)
        or _resized(shape, taken, x)
        or _counted(shape, taken)
    )


def _order(shape: Shape, taken: Shape) -> Shape | None:
    """The axes of ``shape`` that are ``taken``, in order; the first that fit."""
    if len(shape) > _AXES or sorted(shape) != sorted(taken):
        return None
    every = permutations(range(len(shape)))
    return next(order for order in every if tuple(shape[axis] for axis in order) == taken)


def _transpose(order: Shape, x: str) -> str:
    return f"{x}.transpose({', '.join(map(str, order))})"


def _named(order: Shape) -> str:
    """What differs between the axes of a sample and ``order``, those that the model takes."""
    rank = len(order)
    if rank > 2 and order == (rank - 1, *range(rank - 1)):
        return "the channels are on the last axis, the model takes them first"
    if rank > 2 and order == (*range(1, rank), 0):
        return "the channels are on the first axis of a sample, the model takes them last"
    return "the axes are in another order"


def _permuted(shape: Shape, taken: Shape, x: str) -> str | None:
    """The axes in another order, the samples on the first or on any other axis."""
    if len(shape) != len(taken) + 1:
        return None
    if order := _order(shape[1:], taken):
        whole = (0, *(axis + 1 for axis in order))
        return f"{_named(order)}; give {_transpose(whole, x)}"
    for axis in range(1, len(shape)):
        rest = [other for other in range(len(shape)) if other != axis]
        if order := _order(tuple(shape[other] for other in rest), taken):
            whole = (axis, *(rest[place] for place in order))
            return f"the samples are not on the first axis; give {_transpose(whole, x)}"
    return None


def _without_channels(shape: Shape, taken: Shape, x: str) -> str | None:
    """An axis of one is missing."""
    if len(shape) != len(taken):
        return None
    for axis, size in enumerate(taken):
        if size == 1 and taken[:axis] + taken[axis + 1 :] == shape[1:]:
            last = axis == len(taken) - 1
            index = "..., None" if last and axis else ", ".join([*[":"] * (axis + 1), "None"])
            return f"the channel axis of 1 is missing; give {x}[{index}]"
    return None


def _reshaped(shape: Shape, taken: Shape, x: str) -> str | None:
    """As many values a sample in other axes, or samples on several axes or on none."""
    values, size = prod(taken), prod(shape)
    give = f"{x}.reshape({', '.join(map(str, (-1, *taken)))})"
    if not size:
        return None
    if prod(shape[1:]) == values and len(shape) > 1:
        return (
            f"a sample has as many values in other axes; give {give} if they lie in the model's "
            "order"
        )
    if len(shape) > len(taken) and shape[-len(taken) :] == taken:
        return f"the samples are on {len(shape) - len(taken)} axes; give {give}"
    if len(shape) == 1 and size % values == 0 and size > values:
        return f"this is one row of {size // values} samples; give {give}"
    return None


def _one_sample(shape: Shape, taken: Shape, x: str) -> str | None:
    """A single sample in other axes."""
    if not shape or prod(shape) != prod(taken):
        return None
    if order := _order(shape, taken):
        return f"this is one sample, and {_named(order)}; give {_transpose(order, x)}[None]"
    give = f"{x}.reshape({', '.join(map(str, (1, *taken)))})"
    return f"this is one sample in other axes; give {give} if its values lie in the model's order"


def _resized(shape: Shape, taken: Shape, x: str) -> str | None:
    """Images of another size, or with another number of channels."""
    model = "first" if taken[0] <= taken[-1] else "last"
    if len(taken) == 3 and len(shape) == 3:  # grey images without an axis of channels
        first = model == "first"
        grey = (shape[0], 1, *shape[1:]) if first else (*shape, 1)
        return _resized(grey, taken, f"{x}[:, None]" if first else f"{x}[..., None]")
    if len(taken) != 3 or len(shape) != 4:
        return None
    needs, wanted = _divided(taken, model)
    given = next(
        (place for place in (model, *_PLACES) if _divided(shape[1:], place)[0] == needs), model
    )
    count, size = _divided(shape[1:], given)
    if count != needs:
        axis = 1 if given == "first" else 3
        return _recolored(count, needs, axis, x) if size == wanted else None
    turn = ""
    if given != model:
        order = "0, 3, 1, 2" if model == "first" else "0, 2, 3, 1"
        turn = f", and give {x}.transpose({order}): channels {model}"
    here, there = (" x ".join(map(str, each)) for each in (size, wanted))
    return f"the samples are {here}, the model takes {there}; resize them{turn}"


def _divided(image: Shape, channels: str) -> tuple[int, Shape]:
    """The channels of an image, on its first or last axis, and its height and width."""
    return (image[0], image[1:]) if channels == "first" else (image[2], image[:2])


def _recolored(count: int, needs: int, axis: int, x: str) -> str:
    channels = f"the samples have {count} channel{'s' * (count > 1)}, the model takes {needs}"
    if count == 1:
        return f"{channels}; give {x}.repeat({needs}, {axis}) for grey images in colour"
    if (count, needs) == (4, 3):
        index = ":, :3" if axis == 1 else "..., :3"
        return f"{channels}; give {x}[{index}] where the fourth is opacity"
    return f"{channels}; convert them" + (" to grey" if needs == 1 else "")


def _counted(shape: Shape, taken: Shape) -> str:
    values, needs = prod(shape[1:]), prod(taken)
    if len(shape) < 2 or values == needs:
        return "put the samples on the first axis"
    return (
        f"a sample has {values:,} values, the model takes {needs:,}; give samples as those that "
        "the model was trained on, on the first axis"
    )
