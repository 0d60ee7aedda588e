"""From the float network to integers: calibration, the scheme, and proven requantizers."""

from .adder import Adder, for_add
from .calibrate import Statistics, measure
from .float_model import evaluate, model_input
from .requantize import (
    Requantizer,
    accumulator_type,
    average_counts,
    for_average_pool,
    for_conv,
    requantizer,
    taps_inside,
)
from .scheme import WEIGHT_BITS, quantize
from .table import for_unary

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
