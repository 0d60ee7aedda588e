"""The generic target: plain multiplications and memories, for simulation of single components."""

from .base import MemoryShape, Target
from .dsp import Multiplier

__all__ = ["GENERIC"]

GENERIC = Target(
    name="generic",
    dsp=Multiplier,
    memory_shapes=(
        MemoryShape(512, 36),
        MemoryShape(1024, 18),
        MemoryShape(2048, 9),
        MemoryShape(4096, 4),
        MemoryShape(8192, 2),
        MemoryShape(16384, 1),
    ),
    block_ram_register=False,
    lut_ram=None,
    carry_luts=1,
    gated_adders=True,
    lone_register_cells=0.0,
    logic_unit="LUTs",
    logic_share=0.8,
    soft_logic_share=0.75,
    register_share=0.85,
    table_bits=16,
    logic_table_bits=2048,
)
