"""From the integer graph to hardware: folding, cost, queues and schedule."""

from ...hw.target.base import Device
from ..stages import Design, StagePlan
from .dataflow import Dataflow, Plan
from .fifo import check_queues
from .plan_file import read_plan, write_plan
from .resources import Resources
from .schedule import latency, latency_parts
from .search import (
    Goal,
    available,
    least_interval,
    make_dataflow,
    refuse_too_large,
    shortfall,
)

__all__ = [
    "Design",
    "Device",
    "Goal",
    "Dataflow",
    "Plan",
    "Resources",
    "StagePlan",
    "available",
    "check_queues",
    "least_interval",
    "refuse_too_large",
    "shortfall",
    "latency",
    "latency_parts",
    "make_dataflow",
    "read_plan",
    "write_plan",
]
