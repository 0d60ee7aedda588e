"""From the integer graph to hardware: folding, cost, queues and schedule."""

from .device import Device
from .explore import Goal, lacking, make_plan
from .fifo import check_queues
from .files import read_plan, write_plan
from .network import Network, Plan
from .resources import Resources
from .schedule import latency
from .stages import Design, StagePlan

__all__ = [
    "Design",
    "Device",
    "Goal",
    "Network",
    "Plan",
    "Resources",
    "StagePlan",
    "check_queues",
    "lacking",
    "latency",
    "make_plan",
    "read_plan",
    "write_plan",
]
