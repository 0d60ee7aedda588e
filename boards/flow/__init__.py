"""From RTLIL to a bitstream: one file a family, and the steps that all families share."""

from ...compiler.errors import PlanError
from ...hw.target import Target
from .base import Flow
from .ecp5 import ECP5_FLOW
from .ice40 import ICE40_FLOW

__all__ = ["FLOWS", "flow_of"]

FLOWS = (ECP5_FLOW, ICE40_FLOW)


def flow_of(target: Target) -> Flow:
    """The flow of a family; raises ``PlanError`` for a family that has none."""
    for flow in FLOWS:
        if flow.target == target:
            return flow
    names = ", ".join(flow.target.name for flow in FLOWS)
    raise PlanError(f"there is no flow to a bitstream for {target.name}; families: {names}")
