"""Gateware: streams, windows, systolic arrays and what stands around them. It knows nothing of
networks.
"""

from amaranth import Shape

from .accelerator import Accelerator, Border, Link
from .argmax import ArgMax, ArgMaxConfig
from .array import ArrayConfig
from .concat import Concat, ConcatConfig
from .cost import Resources, block_rams
from .delay import KEPT
from .eltwise import Add, AddConfig, Fork
from .fifo import Fifo, Queue, RegisterSlice
from .lookup import Lookup, LookupConfig
from .matmul import MatMul, MatMulConfig
from .pool import AveragePool, MaxPool, PoolConfig
from .primitives import Multiplier, MultiplierConfig, SoftMultiplier, block_of, packed_products
from .ram import Ram, RamConfig
from .reduce import ReduceConfig
from .replay import ReplayConfig
from .requantize import Requantize, RequantizeConfig, Rounding
from .rom import Rom
from .sliding import SlidingWindow
from .stage import FeedConfig, WindowStage
from .stream import Flow, beats, integer
from .systolic import SystolicArray
from .tiles import cover
from .width import WidthConfig, WidthConverter
from .window import WindowConfig

__all__ = [
    "KEPT",
    "Accelerator",
    "Add",
    "AddConfig",
    "ArgMax",
    "ArgMaxConfig",
    "ArrayConfig",
    "AveragePool",
    "Border",
    "Concat",
    "ConcatConfig",
    "FeedConfig",
    "Fifo",
    "Flow",
    "Fork",
    "Link",
    "Lookup",
    "LookupConfig",
    "MatMul",
    "MatMulConfig",
    "MaxPool",
    "Multiplier",
    "MultiplierConfig",
    "PoolConfig",
    "Queue",
    "Ram",
    "RamConfig",
    "ReduceConfig",
    "RegisterSlice",
    "ReplayConfig",
    "Requantize",
    "RequantizeConfig",
    "Resources",
    "Rom",
    "Rounding",
    "Shape",
    "SlidingWindow",
    "SoftMultiplier",
    "SystolicArray",
    "WidthConfig",
    "WidthConverter",
    "WindowConfig",
    "WindowStage",
    "beats",
    "block_of",
    "block_rams",
    "cover",
    "integer",
    "packed_products",
]
