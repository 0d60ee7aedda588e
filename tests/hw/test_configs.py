"""Every configuration of the gateware refuses illegal parameters, says which and what is legal."""

import importlib
import pkgutil
from dataclasses import is_dataclass, replace

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright import hw
from gatewright.boards.link.protocol import LinkConfig, LinkPort
from gatewright.hw.accelerator import AxiStreamConfig
from gatewright.hw.arithmetic.add import AddConfig
from gatewright.hw.arithmetic.argmax import ArgMaxConfig
from gatewright.hw.arithmetic.dot_product import DotProductConfig, WeightCode
from gatewright.hw.arithmetic.extremum import ExtremumConfig
from gatewright.hw.arithmetic.global_pool import GlobalPoolConfig
from gatewright.hw.arithmetic.lookup import LookupConfig
from gatewright.hw.arithmetic.minimal_filtering import MinimalFiltering, OutputTransformConfig
from gatewright.hw.arithmetic.multiply import MultiplyConfig
from gatewright.hw.arithmetic.packed_multiplier import PackedConfig
from gatewright.hw.arithmetic.piecewise import PiecewiseConfig
from gatewright.hw.arithmetic.prelu import PReluConfig
from gatewright.hw.arithmetic.reduce import ReduceConfig
from gatewright.hw.arithmetic.requantize import RequantizeConfig, Rounding
from gatewright.hw.arithmetic.rescale import RescaleConfig
from gatewright.hw.arithmetic.soft_multiplier import SoftMultiplierConfig
from gatewright.hw.array.config import ArrayConfig
from gatewright.hw.array.matmul import MatMulConfig
from gatewright.hw.array.stream_matmul import StreamMatMulConfig
from gatewright.hw.memory.block_buffer import BlockBufferConfig
from gatewright.hw.memory.ram import RamConfig
from gatewright.hw.stream.concat import ConcatConfig
from gatewright.hw.stream.gather_config import GatherConfig
from gatewright.hw.stream.state import StateConfig
from gatewright.hw.stream.width import Narrow, Widen, WidthConfig
from gatewright.hw.target import GENERIC
from gatewright.hw.target.dsp import MultiplierConfig
from gatewright.hw.window.config import WindowConfig
from gatewright.hw.window.pool import PoolConfig
from gatewright.hw.window.reuse_buffer import ReuseBufferConfig
from gatewright.hw.window.stage import FeedConfig, TileFeedConfig
from gatewright.hw.window.tile_buffer import TileBufferConfig
from gatewright.hw.window.tile_queue import TileQueueConfig

INT8 = signed(8)
ROUNDING = Rounding(4, 2, -128, 127)
ROWS, SQUARE = MinimalFiltering(1), MinimalFiltering(2)
WINDOW = WindowConfig(
    height=6,
    width=5,
    channels=4,
    element=INT8,
    chunk=2,
    kernel=(3, 3),
    stride=(1, 1),
    dilation=(1, 1),
    pads=(0, 0, 0, 0),
    fill=0,
    target=GENERIC,
)
FEED = FeedConfig(WINDOW, width=2)
TILES = replace(WINDOW, width=6, kernel=(3, 4), stride=(1, 2))
POOL_FEED = FeedConfig(replace(WINDOW, groups=2), width=1, word=2)
ARRAY = ArrayConfig(
    simd=2, pe=2, folds=18, depth=18, lanes=1, x=INT8, w=INT8, acc=signed(24), target=GENERIC
)
REQUANTIZE = RequantizeConfig(
    1, signed(24), INT8, (3, 5), (0, 0), (True, True), ROUNDING, target=GENERIC
)

LEGAL = [
    WINDOW,
    FEED,
    ARRAY,
    REQUANTIZE,
    ROUNDING,
    MatMulConfig(FEED, ARRAY, REQUANTIZE),
    PoolConfig(POOL_FEED, lanes=2, out=INT8),
    ReuseBufferConfig(9, 9, 5, 1, INT8, target=GENERIC),
    TileFeedConfig(TILES, width=2, filtering=ROWS),
    TileBufferConfig(ROWS, 3, 2, 2, 1, INT8, target=GENERIC),
    TileQueueConfig(3, 2, 8, GENERIC),
    OutputTransformConfig(ROWS, 2, 1, signed(24), 6, GENERIC),
    AddConfig(2, INT8, INT8, INT8, 3, 5, 0, ROUNDING, 9, target=GENERIC),
    MultiplyConfig(2, INT8, INT8, INT8, -3, 5, 3, 0, ROUNDING, 9, target=GENERIC),
    PReluConfig(1, *(INT8,) * 3, 0, 0, (5, 3), (0, 0), ROUNDING, 9, target=GENERIC),
    ExtremumConfig(2, INT8, True, 9, target=GENERIC),
    StreamMatMulConfig(1, 2, 3, 4, 2, *(INT8,) * 3, 0, 5, 3, 0, ROUNDING, target=GENERIC),
    BlockBufferConfig(6, 8, GENERIC),
    RescaleConfig(2, INT8, INT8, 3, 0, ROUNDING, 9, target=GENERIC),
    PiecewiseConfig(1, INT8, INT8, ((0, 7), (1, 7)), ((1, 0), (2, 0)), 1, 9, target=GENERIC),
    LookupConfig(2, signed(2), INT8, (0, 1, -2, -1), 9, target=GENERIC),
    ReduceConfig(4, 2, 1, INT8, INT8),
    ArgMaxConfig(5, INT8),
    PackedConfig(INT8, signed(5), 15, 2),
    MultiplierConfig(INT8, INT8),
    SoftMultiplierConfig(MultiplierConfig(INT8, INT8)),
    DotProductConfig(4, INT8, INT8),
    GlobalPoolConfig(2, 3, 4, INT8, INT8, target=GENERIC),
    ConcatConfig((4, 3), 2, INT8, 9),
    StateConfig(2, INT8, 3, 4, (0,), 9, GENERIC),
    GatherConfig(4, np.array([2, 0]), ((1, 0),), np.zeros(2, int), 2, INT8, 0, GENERIC),
    WidthConfig(6, 2, 4, INT8),
    AxiStreamConfig(2, INT8, 9),
    RamConfig(64, 8, GENERIC),
    LinkConfig(
        (LinkPort("x", "s_axis", 4, 8),),
        (LinkPort("y", "m_axis", 3, 8),),
        clock_hz=50_000_000,
        baud=1_000_000,
    ),
]
CONFIGS = {type(config): config for config in LEGAL}

ILLEGAL = [
    (WindowConfig, {"height": 0}, "height=0, but it must be 1 or more"),
    (WindowConfig, {"chunk": 0}, "chunk=0, but it must be 1 or more"),
    (WindowConfig, {"stride": (1, 0)}, r"stride=\(1, 0\), but it must be 1 or more"),
    (WindowConfig, {"pads": (0, -1, 0, 0)}, r"pads=\(0, -1, 0, 0\), but it must be 0 or more"),
    (WindowConfig, {"parallel": (2, 1)}, r"parallel=\(2, 1\), but .* 1 or the kernel's extent"),
    (WindowConfig, {"groups": 3}, "groups=3, but it must divide channels=4"),
    (WindowConfig, {"groups": 2, "chunk": 4}, "chunk=4, but it must divide the 2 channels"),
    (WindowConfig, {"kernel": (3, 7)}, "window of 3 x 7, but the map with its padding has 6 x 5"),
    (FeedConfig, {"width": 0}, "width=0, but it must be 1 or more"),
    (FeedConfig, {"word": 3}, "word=3, but it must divide the 2 elements of a read"),
    (FeedConfig, {"passes": 3}, "window makes 1 passes, but it must make 3: all of them"),
    (
        FeedConfig,
        {"width": 1, "window": replace(WINDOW, passes=2)},
        "window makes 2 passes, but it must make 1: the reuse buffer repeats",
    ),
    (ArrayConfig, {"tree": WeightCode.PLANES, "shared": False}, "trees of adders need activations"),
    (ArrayConfig, {"tree": WeightCode.PLANES, "fast": True}, "but trees .* are soft logic alone"),
    (ArrayConfig, {"simd": 0}, "simd=0, but it must be 1 or more"),
    (ArrayConfig, {"lanes": 3}, "lanes=3, but it must divide pe=2"),
    (ArrayConfig, {"depth": 19}, "depth=19, but it must be a multiple of folds=18"),
    (
        ArrayConfig,
        {"initiation_interval": 10},
        "2 results leave 10 cycles apart, but the next reduction follows after folds=18 cycles",
    ),
    (ArrayConfig, {"memory": "block"}, "'block', but it must be one of logic, block_ram, packed"),
    (ArrayConfig, {"dsp_multipliers": 5}, "dsp_multipliers=5, but it must be 0 to 4"),
    (RequantizeConfig, {"lanes": 0}, "lanes=0, but it must be 1 or more"),
    (RequantizeConfig, {"mult": (3,)}, "1 multipliers and 2 offsets, but 2 entries of 1 lanes"),
    (RequantizeConfig, {"mult": (3, -5)}, r"mult=\(3, -5\), but it must be 0 or more"),
    (Rounding, {"shift": -1}, "shift=-1, but it must be 0 or more"),
    (Rounding, {"low": 128}, "low=128, but it must not exceed high=127"),
    (Rounding, {"tie_bits": 5}, "tie_bits=5, but it must be None or 0 to 4"),
    (Rounding, {"tie_parity": 2}, "tie_parity=2, but it must be 0 or 1"),
    (MatMulConfig, {"array": replace(ARRAY, folds=9)}, "this many cycles: 18, but 9 is taken"),
    (MatMulConfig, {"array": replace(ARRAY, simd=3)}, "this many elements: 2, but 3 is taken"),
    (MatMulConfig, {"array": replace(ARRAY, lanes=2)}, "this many results: 2, but 1 is taken"),
    (MatMulConfig, {"array": replace(ARRAY, acc=signed(25))}, "results of this shape: signed"),
    (PoolConfig, {"lanes": 1}, "lanes=1, but the feed gives words of 2"),
    (ReuseBufferConfig, {"passes": 0}, "passes=0, but it must be 1 or more"),
    (ReuseBufferConfig, {"width_out": 10}, "width_in=9, but it must be at least width_out=10"),
    (TileFeedConfig, {"width": 4}, "width=4, but a tile is read once, 2 elements at once"),
    (
        TileFeedConfig,
        {"window": WINDOW},
        "but tiles are 4 columns wide, 2 apart",
    ),
    (TileFeedConfig, {"filtering": SQUARE}, r"kernel=\(3, 4\).*in both directions their rows"),
    (TileBufferConfig, {"rows": 0}, "rows=0, but it must be 1 or more"),
    (TileBufferConfig, {"filtering": SQUARE}, "rows=3, but a tile of both directions has 4"),
    (TileQueueConfig, {"columns": 0}, "columns=0, but it must be 1 or more"),
    (OutputTransformConfig, {"lanes": 0}, "lanes=0, but it must be 1 or more"),
    (OutputTransformConfig, {"apart": 5}, "apart=5, but a changed sum can be read again only"),
    (AddConfig, {"mult_a": -1}, "mult_a=-1, but it must be 0 or more"),
    (MultiplyConfig, {"mult": -1}, "mult=-1, but it must be 0 or more"),
    (PReluConfig, {"mult": (3, -5)}, r"mult=\(3, -5\); choose 0 or more"),
    (ExtremumConfig, {"lanes": 0}, "lanes=0, but it must be 1 or more"),
    (StreamMatMulConfig, {"lanes": 5}, "lanes=5, but there are 4 columns"),
    (StreamMatMulConfig, {"products": 0}, "products=0, but it must be 1 or more"),
    (BlockBufferConfig, {"words": 0}, "words=0, but it must be 1 or more"),
    (RescaleConfig, {"mult": -1}, "mult=-1, but it must be 0 or more"),
    (PiecewiseConfig, {"blocks": ((0, 7),) * 3}, "3 blocks, but it must be a power of two"),
    (PiecewiseConfig, {"blocks": ((0, 7),) * 512}, "512 blocks, but inputs of 8 bits have at most"),
    (LookupConfig, {"table": (0, 1)}, r"2 entries, but signed\(2\) has 4 values"),
    (ReduceConfig, {"taps": 0}, "taps=0, but it must be 1 or more"),
    (ArgMaxConfig, {"count": 0}, "count=0, but it must be 1 or more"),
    (PackedConfig, {"w": unsigned(5)}, r"w=unsigned\(5\), but it must be signed"),
    (PackedConfig, {"most": 16}, r"w=signed\(5\), but it must be signed and hold -16 - 1"),
    (MultiplierConfig, {"products": 0}, "products=0, but it must be 1 or more"),
    (SoftMultiplierConfig, {"adders": 0}, "adders=0, but it must be 1 or more"),
    (DotProductConfig, {"products": 0}, "products=0, but it must be 1 or more"),
    (DotProductConfig, {"w": unsigned(2)}, r"w=unsigned\(2\) with .*, but it must be signed"),
    (GlobalPoolConfig, {"words": 0}, "words=0, but it must be 1 or more"),
    (StateConfig, {"steps": 0}, "steps=0, but it must be 1 or more"),
    (GatherConfig, {"words": 0}, "words=0, but it must be 1 or more"),
    (GatherConfig, {"source": np.array([2, 4])}, "source=2 to 4, but a frame has 4 words"),
    (GatherConfig, {"patterns": ((2, 0),)}, "but a word has 2 lanes; choose 0 to 1, or -1"),
    (ConcatConfig, {"lanes": 3}, r"lanes=3, but it must divide .* of \(4, 3\)"),
    (WidthConfig, {"lanes_in": 0}, "lanes_in=0, but it must be 1 or more"),
    (AxiStreamConfig, {"beats": 0}, "beats=0, but it must be 1 or more"),
    (RamConfig, {"depth": 0}, "depth=0, but it must be 1 or more"),
    (LinkConfig, {"outputs": ()}, "outputs has no ports; give at least one"),
    (LinkConfig, {"baud": 0}, "baud=0, but it must be 1 or more"),
    (LinkConfig, {"design_id": 1 << 64}, "design_id=0x1.*, but it must fit 8 bytes"),
]


@pytest.mark.parametrize(("config", "change", "message"), ILLEGAL)
def test_an_illegal_parameter_is_named_with_what_is_legal(config, change, message):
    with pytest.raises(ValueError, match=f"^{config.__name__}: .*{message}"):
        replace(CONFIGS[config], **change)


@pytest.mark.parametrize(("half", "lanes"), [(Widen, (4, 6)), (Narrow, (6, 4))])
def test_half_a_converter_is_refused_unless_the_widths_divide(half, lanes):
    with pytest.raises(ValueError, match="but it must be a multiple of"):
        half(WidthConfig(12, *lanes, INT8))


def test_minimal_filtering_has_one_direction_or_two():
    with pytest.raises(ValueError, match=r"MinimalFiltering: directions=3, but there are 1 .* 2"):
        MinimalFiltering(3)


def test_every_configuration_is_tried():
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(hw.__path__, f"{hw.__name__}.")
    ]
    found = {
        part
        for module in modules
        for name, part in vars(module).items()
        if name.endswith("Config") and is_dataclass(part)
    }
    found |= {LinkConfig, Rounding}
    for name, tried in ("LEGAL", set(CONFIGS)), ("ILLEGAL", {config for config, *_ in ILLEGAL}):
        missing = ", ".join(sorted(each.__name__ for each in found ^ tried))
        assert not missing, f"tests/hw/test_configs.py: {name} has no {missing}"


@pytest.mark.parametrize("key", ["beats", "bits"])
def test_a_port_of_the_link_has_something_to_carry(key):
    port = LinkPort("x", "s_axis", 4, 8)
    with pytest.raises(ValueError, match=f"^LinkPort: {key}=0, but it must be 1 or more"):
        replace(port, **{key: 0})
