"""From ONNX files to the graph, and back."""

from .importer import load
from .writer import tensor_names, write_qdq

__all__ = ["load", "tensor_names", "write_qdq"]
