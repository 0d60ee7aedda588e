"""All operators and functions of the intermediate representation, found by their classes."""

from gatewright.compiler import ir

__all__ = ["functions", "leaves", "operators"]


def leaves(kind):
    """The classes below ``kind`` that have no subclasses of their own, in the package."""
    below = [each for each in kind.__subclasses__() if each.__module__.startswith("gatewright.")]
    return list(dict.fromkeys(leaf for each in below for leaf in (leaves(each) or [each])))


def operators(kind=ir.Op):
    """Every operator below ``kind``, as a class."""
    return leaves(kind)


def functions():
    """Every function of one variable, with its default parameters."""
    return tuple(kind() for kind in leaves(ir.Function))
