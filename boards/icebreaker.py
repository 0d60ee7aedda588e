"""1BitSquared iCEBreaker, with an iCE40 UP5K. Pins: the project's ``icebreaker.pcf``."""

from ..hw.target.ice40 import ICE40UP5K
from .board import Board, UsbSerial

__all__ = ["BOARDS", "ICEBREAKER"]

ICEBREAKER = Board(
    name="icebreaker",
    title="iCEBreaker",
    device=ICE40UP5K,
    part="iCE40UP5K-SG48",
    chip="--up5k",
    package="sg48",
    speed="",
    clock_pin="35",
    clock_mhz=12.0,
    clock_on_pll_pad=True,
    uart_rx="6",
    uart_tx="9",
    uart_baud=1_000_000,
    led_pin="37",
    led_active_low=True,
    io_standard="SB_LVCMOS",
    io_standards={"rx": "SB_LVTTL", "tx": "SB_LVTTL"},
    target_mhz=24.0,
    programmer="ice40_generic",
    usb=UsbSerial(0x0403, 0x6010, 12_000_000, interface=1, called="iCEBreaker"),  # FT2232H, B
)

BOARDS = (ICEBREAKER,)
