"""Rewrites of the graph, one a file, and the order in which they run."""

from .manager import run
from .pipeline import BEFORE_PLAN, ON_READ

__all__ = ["BEFORE_PLAN", "ON_READ", "run"]
