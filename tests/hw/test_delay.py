"""Delayed signals are named after the signal and the number of cycles."""

from amaranth import Cat, Module, Signal
from gatewright.hw.control.delay import delay, delay_flags, delays, duplicate

X = Signal(4, name="x")


def name(value):
    return value.name


def test_each_register_says_how_late_it_is():
    assert name(delay(Module(), X, 1)) == "x_d1"
    assert name(delay_flags(Module(), X, 3)) == "x_d3"
    assert [name(tap) for tap in delays(Module(), X, 3)] == ["x", "x_d1", "x_d2", "x_d3"]


def test_cycles_add_up():
    m = Module()
    assert name(delay_flags(m, delay(m, X, 2), 3)) == "x_d5"
    assert name(delay(m, duplicate(m, X), 1)) == "x_d2"


def test_a_duplicate_is_a_copy_of_the_next_register():
    m = Module()
    assert name(duplicate(m, X)) == "x_d1_copy"
    assert name(duplicate(m, delay(m, X, 2))) == "x_d3_copy"
    assert name(duplicate(m, duplicate(m, X))) == "x_d2_copy"


def test_a_part_is_named_after_the_whole():
    assert name(delay(Module(), X[1:3], 2)) == "x_d2"


def test_an_expression_has_a_name_of_its_own_or_none():
    m = Module()
    assert name(delay(m, Cat(X, X), 2, name="pair")) == "pair_d2"
    assert [name(tap) for tap in delays(m, X + 1, 2, name="next")[1:]] == ["next_d1", "next_d2"]
    assert name(delay(m, X + 1, 2)) == "value_d2"


def test_a_register_is_found_where_it_is_asked_for():
    file, _ = delay(Module(), X, 1).src_loc
    assert file == __file__
