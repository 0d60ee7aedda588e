"""Gateware: streams, windows, systolic arrays and what stands around them. It knows nothing of
networks.
"""

from amaranth import Shape
from amaranth.lib.wiring import Component

from .accelerator import Accelerator, AxiStreamConfig, Connection, port_prefixes
from .arithmetic.add import Add, AddConfig
from .arithmetic.argmax import ArgMax, ArgMaxConfig
from .arithmetic.dot_product import WeightCode
from .arithmetic.global_pool import GlobalPool, GlobalPoolConfig
from .arithmetic.lookup import Lookup, LookupConfig
from .arithmetic.minimal_filtering import LEAST_APART, MinimalFiltering
from .arithmetic.packed_multiplier import packed_products
from .arithmetic.piecewise import Piecewise, PiecewiseConfig
from .arithmetic.reduce import ReduceConfig
from .arithmetic.requantize import MULT_BITS, Requantize, RequantizeConfig, Rounding, Timing
from .arithmetic.rescale import Rescale, RescaleConfig
from .arithmetic.soft_multiplier import SoftMultiplier, SoftMultiplierConfig
from .array.config import ArrayConfig
from .array.matmul import MatMul, MatMulConfig, output_transform, results
from .array.systolic import SystolicArray
from .control.delay import KEEP
from .memory.ram import Ram, RamConfig
from .memory.rom import Rom
from .memory.tiles import cover
from .stream.concat import Concat, ConcatConfig
from .stream.fifo import Fifo, Queue
from .stream.fork import Fork
from .stream.gather import Gather
from .stream.gather_config import GatherConfig
from .stream.register_slice import RegisterSlice
from .stream.signature import PushStream, beats, integer
from .stream.state import State, StateConfig
from .stream.width import WidthConfig, WidthConverter
from .target import ECP5, GENERIC, ICE40, Device, Target
from .target.dsp import Multiplier, MultiplierConfig
from .target.resources import Resources
from .window.config import WindowConfig
from .window.pool import AveragePool, MaxPool, PoolConfig
from .window.reuse_buffer import ReuseBufferConfig
from .window.sliding_window import SlidingWindow
from .window.stage import FeedConfig, TileFeedConfig, WindowStage
from .window.tile_queue import TileQueueConfig

__all__ = [
    "ECP5",
    "GENERIC",
    "ICE40",
    "KEEP",
    "Device",
    "Target",
    "LEAST_APART",
    "MULT_BITS",
    "Accelerator",
    "Add",
    "AddConfig",
    "ArgMax",
    "ArgMaxConfig",
    "ArrayConfig",
    "AveragePool",
    "AxiStreamConfig",
    "port_prefixes",
    "Component",
    "Concat",
    "ConcatConfig",
    "FeedConfig",
    "Fifo",
    "PushStream",
    "Fork",
    "Gather",
    "GlobalPool",
    "GlobalPoolConfig",
    "GatherConfig",
    "Connection",
    "Lookup",
    "LookupConfig",
    "MatMul",
    "MatMulConfig",
    "MaxPool",
    "MinimalFiltering",
    "Multiplier",
    "MultiplierConfig",
    "Piecewise",
    "PiecewiseConfig",
    "PoolConfig",
    "Queue",
    "Ram",
    "RamConfig",
    "ReduceConfig",
    "RegisterSlice",
    "ReuseBufferConfig",
    "Requantize",
    "RequantizeConfig",
    "Rescale",
    "RescaleConfig",
    "Resources",
    "Rom",
    "Rounding",
    "Shape",
    "SlidingWindow",
    "SoftMultiplier",
    "SoftMultiplierConfig",
    "State",
    "StateConfig",
    "SystolicArray",
    "TileFeedConfig",
    "TileQueueConfig",
    "Timing",
    "WeightCode",
    "WidthConfig",
    "WidthConverter",
    "WindowConfig",
    "WindowStage",
    "beats",
    "cover",
    "integer",
    "output_transform",
    "packed_products",
    "results",
]
