"""From ONNX files to the graph, and back."""

from .importer import load
from .source import copy_model
from .survey import Survey, Verdict, survey
from .writer import tensor_names, write_qdq

__all__ = [
    "Survey",
    "Verdict",
    "copy_model",
    "load",
    "survey",
    "tensor_names",
    "write_qdq",
]
