"""From the integer graph to hardware: folding, cost, queues and schedule."""

from ...hw.target.base import Device
from ..stages import Design, StagePlan
from .candidates import CandidatePool
from .dataflow import Dataflow, Plan
from .fifo import check_queues
from .plan_file import read_plan, write_plan
from .resources import Resources
from .schedule import LatencyPart, idle_frame, latency
from .search import (
    Goal,
    available,
    least_interval,
    make_dataflow,
    refuse_too_large,
    shortfall,
)

__all__ = [
    "CandidatePool",
    "Design",
    "Device",
    "Goal",
    "LatencyPart",
    "Dataflow",
    "Plan",
    "Resources",
    "StagePlan",
    "available",
    "check_queues",
    "idle_frame",
    "least_interval",
    "refuse_too_large",
    "shortfall",
    "latency",
    "make_dataflow",
    "read_plan",
    "write_plan",
]
