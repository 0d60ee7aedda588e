"""What a board is, to the tools: a chip, its pins, its clock and how it is programmed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..hw.sizes import filled, within
from ..hw.target.base import Device

__all__ = ["LOWEST_BAUD", "Board", "UsbSerial"]

LOWEST_BAUD = 9600


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

    def __post_init__(self) -> None:
        within(1, 0xFFFF, self, "vendor", "product")
        within(LOWEST_BAUD, 50_000_000, self, "max_baud")
        if self.interface is not None:
            within(0, 255, self, "interface")


@dataclass(frozen=True)
class Board:
    """One board, as data.

    ``chip`` is the place-and-route tool's option for the chip and ``package``, ``speed`` its
    spelling of package and speed grade (``""`` where the family has only one). ``uart_rx`` is the
    pin on which the FPGA hears the host, ``uart_tx`` the one on which it answers.
    ``io_standard`` holds for all pins but those of ``io_standards``, which maps ports (of ``pins``)
    to standards of their own. ``clock_on_pll_pad``: the clock pin feeds a PLL
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
    io_standards: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        filled(self, "name", "title", "device", "part", "chip", "clock_pin", "uart_rx", "uart_tx")
        filled(self, "led_pin", "io_standard", "programmer", "usb")
        within(1, 1000, self, "clock_mhz", "target_mhz")
        within(LOWEST_BAUD, self.usb.max_baud, self, "uart_baud")
        if strange := set(self.io_standards) - set(self.pins):
            raise ValueError(
                f"{self.name}: io_standards of {sorted(strange)}; accepted: {', '.join(self.pins)}"
            )

    @property
    def pins(self) -> dict[str, str]:
        """The pins of the chip, by the ports of the design that they carry."""
        return {
            "clk": self.clock_pin,
            "rx": self.uart_rx,
            "tx": self.uart_tx,
            "led": self.led_pin,
        }

    def standard(self, port: str) -> str:
        """The I/O standard of a port."""
        return self.io_standards.get(port, self.io_standard)
