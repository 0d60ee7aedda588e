"""The emitted accelerator as a component that the link connects to."""

from amaranth import Instance, Module, Signal
from amaranth.hdl import ClockSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .frame_engine import axis
from .protocol import LinkConfig

__all__ = ["AcceleratorInstance"]


class AcceleratorInstance(wiring.Component):
    """The emitted module ``accelerator``, held in reset while the domain is or ``clear`` says so.

    Members
    -------
    s_axis : In(axis(port.bytes)) for the only input; of several each has its ``port.prefix``
    m_axis : Out(axis(port.bytes)) for the only output; of several in the same way
    clear : In(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        super().__init__(
            {
                **{port.prefix: In(axis(port.bytes)) for port in config.inputs},
                **{port.prefix: Out(axis(port.bytes)) for port in config.outputs},
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A register of its own: this net reaches most of the accelerator.
        reset = Signal(init=1)
        m.d.sync += reset.eq(self.clear)
        connections = {"i_clk": ClockSignal(), "i_rst": reset}
        for ports, given, taken in (
            (self.config.inputs, "i", "o"),
            (self.config.outputs, "o", "i"),
        ):
            for port in ports:
                axis_stream = getattr(self, port.prefix)
                connections |= {
                    f"{given}_{port.prefix}_tdata": axis_stream.payload.data,
                    f"{given}_{port.prefix}_tlast": axis_stream.payload.last,
                    f"{given}_{port.prefix}_tvalid": axis_stream.valid,
                    f"{taken}_{port.prefix}_tready": axis_stream.ready,
                }
        m.submodules.accelerator = Instance("accelerator", **connections)
        return m
