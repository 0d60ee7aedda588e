"""Choosing the folding: as fast as the board allows, or as small as the goal allows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, gcd

from .. import ir
from ..errors import FitError, PlanError
from .device import Device
from .fifo import with_queues
from .network import Network, Plan
from .resources import LINK, Resources, cells
from .stages import ConvDesign, Design, StagePlan, design, foldings

__all__ = ["Goal", "make_plan", "assign_blocks", "lacking"]

#: share of a device's logic that a plan may count on: placement needs air
_LOGIC_SHARE = {"ecp5": 0.8, "ice40": 0.95}
#: deepest weight memories that are put into logic, tried in turn until the block RAM suffices
_LOGIC_DEPTHS = (64, 32, 128, 256, 512, 16, 0)


@dataclass(frozen=True)
class Goal:
    """What the plan is for.

    ``"balanced"``: as fast as the DSP blocks allow. ``"latency"``: as fast as fits, with
    multipliers in soft logic too. ``"fps"``: the smallest whose ``interval`` (cycles a frame)
    suffices. ``"area"``: the smallest.
    """

    kind: str = "balanced"
    interval: int | None = None


@dataclass(frozen=True)
class _Choice:
    stage: StagePlan
    cycles: int
    multipliers: int
    blocks: int
    lanes_in: int
    cost: Resources


def make_plan(graph: ir.Graph, device: Device, board: str, goal: Goal = Goal()) -> Plan:
    """A plan for ``graph`` on ``device``.

    The frame interval is the slowest stage's, so for an interval each stage takes its cheapest
    folding that keeps it; the least interval whose stages together fit is found by bisection.
    Raises :class:`FitError` when even the smallest plan is too large.
    """
    least: Plan | None = None
    tried = _try_all(graph, device)
    for depth in _LOGIC_DEPTHS:
        search = _Search(graph, device, board, tried, depth)
        plan = search.best(goal)
        if plan is not None:
            return plan
        least = least or search.plan(search.slowest())
    assert least is not None
    network = Network(graph, least, device)
    raise FitError(f"the network does not fit {device.name}: at its smallest it needs "
                   + ", ".join(f"{need} {name} of {have}"
                               for name, need, have in lacking(network.resources, device)))


def lacking(need: Resources, device: Device) -> list[tuple[str, int, int]]:
    """What is too much for the device: name, needed, available to a plan."""
    room = int(device.lut * _LOGIC_SHARE[device.family]) - LINK.lut
    table = [("LUTs" if device.family == "ecp5" else "logic cells", cells(need, device), room),
             ("flip-flops", need.ff, device.ff),
             ("DSP blocks", need.dsp, device.dsp),
             ("block RAMs", need.bram, device.bram)]
    return [row for row in table if row[1] > row[2]]


def assign_blocks(designs: Sequence[Design], device: Device) -> tuple[StagePlan, ...]:
    """DSP blocks to the largest arrays first; what is left over multiplies in soft logic.

    On the chip they lie in dataflow order, so that neighbours in the network are neighbours
    there.
    """
    left = device.dsp
    hard = {}
    for shape in sorted(designs, key=lambda shape: -shape.stage.hard):
        granted = min(shape.stage.hard, left * shape.products_per_block)
        while shape.blocks(granted) > left:
            granted -= 1
        hard[shape.stage.name] = granted
        left -= shape.blocks(granted)
    placed, site = [], 0
    for shape in designs:
        granted = hard[shape.stage.name]
        place = site if granted and device.dsp_sites else None
        placed.append(replace(shape.stage, hard=granted, site=place))
        site += shape.blocks(granted)
    return tuple(placed)


#: share of the interval that stages without multipliers may take
_AHEAD = 0.9


@dataclass(frozen=True)
class _Tried:
    """A folding with its weights in logic and, where it has any, in block RAM; ``depth`` is that of
    a weight memory.
    """

    logic: _Choice
    block: _Choice | None
    depth: int


def _try_all(graph: ir.Graph, device: Device) -> dict[str, list[_Tried]]:
    """All legal foldings of every operator that has hardware, by the name of its output."""
    ops = [op for op in graph if not isinstance(op, ir.Reshape)]
    return {op.output: [tried for simd, pe in dict.fromkeys(foldings(op, graph))
                        if (tried := _try(op, number, simd, pe, graph, device))]
            for number, op in enumerate(ops)}


def _try(op: ir.Op, number: int, simd: int, pe: int, graph: ir.Graph,
         device: Device) -> _Tried | None:
    hard = simd * pe if isinstance(op, ir.Conv) else 0
    stage = StagePlan(f"s{number:02d}_{type(op).__name__.lower()}", (op.output,), simd, pe, hard)
    try:
        shape = design(op, graph, stage, device)
    except PlanError:
        return None
    if not isinstance(shape, ConvDesign):
        return _Tried(_choice(stage, shape, device), None, 0)
    block = replace(stage, weights="block")
    in_block = replace(shape, stage=block, array=replace(shape.array, block_ram=True))
    return _Tried(_choice(stage, shape, device), _choice(block, in_block, device),
                  shape.array.depth)


def _choice(stage: StagePlan, shape: Design, device: Device) -> _Choice:
    return _Choice(stage, shape.cycles(), shape.multipliers, shape.blocks(shape.multipliers),
                   shape.lanes_in, shape.resources(device))


class _Search:
    """Plans for given intervals, with weight memories up to ``logic_depth`` words in logic."""

    def __init__(self, graph: ir.Graph, device: Device, board: str,
                 tried: dict[str, list[_Tried]], logic_depth: int):
        self.graph, self.device, self.board = graph, device, board
        self.ops = [op for op in graph if not isinstance(op, ir.Reshape)]
        self.choices = {name: self._worthwhile(found, logic_depth) for name, found in tried.items()}

    @staticmethod
    def _worthwhile(tried: list[_Tried], logic_depth: int) -> list[_Choice]:
        """Foldings that are not worse than another in all of time, multipliers, LUTs and input."""
        found = [t.block if t.block and t.depth > logic_depth else t.logic for t in tried]
        found.sort(key=lambda c: (c.cycles, c.blocks, c.multipliers,
                                  c.cost.lut + 300 * c.cost.bram))
        kept: list[_Choice] = []
        for choice in found:
            if not any(k.blocks <= choice.blocks and k.multipliers <= choice.multipliers
                       and _size(k) <= _size(choice)
                       and k.lanes_in % choice.lanes_in == 0 for k in kept):
                kept.append(choice)
        return kept

    def best(self, goal: Goal) -> Plan | None:
        """The plan of the least interval that fits (not below the goal's), or None."""
        intervals = sorted({c.cycles for choices in self.choices.values() for c in choices})
        if goal.kind == "area":
            intervals = [self.slowest()]
        elif goal.interval is not None:
            enough = [i for i in intervals if i <= goal.interval]
            intervals = enough[-1:] if enough else intervals[:1]
        low, high, found = 0, len(intervals) - 1, None
        while low <= high:
            middle = (low + high) // 2
            plan = self.plan(intervals[middle])
            if self._fits(plan, goal):
                found, high = plan, middle - 1
            else:
                low = middle + 1
        return found

    def slowest(self) -> int:
        """The interval at which every stage may have its smallest folding."""
        return max(c.cycles for choices in self.choices.values() for c in choices)

    def plan(self, interval: int) -> Plan:
        """Each stage's cheapest folding within ``interval`` (or its fastest)."""
        designs: list[Design] = []
        lanes: dict[str, int] = {}
        for op in self.ops:
            chosen = self._cheapest(op, interval, lanes)
            designs.append(design(op, self.graph, chosen, self.device))
            lanes[op.output] = designs[-1].lanes_out
        plan = Plan(self.board, assign_blocks(designs, self.device), {}, 1)
        network = Network(self.graph, plan, self.device)
        plan = replace(plan, lanes_in=self._lanes_in(network, interval))
        return with_queues(self.graph, plan, Network(self.graph, plan, self.device))

    def _cheapest(self, op: ir.Op, interval: int, lanes: dict[str, int]) -> StagePlan:
        """The cheapest folding within ``interval`` whose input needs no slower conversion."""
        choices = self.choices[op.output]
        # cheap stages run ahead of the arrays, so that they never set the pace
        limit = interval if isinstance(op, ir.Conv) else _AHEAD * interval
        enough = ([c for c in choices if c.cycles <= limit]
                  or [c for c in choices if c.cycles <= interval]
                  or [min(choices, key=lambda c: c.cycles)])
        incoming = [(self.graph.shape(name), lanes.get(name, 1)) for name in op.inputs]

        def converts(choice: _Choice) -> bool:
            return any(shape.pixels * ceil(shape.channels / gcd(n, choice.lanes_in)) > interval
                       for shape, n in incoming)

        return min(enough, key=lambda c: (converts(c), c.blocks, c.multipliers, _size(c))).stage

    def _lanes_in(self, network: Network, interval: int) -> int:
        """As wide as the first stage wants its input, or as the interval asks for."""
        shape = self.graph.values[self.graph.inputs[0].value].shape
        takers = [edge for edge in network.edges if edge.source is None]
        wanted = takers[0].lanes_in if len(takers) == 1 else 1
        if shape.channels % wanted:
            wanted = 1
        return next((n for n in range(wanted, shape.channels + 1)
                     if shape.channels % n == 0
                     and shape.pixels * ceil(shape.channels / n) <= interval), shape.channels)

    def _fits(self, plan: Plan, goal: Goal) -> bool:
        network = Network(self.graph, plan, self.device)
        hard = sum(stage.hard for stage in plan.stages)
        if goal.kind == "balanced" and hard < network.multipliers > self.least_multipliers:
            return False
        return not lacking(network.resources, self.device)

    @property
    def least_multipliers(self) -> int:
        """Of the smallest foldings: fewer are not to be had, so what exceeds the blocks must be
        soft.
        """
        return sum(min(c.multipliers for c in choices) for choices in self.choices.values())


def _size(choice: _Choice) -> int:
    return choice.cost.lut + 300 * choice.cost.bram + choice.cost.ff // 4
