"""What a board is, to the tools: a chip, its pins, its clock and how it is programmed."""

from dataclasses import dataclass

from ..hw.target.base import Device

__all__ = ["Board", "UsbSerial"]


@dataclass(frozen=True)
class UsbSerial:
    """A bridge between USB and the UART: its ids, the number of its interface that is the UART
    (None: it has only one), the text that its product name holds, and its highest baud rate.
    """

    vendor: int
    product: int
    max_baud: int
    interface: int | None = None
    called: str = ""


@dataclass(frozen=True)
class Board:
    """One board, as data.

    ``chip`` is the place-and-route tool's option for the chip and ``package``, ``speed`` its
    spelling of package and speed grade (``""`` where the family has only one). ``uart_rx`` is the
    pin on which the FPGA hears the host, ``uart_tx`` the one on which it answers.
    ``io_standard`` holds for all pins named here. ``clock_on_pll_pad``: the clock pin feeds a PLL
    directly (iCE40). ``programmer`` is openFPGALoader's name of the board,
    ``usb`` the bridge to which the UART leads.
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
    usb: UsbSerial
    clock_on_pll_pad: bool = False
