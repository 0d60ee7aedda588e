"""What a board is, to the tools: a chip, its pins, its clock and how it is programmed."""

from dataclasses import dataclass

from ..hw.target.base import Device

__all__ = ["Board"]


@dataclass(frozen=True)
class Board:
    """One board, as data.

    ``chip`` is the place-and-route tool's option for the chip and ``package``, ``speed`` its
    spelling of package and speed grade (``""`` where the family has only one). ``uart_rx`` is the
    pin on which the FPGA hears the host, ``uart_tx`` the one on which it answers.
    ``io_standard`` holds for all pins named here. ``clock_on_pll_pad``: the clock pin feeds a PLL
    directly (iCE40). ``programmer`` is openFPGALoader's name of the board.
    """

    name: str
    title: str
    device: Device
    part: str
    chip: str
    package: str
    speed: str
    clock_pin: str
    clock_mhz: float
    uart_rx: str
    uart_tx: str
    uart_baud: int
    led_pin: str
    led_active_low: bool
    io_standard: str
    target_mhz: float
    programmer: str
    clock_on_pll_pad: bool = False
