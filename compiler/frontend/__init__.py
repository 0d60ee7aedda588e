"""From ONNX files to the graph, and back."""

from .importer import load

__all__ = ["load"]
