"""Rewrites of the graph, one a file, in the order they run after import."""

from .fold_affine import fold_affine
from .fold_pad import fold_pad
from .fuse_clamp import fuse_clamp

__all__ = ["FUSE", "fold_affine", "fold_pad", "fuse_clamp"]

FUSE = (fold_affine, fuse_clamp, fold_pad)
