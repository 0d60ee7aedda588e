"""All operators and functions of the intermediate representation, found by their classes; and what
the tests that walk them share.
"""

from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Literal, get_args, get_origin

import pytest
from gatewright.compiler import ir

__all__ = [
    "FUNCTIONS",
    "OPERATORS",
    "PAIRS",
    "VARIANTS",
    "blamed",
    "class_of",
    "every",
    "file_of",
    "functions",
    "leaves",
    "name",
    "operators",
]

#: what stands in for the numbers among a function's parameters
NUMBERS = (-1.5, 0.0, 0.375, 3.0)


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


def _variants(function):
    """A function with other parameters, as far as it accepts them."""
    numbers = [f.name for f in fields(function) if isinstance(getattr(function, f.name), float)]
    changes = [
        {each: number / (1 << place) for place, each in enumerate(numbers)} for number in NUMBERS
    ]
    choices = [f for f in fields(function) if get_origin(f.type) is Literal]
    changes += [{f.name: choice} for f in choices for choice in get_args(f.type)]
    for change in filter(None, changes):
        try:
            other = replace(function, **change)
        except ValueError:
            continue
        if other != function:
            yield other


OPERATORS, FUNCTIONS = operators(), functions()
#: functions with other parameters
VARIANTS = tuple(each for function in FUNCTIONS for each in _variants(function))
#: operators of two activations, element by element
PAIRS = [kind for kind in OPERATORS if issubclass(kind, ir.Elementwise) and kind.arity == 2]


def class_of(subject):
    """Of an operator, which is a class, or of a function."""
    return subject if isinstance(subject, type) else type(subject)


def name(subject):
    """Of an operator, of a function, or of a function with its parameters."""
    return str(subject) if subject in VARIANTS else class_of(subject).__name__


def file_of(kind):
    """Where a class is written."""
    return kind.__module__.removeprefix("gatewright.").replace(".", "/") + ".py"


def every(*groups):
    """A test of each operator or function."""
    return pytest.mark.parametrize("subject", [one for group in groups for one in group], ids=name)


@contextmanager
def blamed(piece, *errors):
    """An error of these kinds is that of the piece."""
    try:
        yield
    except errors as error:
        pytest.fail(f"{piece}: {error}")
