"""Real numbers by bounds: arithmetic on intervals of rationals, as narrow as asked for.

A result of rational operations on exact numbers is exact. Others have ``bits`` significant bits.
Undefined and infinite results follow IEEE 754, with a zero that has no sign: ``1 / 0`` is infinite,
``0 / 0``, the logarithm and the root of a negative number are NaN. A magnitude beyond
``2 ** LARGEST`` counts as infinite, and one below ``2 ** -LARGEST`` as 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import ceil, floor, inf, isinf, isqrt, nan

__all__ = ["Interval", "LARGEST"]

#: a rational, an infinity or NaN
Extended = Fraction | float
Ends = tuple[Extended, Extended]

#: log2 of the largest number; that of float32 is 128
LARGEST = 20_000
#: bits of a numerator or denominator up to which rational results are kept exact
_EXACT = 1 << 12
#: exp of more overflows
_EXP = Fraction(14_000)


@dataclass(frozen=True, slots=True)
class Interval:
    """A real number, or an infinity, from ``low`` to ``high``; both are NaN where it is undefined.

    Comparisons give 0, 1, or the interval of both where the bounds do not decide.
    """

    low: Extended
    high: Extended
    bits: int

    @classmethod
    def of(cls, x: Extended | int, bits: int) -> "Interval":
        """An exact number."""
        number = x if isinstance(x, float) else Fraction(x)
        return cls(number, number, bits)

    def constant(self, x: Fraction | float | int) -> "Interval":
        """An exact number, for calculations with this one; a float stands for a rational."""
        return Interval.of(x if isinstance(x, float) and isinf(x) else Fraction(x), self.bits)

    @property
    def undefined(self) -> bool:
        return self.low != self.low

    @property
    def exact(self) -> bool:
        return self.low == self.high

    # Rational operations.

    def __neg__(self) -> "Interval":
        return Interval(-self.high, -self.low, self.bits)

    def __add__(self, other: "Interval") -> "Interval":
        if self.undefined or other.undefined:
            return self._none()
        low, high = _sum(self.low, other.low), _sum(self.high, other.high)
        if low != low or high != high:  # an infinity less an infinity
            return self._none() if self.exact and other.exact else self._anything()
        return self._bounded(low, high)

    def __sub__(self, other: "Interval") -> "Interval":
        return self + -other

    def __mul__(self, other: "Interval") -> "Interval":
        if self.undefined or other.undefined:
            return self._none()
        if self.exact and other.exact:
            product = _product(self.low, other.low)
            return self._bounded(product, product) if product == product else self._none()
        ends = [_product(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        if any(end != end for end in ends):
            return self._anything()
        return self._bounded(min(ends), max(ends))

    def __truediv__(self, other: "Interval") -> "Interval":
        return self * other._inverse()

    def _inverse(self) -> "Interval":
        if self.low > 0 or self.high < 0:
            return self._bounded(_inverse(self.high), _inverse(self.low))
        if self.undefined or self.low == self.high == 0:
            return Interval.of(nan if self.undefined else inf, self.bits)
        return self._anything()

    def __abs__(self) -> "Interval":
        return self.maximum(-self)

    def minimum(self, other: "Interval") -> "Interval":
        return -(-self).maximum(-other)

    def maximum(self, other: "Interval") -> "Interval":
        if self.undefined or other.undefined:
            return self._none()
        return Interval(max(self.low, other.low), max(self.high, other.high), self.bits)

    def limited(self, low: float, high: float) -> "Interval":
        """``min(max(x, low), high)``."""
        return self.maximum(self.constant(low)).minimum(self.constant(high))

    def floor(self) -> "Interval":
        if self.undefined:
            return self
        return Interval(_floor(self.low), _floor(self.high), self.bits)

    def __pow__(self, exponent: int) -> "Interval":
        """By an integer from 0 up."""
        result, square = self.constant(1), self
        if exponent % 2 == 0 and exponent and not self.undefined:
            square = abs(self)  # an even power is never negative
        while exponent:
            result = result * square if exponent % 2 else result
            exponent //= 2
            square = square * square if exponent else square
        return result

    # Comparisons.

    def greater(self, other: "Interval") -> "Interval":
        """``x > other``; never where one is undefined."""
        return self._decided(self.low > other.high, not self.high > other.low)

    def equal(self, other: "Interval") -> "Interval":
        same = self.exact and other.exact and self.low == other.low
        apart = self.high < other.low or self.low > other.high
        return self._decided(same, apart or self.undefined or other.undefined)

    def choose(self, yes: "Interval", no: "Interval") -> "Interval":
        """``yes`` where this one is not 0, else ``no``."""
        if self.low == self.high == 0:
            return no
        if not self.low <= 0 <= self.high:
            return yes
        if yes.undefined or no.undefined:
            return self._anything()
        return Interval(min(yes.low, no.low), max(yes.high, no.high), self.bits)

    # Functions.

    def exp(self) -> "Interval":
        """Exact for 0."""
        return self._rising(self._exp)

    def _exp(self, x: Extended) -> Ends:
        if not -_EXP <= x <= _EXP:
            return (inf, inf) if x > 0 else (Fraction(0), Fraction(0))
        if x == 0:
            return Fraction(1), Fraction(1)
        return self._of_decimal(Fraction(x), lambda d: d.exp())

    def ln(self) -> "Interval":
        """Exact for 1."""
        return self._rising(self._ln) if self.low >= 0 else self._outside()

    def _ln(self, x: Extended) -> Ends:
        if x == 0:
            return -inf, -inf
        if isinstance(x, float) or x == 1:
            return (x, x) if isinstance(x, float) else (Fraction(0), Fraction(0))
        near = max(0, -_log2(x - 1))  # as a decimal, x must keep the digits of x - 1
        return self._of_decimal(x, lambda d: d.ln(), near)

    def sqrt(self) -> "Interval":
        """Exact for squares of rationals."""
        return self._rising(self._sqrt) if self.low >= 0 else self._outside()

    def _sqrt(self, x: Extended) -> Ends:
        if isinstance(x, float):
            return x, x
        root = _exact_root(x)
        if root is not None:
            return root, root
        shift = self.bits + max(0, -_log2(x))
        below = isqrt((x.numerator << 2 * shift) // x.denominator)
        return Fraction(below, 1 << shift), Fraction(below + 1, 1 << shift)

    def power(self, exponent: Fraction) -> "Interval":
        """``x ** exponent``, of which the denominator is a power of two; exact where rational."""
        if exponent < 0:
            return self.constant(1) / self.power(-exponent)
        if exponent.denominator == 1 and exponent < LARGEST:
            return self ** int(exponent)
        if not self.low >= 0:
            return self._outside()
        root: Fraction | None = None
        if self.exact and not isinstance(self.low, float):
            root, squares = self.low, exponent.denominator
            while root is not None and squares > 1:
                root, squares = _exact_root(root), squares // 2
        if root in (0, 1) or (root is not None and exponent.numerator < LARGEST):
            return Interval.of(root, self.bits) ** exponent.numerator
        return (self.ln() * self.constant(exponent)).exp()

    def erf(self) -> "Interval":
        """Exact for 0; from 20 on it stands still, 1e-175 from 1."""
        return self.limited(-20, 20)._rising(self._erf)

    def _erf(self, x: Extended) -> Ends:
        """``2 / sqrt(pi) * exp(-x^2) * sum of (2 x^2)^n x / (1 * 3 * ... (2n + 1))``."""
        if isinstance(x, float) or x == 0:
            return x, x
        shift = self.bits + 40 + max(0, -_log2(x))
        square = _fixed(2 * x * x, shift)
        term = total = _fixed(abs(x), shift)
        odd = 1
        while term:
            odd += 2
            term = (term * square >> shift) // odd
            total += term
        error = (4 * odd + 16) * (4 + (total >> shift))
        series = Interval(
            Fraction(total - error, 1 << shift), Fraction(total + error, 1 << shift), self.bits
        )
        bell = Interval.of(-x * x, self.bits).exp()
        value = series * bell * self.constant(2) / self.pi().sqrt()
        signed = value if x > 0 else -value
        return signed._ends

    def sin(self) -> "Interval":
        """Exact for 0."""
        return self._circular(_sin)

    def cos(self) -> "Interval":
        """Exact for 0."""
        return self._circular(_cos)

    def _circular(self, function: Callable[[Fraction, int], Ends]) -> "Interval":
        """No result is farther from that of the middle than half the width."""
        if self.undefined or (self.exact and isinstance(self.low, float)):
            return self._none()
        if isinstance(self.low, float) or isinstance(self.high, float):
            return self.constant(0).maximum(self._anything()).limited(-1, 1)
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        low, high = function(middle, self.bits)
        return self._bounded(low - half, high + half).limited(-1, 1)

    def atan(self) -> "Interval":
        """Exact for 0."""
        return self._rising(self._atan)

    def _atan(self, x: Extended) -> Ends:
        if isinstance(x, float):
            half = self.pi() / self.constant(2)
            return half._ends if x > 0 else (-half)._ends
        return _atan(x, self.bits)

    def monotone(self, function: Callable[["Interval"], "Interval"]) -> "Interval":
        """A function that never falls, of exact numbers, at both ends."""
        if self.exact or self.undefined:
            return function(self)
        low, high = (function(Interval.of(x, self.bits)) for x in self._ends)
        if low.undefined or high.undefined:
            return self._anything()
        return Interval(low.low, high.high, self.bits)

    def pi(self) -> "Interval":
        """Pi, for calculations with this one."""
        shift = -(-(self.bits + 8) // 64) * 64
        below = _pi(shift)
        return Interval(Fraction(below, 1 << shift), Fraction(below + 1, 1 << shift), self.bits)

    # Helpers.

    @property
    def _ends(self) -> Ends:
        return self.low, self.high

    def _none(self) -> "Interval":
        return Interval(nan, nan, self.bits)

    def _anything(self) -> "Interval":
        return Interval(-inf, inf, self.bits)

    def _decided(self, yes: bool, no: bool) -> "Interval":
        return Interval(Fraction(yes), Fraction(not no), self.bits)

    def _rising(self, function: Callable[[Extended], Ends]) -> "Interval":
        """A monotone function, given by bounds at a number."""
        if self.undefined:
            return self
        low = function(self.low)
        return self._bounded(low[0], low[1] if self.exact else function(self.high)[1])

    def _outside(self) -> "Interval":
        """A function of numbers from 0 up, where not all are."""
        return self._none() if self.undefined or self.high < 0 else self._anything()

    def _of_decimal(
        self, x: Fraction, function: Callable[[Decimal], Decimal], bits: int = 0
    ) -> Ends:
        """Bounds of a smooth function, whose relative error is at most 1e6 times that of ``x``."""
        digits = ceil((self.bits + bits) * 0.30103) + 12
        with localcontext() as context:
            context.prec = digits
            value = function(Decimal(x.numerator) / Decimal(x.denominator))
            shift = self.bits + 16 - ceil((value.adjusted() + 1) * 3.33)
            unit = max(0, shift)
            units = int(value * (1 << unit))
        # the decimal is off by 1e-8 units, and the integer is cut off
        error = 1 + (abs(units) >> (self.bits + 8) if shift < 0 else 0)
        return Fraction(units - error, 1 << unit), Fraction(units + error, 1 << unit)

    def _bounded(self, low: Extended, high: Extended) -> "Interval":
        """The interval, rounded outwards where it is not exact."""
        if low == high:
            end = self._held(low)
            return Interval(end, end, self.bits)
        return Interval(
            _outwards(low, self.bits, floor), _outwards(high, self.bits, ceil), self.bits
        )

    def _held(self, x: Extended) -> Extended:
        """An exact result: as it is, unless it is too large, too small, or has too many digits."""
        if isinstance(x, float) or x.numerator.bit_length() + x.denominator.bit_length() < LARGEST:
            return x
        size = _log2(x)
        if size >= LARGEST:
            return inf if x > 0 else -inf
        if size < -LARGEST:
            return Fraction(0)
        many = max(x.numerator.bit_length(), x.denominator.bit_length()) > _EXACT
        return _outwards(x, _EXACT // 2, floor) if many else x


def _sum(a: Extended, b: Extended) -> Extended:
    if isinstance(a, float):  # a large rational has no float
        return a + b if isinstance(b, float) else a
    return b if isinstance(b, float) else a + b


def _product(a: Extended, b: Extended) -> Extended:
    if isinstance(a, float) or isinstance(b, float):
        return nan if a == 0 or b == 0 or a != a or b != b else inf if (a > 0) == (b > 0) else -inf
    return a * b


def _floor(x: Extended) -> Extended:
    return x if isinstance(x, float) else Fraction(floor(x))


def _inverse(x: Extended) -> Fraction:
    return Fraction(0) if isinstance(x, float) else 1 / x


def _log2(x: Fraction) -> int:
    """The binary logarithm, off by less than one; x is not 0."""
    return x.numerator.bit_length() - x.denominator.bit_length()


def _outwards(x: Extended, bits: int, towards: Callable[[Fraction], int]) -> Extended:
    """``x`` with ``bits`` significant bits, an infinity or 0 beyond the largest and the least."""
    if isinstance(x, float) or x == 0:
        return x
    size = _log2(x)
    if size >= LARGEST:
        return inf if x > 0 else -inf
    if size < -LARGEST:
        return Fraction(0)
    if x.numerator.bit_length() <= bits and x.denominator.bit_length() <= bits:
        return x
    shift = bits - size
    if shift >= 0:
        numerator, denominator = x.numerator << shift, x.denominator
    else:
        numerator, denominator = x.numerator, x.denominator << -shift
    whole = numerator // denominator if towards is floor else -(-numerator // denominator)
    return Fraction(whole, 1 << shift) if shift >= 0 else Fraction(whole << -shift)


def _exact_root(x: Fraction) -> Fraction | None:
    top, bottom = isqrt(x.numerator), isqrt(x.denominator)
    exact = top * top == x.numerator and bottom * bottom == x.denominator
    return Fraction(top, bottom) if exact else None


def _fixed(x: Fraction, shift: int) -> int:
    """``x`` in units of ``2 ** -shift``, rounded down."""
    return (x.numerator << shift) // x.denominator


@cache
def _pi(shift: int) -> int:
    """``floor(pi * 2**shift)``, by Machin's ``16 atan(1/5) - 4 atan(1/239)``."""
    spare = shift + 32

    def atan_of_inverse(n: int) -> int:
        term = total = (1 << spare) // n
        odd, sign = 1, -1
        while term:
            term //= n * n
            odd += 2
            total += sign * (term // odd)
            sign = -sign
        return total

    return (16 * atan_of_inverse(5) - 4 * atan_of_inverse(239)) >> 32


def _angle(x: Fraction, shift: int) -> int:
    """``x`` less a multiple of 2 pi, from -pi to pi, in units of ``2 ** -shift``; off by two."""
    more = -(-(shift + max(0, _log2(x)) + 8) // 64) * 64
    turn = 2 * _pi(more)
    angle = (_fixed(x, more) + turn // 2) % turn - turn // 2
    return angle >> (more - shift)


def _sin(x: Fraction, bits: int) -> Ends:
    if x == 0:
        return x, x
    shift = bits + 32 + max(0, -_log2(x))
    angle = _angle(x, shift)
    return _series(angle, angle, 1, shift)


def _cos(x: Fraction, bits: int) -> Ends:
    if x == 0:
        return Fraction(1), Fraction(1)
    shift = bits + 32
    return _series(1 << shift, _angle(x, shift), 0, shift)


def _series(first: int, angle: int, power: int, shift: int) -> Ends:
    """The series of sine or cosine from its ``first`` term, of that ``power``, on."""
    square, term, total, count = angle * angle >> shift, first, first, 0
    while term:
        power += 2
        count += 1
        term = -(term * square >> shift) // (power * (power - 1))
        total += term
    error = 64 * (count + 4)
    return Fraction(total - error, 1 << shift), Fraction(total + error, 1 << shift)


def _atan(x: Fraction, bits: int) -> Ends:
    """The angle is halved eight times, then the series."""
    if x == 0:
        return x, x
    shift = bits + 64 + max(0, -_log2(x))
    if abs(x) > 1:
        low, high = _atan(1 / abs(x), bits)
        half = Fraction(_pi(-(-shift // 64) * 64), 2 << (-(-shift // 64) * 64))
        low, high = half - high, half - low + Fraction(1, 1 << shift)
        return (low, high) if x > 0 else (-high, -low)
    value, one = _fixed(abs(x), shift), 1 << shift
    for _ in range(8):
        value = (value << shift) // (one + isqrt((one << shift) + value * value))
    term, total, odd = value, value, 1
    square = value * value >> shift
    while term:
        term = term * square >> shift
        odd += 2
        total += term // odd if odd % 4 == 1 else -(term // odd)
    error = odd + 64
    low, high = Fraction((total - error) << 8, one), Fraction((total + error) << 8, one)
    return (low, high) if x > 0 else (-high, -low)
