"""Errors that speak to the user: what was found, what is accepted, what to do."""

__all__ = [
    "GatewrightError",
    "ModelError",
    "QuantizeError",
    "PlanError",
    "FitError",
    "ToolError",
    "TimingError",
    "DataError",
    "SimulationError",
]


class GatewrightError(Exception):
    """Base of every error shown to the user as one message, without a traceback."""


class ModelError(GatewrightError):
    """The ONNX model can not be read, or holds something that has no hardware."""


class DataError(GatewrightError):
    """Samples, labels or folders that the user named can not be used."""


class QuantizeError(GatewrightError):
    """A value can not be quantized, or a requantizer can not be proven exact."""


class PlanError(GatewrightError):
    """A hardware plan breaks a rule."""


class FitError(PlanError):
    """The network does not fit the board."""


class ToolError(GatewrightError):
    """An outside tool is missing, too old, or failed."""


class TimingError(ToolError):
    """The routed design does not reach its clock."""


class SimulationError(GatewrightError):
    """The simulation could not run, or did not end."""
