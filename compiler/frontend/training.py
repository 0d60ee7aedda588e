"""Nodes in training mode: what they compute is random, or depends on the other frames."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from ..errors import TrainingModeError
from .source import Node, Source, constants_of

__all__ = ["normalizes_by_batch", "refusals", "training_error"]


def training_error(node: Node) -> TrainingModeError:
    """The error for a node in training mode."""
    return TrainingModeError(
        f"{node}: is in training mode; accepted: inference; export the model in evaluation mode: "
        "model.eval() before torch.onnx.export"
    )


def refusals(source: Source) -> dict[str, TrainingModeError]:
    """An error for each node in training mode, by its first output, wherever the node stands."""
    options = {name for node in source.nodes if node.op == "Dropout" for name in node.inputs[1:]}
    nodes = tuple(node for node in source.nodes if options.intersection(node.outputs))
    constants = constants_of(replace(source, nodes=nodes))
    return {
        node.key: training_error(node)
        for node in source.nodes
        if (node.op == "Dropout" and _drops(node, constants))
        or (node.op == "BatchNormalization" and normalizes_by_batch(node))
    }


def normalizes_by_batch(node: Node) -> bool:
    """Whether a BatchNormalization computes its statistics: then it gives them as well."""
    return bool(node.get("training_mode", 0)) or sum(map(bool, node.outputs)) > 1


def _drops(node: Node, constants: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a Dropout drops elements: ``training_mode`` is constant and true, and the ratio is
    not 0.
    """
    absent = [""] * 3
    _, ratio, training = [*node.inputs, *absent][:3]
    if training not in constants or not constants[training].any():
        return False
    return ratio not in constants or bool(constants[ratio].any())
