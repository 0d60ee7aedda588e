"""Rounding margins are those that enumeration finds."""

import random
from fractions import Fraction

import pytest
from gatewright.compiler.quantize.proofs.margins import least_residue, of_line, of_sums


def margins(residues, modulus):
    """The definition: least distances to the tie below, unless it is one, and above; any tie?"""
    below = min((r for r in residues if r), default=modulus)
    return Fraction(below, modulus), Fraction(modulus - max(residues), modulus), 0 in residues


def found(result):
    return result.below, result.above, result.ties


@pytest.mark.parametrize("seed", range(20))
def test_the_least_residue_of_an_arithmetic_progression(seed):
    rng = random.Random(seed)
    for _ in range(300):
        modulus, count = rng.randint(1, 90), rng.randint(1, 60)
        step, start = rng.randint(-200, 200), rng.randint(-200, 200)
        wanted = min((step * i + start) % modulus for i in range(count))
        assert least_residue(step, start, modulus, count) == wanted, (step, start, modulus, count)


@pytest.mark.parametrize("seed", range(20))
def test_margins_of_a_line(seed):
    rng = random.Random(seed)
    for _ in range(100):
        modulus, count = rng.randint(2, 90), rng.randint(1, 60)
        step, start = rng.randint(-200, 200), rng.randint(-200, 200)
        residues = [(step * i + start) % modulus for i in range(count)]
        assert found(of_line(step, start, modulus, count)) == margins(residues, modulus)


@pytest.mark.parametrize("big", [1, 1 << 70], ids=["int64", "objects"])
@pytest.mark.parametrize("seed", range(10))
def test_margins_of_all_sums(seed, big):
    rng = random.Random(seed)
    for _ in range(100):
        modulus = rng.randint(2, 90) * big
        xs, ys = (
            [rng.randint(-200, 200) * big for _ in range(rng.randint(1, 7))] for _ in range(2)
        )
        residues = [(x + y) % modulus for x in xs for y in ys]
        assert found(of_sums(xs, ys, modulus)) == margins(residues, modulus), (xs, ys, modulus)
