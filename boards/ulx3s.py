"""Radiona ULX3S, with any of its four ECP5 chips. Pins: the project's ``ulx3s_v20.lpf``."""

from ..hw.target import Device
from ..hw.target.ecp5 import LFE5U_12F, LFE5U_25F, LFE5U_45F, LFE5U_85F
from .board import Board, UsbSerial

__all__ = ["BOARDS", "ULX3S_12F", "ULX3S_25F", "ULX3S_45F", "ULX3S_85F"]


def _ulx3s(size: str, device: Device, chip: str, target_mhz: float) -> Board:
    return Board(
        name=f"ulx3s-{size}",
        title=f"ULX3S {size.upper()}",
        device=device,
        part=f"{device.name}-6BG381C",
        chip=chip,
        package="CABGA381",
        speed="6",
        clock_pin="G2",
        clock_mhz=25.0,
        uart_rx="M1",
        uart_tx="L4",
        uart_baud=1_000_000,
        led_pin="B2",
        led_active_low=False,
        io_standard="LVCMOS33",
        target_mhz=target_mhz,
        programmer="ulx3s",
        usb=UsbSerial(0x0403, 0x6015, 3_000_000, called="ULX3S"),  # FT231X
    )


ULX3S_12F = _ulx3s("12f", LFE5U_12F, "--12k", 100.0)
ULX3S_25F = _ulx3s("25f", LFE5U_25F, "--25k", 100.0)
ULX3S_45F = _ulx3s("45f", LFE5U_45F, "--45k", 100.0)
ULX3S_85F = _ulx3s("85f", LFE5U_85F, "--85k", 100.0)

BOARDS = (ULX3S_85F, ULX3S_45F, ULX3S_25F, ULX3S_12F)
