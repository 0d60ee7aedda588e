"""From the float network to integers: calibration, the scheme, and proven requantizers."""

from .calibrate import Statistics, measure
from .float_model import evaluate, model_input
from .proofs.add import Adder, for_add
from .proofs.requantizer import (
    Requantizer,
    accumulator_type,
    average_counts,
    for_average_pool,
    for_conv,
    requantizer,
    taps_inside,
)
from .proofs.table import for_unary
from .scheme import WEIGHT_BITS, quantize

__all__ = [
    "WEIGHT_BITS",
    "Adder",
    "Requantizer",
    "Statistics",
    "accumulator_type",
    "average_counts",
    "evaluate",
    "for_add",
    "for_average_pool",
    "for_conv",
    "for_unary",
    "measure",
    "model_input",
    "quantize",
    "requantizer",
    "taps_inside",
]
