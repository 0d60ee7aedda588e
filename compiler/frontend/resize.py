"""Resize and Upsample to the nearest element: which element each output is."""

from collections.abc import Sequence
from math import floor, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from .. import limits
from ..errors import ModelError
from .source import Node

__all__ = ["factors_of", "interpolates", "modes_of", "nearest"]

#: the opset by whose rules indices are computed
_OPSET = 19
#: Resize of opset 10 and Upsample: what later ones call these modes
_OLD = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
_MODES = {
    "coordinate_transformation_mode": (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    ),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
}


def interpolates(node: Node) -> bool:
    """Whether the node computes new values."""
    return node.op in ("Resize", "Upsample") and node.get("mode", "nearest") != "nearest"


def nearest(
    node: Node, order: NDArray[np.int64], operands: Sequence[NDArray[Any] | None]
) -> NDArray[np.int64]:
    """The labels after the node; -1 outside the region that it crops.

    The axes are resized one by one, each by ONNX's reference.
    """
    mode = node.get("mode", "nearest")
    if mode != "nearest":
        raise ModelError(f"{node}: its mode is {mode}; accepted: nearest")
    modes = modes_of(node)
    factors = factors_of(node, order.shape, operands)
    if prod(max(1, size) for size, _ in factors) > limits.MAP_ELEMENTS:
        raise ModelError(
            f"{node}: resizes to {[size for size, _ in factors]}; accepted: at most "
            f"{limits.MAP_ELEMENTS} elements; use a smaller input"
        )
    rois = _regions(node, order.ndim, operands)
    for axis, ((size, scale), roi) in enumerate(zip(factors, rois, strict=True)):
        if size == order.shape[axis] and (scale in (None, 1.0)) and roi is None:
            continue
        index = _indices(node, order.shape[axis], size, scale, roi, modes)
        order = np.where(
            (index < 0).reshape([-1 if n == axis else 1 for n in range(order.ndim)]),
            -1,
            np.take(order, np.maximum(index, 0), axis),
        )
    return order


def modes_of(node: Node) -> dict[str, str]:
    old = node.op == "Upsample" or node.opset < 11
    found = {}
    for name, known in _MODES.items():
        found[name] = _OLD[name] if old else node.get(name, known[0])
        if found[name] not in known:
            raise ModelError(
                f"{node}: {name} is {found[name]!r}; accepted: {', '.join(known)}; check the model "
                "with onnx.checker"
            )
    return found


def factors_of(
    node: Node, shape: tuple[int, ...], operands: Sequence[NDArray[Any] | None]
) -> list[tuple[int, float | None]]:
    """The size of each axis, and its scale where that is given instead."""
    old = node.op == "Upsample" or node.opset < 11
    listed = [*operands, None, None, None]
    scales, sizes = (listed[0], None) if old else (listed[1], listed[2])
    if "scales" in node.attributes:
        scales = np.array(node.get("scales", ()), np.float32)
    axes = [axis % len(shape) for axis in node.get("axes", tuple(range(len(shape))))]
    scales, sizes = (None if a is None or not a.size else a for a in (scales, sizes))
    given = scales if sizes is None else sizes
    if given is None or given.size != len(axes) or not (given > 0).all():
        raise ModelError(
            f"{node}: resizes {len(axes)} axes by {None if given is None else given.tolist()}; "
            "accepted: one constant scale, or one size, above 0 for each axis"
        )
    found: list[tuple[int, float | None]] = [(size, None) for size in shape]
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if sizes is not None and policy != "stretch":
        choose = min if policy == "not_larger" else max
        scale = choose(float(n) / shape[axis] for n, axis in zip(sizes, axes, strict=True))
        sizes = np.array([floor(scale * shape[axis] + 0.5) for axis in axes])
    for axis, number in zip(axes, (given if sizes is None else sizes).tolist(), strict=True):
        if sizes is None:
            found[axis] = (
                min(floor(np.float32(shape[axis]) * np.float32(number)), limits.MAP_ELEMENTS + 1),
                number,
            )
        else:
            found[axis] = (int(number), None)
    return found


def _regions(
    node: Node, rank: int, operands: Sequence[NDArray[Any] | None]
) -> list[tuple[float, float] | None]:
    """The region of interest along each axis, where the node crops."""
    if node.get("coordinate_transformation_mode", "") != "tf_crop_and_resize":
        return [None] * rank
    roi = operands[0] if operands else None
    axes = [axis % rank for axis in node.get("axes", tuple(range(rank)))]
    if roi is None or roi.size != 2 * len(axes):
        raise ModelError(f"{node}: crops without a region; accepted: a constant roi of each axis")
    found: list[tuple[float, float] | None] = [None] * rank
    for n, axis in enumerate(axes):
        start, end = float(roi[n]), float(roi[n + len(axes)])
        found[axis] = None if (start, end) == (0.0, 1.0) else (start, end)
    return found


def _indices(
    node: Node,
    before: int,
    after: int,
    scale: float | None,
    roi: tuple[float, float] | None,
    modes: dict[str, str],
) -> NDArray[np.int64]:
    """The index of each element along an axis of ``before`` elements; -1: none."""
    if after < 1:
        raise ModelError(f"{node}: resizes an axis to {after}; accepted: at least 1")
    feeds: dict[str, NDArray[Any]] = {"x": np.arange(before).astype(np.float64)}
    names = ["x", "", "", ""]
    if modes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        names[1], feeds["roi"] = "roi", np.array(roi or (0.0, 1.0), np.float32)
    if scale is None:
        names[3], feeds["sizes"] = "sizes", np.array([after], np.int64)
    else:
        names[2], feeds["scales"] = "scales", np.array([scale], np.float32)
    resize = helper.make_node(
        "Resize", names, ["y"], mode="nearest", extrapolation_value=-1.0, **modes
    )
    inputs, outputs = (
        [helper.make_tensor_value_info(name, 1, None) for name in group] for group in (feeds, ["y"])
    )
    model = helper.make_model(
        helper.make_graph([resize], "axis", inputs, outputs),
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    (found,) = ReferenceEvaluator(model).run(None, feeds)
    index: NDArray[np.int64] = np.rint(np.asarray(found)).astype(np.int64)
    return index
