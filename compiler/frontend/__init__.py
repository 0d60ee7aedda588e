"""From ONNX files to the graph, and back."""

from .importer import load
from .source import copy_model
from .writer import tensor_names, write_qdq

__all__ = ["copy_model", "load", "tensor_names", "write_qdq"]
