"""From ONNX files to the graph, and back."""

from .border import Border
from .cut import Cut, divide
from .dialects.qonnx import in_qonnx
from .importer import load
from .source import copy_model
from .survey import Survey, Verdict, survey
from .writer import tensor_names, write_qdq

__all__ = [
    "Border",
    "Cut",
    "Survey",
    "Verdict",
    "copy_model",
    "divide",
    "in_qonnx",
    "load",
    "survey",
    "tensor_names",
    "write_qdq",
]
