"""Bits per tensor: the only place that says how wide the integers of a float network become."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import ir
from ..errors import QuantizeError

__all__ = ["ACTIVATION_BITS", "DEFAULT", "DEFAULT_BITS", "WEIGHT_BITS", "Policy"]

#: widths that activations and weights may have
ACTIVATION_BITS = range(1, 17)
WEIGHT_BITS = range(2, 17)
#: bits of every tensor that nobody chooses otherwise
DEFAULT_BITS = 8


@dataclass(frozen=True)
class Policy:
    """The width of every tensor of a network before it is quantized.

    ``activation_bits`` holds for all activations but sensitive ones, which have twice as many;
    ``weight_bits`` holds for all weights. ``activations`` overrides the first by the value's name,
    ``weights`` the second by the operator's name. Activations are signed; weights are symmetric, so
    that the most negative integer is not used. Raises QuantizeError for a width outside
    :data:`ACTIVATION_BITS` or :data:`WEIGHT_BITS`.
    """

    activation_bits: int = DEFAULT_BITS
    weight_bits: int = DEFAULT_BITS
    activations: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for bits in (self.activation_bits, *self.activations.values()):
            _check("activation", bits, ACTIVATION_BITS)
        for bits in (self.weight_bits, *self.weights.values()):
            _check("weight", bits, WEIGHT_BITS)

    def check(self, graph: ir.Graph) -> None:
        """Refuse names that the network does not have (QuantizeError)."""
        known = {op.name for op in graph if isinstance(op, ir.Conv)} | set(graph.values)
        for name in (*self.weights, *self.activations):
            if name not in known:
                raise QuantizeError(
                    f"bits are given for {name}, but the network has no operator with weights and "
                    f"no value of that name; it has {', '.join(sorted(known))}"
                )

    def activation(self, value: str, sensitive: bool = False) -> ir.Int:
        """The type of the value of that name; of a ``sensitive`` one twice as wide."""
        usual = self.activation_bits
        wide = max(usual, min(2 * usual, ACTIVATION_BITS[-1]))
        return ir.Int(self.activations.get(value, wide if sensitive else usual), True)

    def weight(self, operator: str) -> ir.Int:
        """The type of the weights of the operator of that name."""
        return ir.Int(self.weights.get(operator, self.weight_bits), True)


def _check(what: str, bits: int, legal: range) -> None:
    if bits not in legal:
        raise QuantizeError(
            f"{what}_bits={bits}: {what}s have {legal[0]} to {legal[-1]} bits; choose one of those"
        )


DEFAULT = Policy()
