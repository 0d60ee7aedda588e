"""From the float network to integers: calibration, the scheme, and proven requantizers."""

from .calibrate import Statistics, measure
from .equalize import Equalized, equalized
from .float_model import apply, evaluate, model_input
from .policy import ACTIVATION_BITS, DEFAULT_BITS, WEIGHT_BITS, Policy
from .proofs.add import Adder, for_add
from .proofs.requantizer import (
    Requantizer,
    accumulator_type,
    average_counts,
    for_average_pool,
    for_conv,
    for_identity,
    requantizer,
    taps_inside,
)
from .proofs.table import for_unary
from .rounding import Rounding
from .scheme import quantize

__all__ = [
    "ACTIVATION_BITS",
    "DEFAULT_BITS",
    "Equalized",
    "WEIGHT_BITS",
    "Adder",
    "Policy",
    "Requantizer",
    "Rounding",
    "Statistics",
    "accumulator_type",
    "average_counts",
    "apply",
    "equalized",
    "evaluate",
    "for_add",
    "for_average_pool",
    "for_conv",
    "for_identity",
    "for_unary",
    "measure",
    "model_input",
    "quantize",
    "requantizer",
    "taps_inside",
]
