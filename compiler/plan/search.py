"""Choosing the folding: as fast as the board allows, or as small as the goal allows."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...hw.target.device import Device
from .. import ir
from ..errors import FitError
from ..stages import Design, StagePlan
from .candidates import Candidate, stage_candidates
from .dataflow import Dataflow, Plan
from .fifo import with_queues
from .folding_solver import Budget, FoldingSolver, grant
from .resources import Resources, cells, link, total
from .schedule import latency

__all__ = ["Goal", "SOFT_SHARE", "make_plan", "assign_blocks", "shortfall"]

#: share of a device's logic that a plan may count on: placement needs air
_LOGIC_SHARE = {"ecp5": 0.8, "ice40": 0.93}
#: the same where multipliers in soft logic fill it: they are many short carry chains, of which each
#: begins a tile (with 79 % as placed an 85F found no place for them, with 54 % it did)
SOFT_SHARE = {"ecp5": 0.57, "ice40": 0.93}
#: share of a device's flip-flops; the one that an iCE40 cell has comes with its LUT
_FF_SHARE = {"ecp5": 0.785, "ice40": 1.0}
#: intervals of plans for latency, in units of the least one: frames may follow one another
_SLOWER = 1.2
#: times that queues and converters are counted and the choice is made again
_ROUNDS = 5


@dataclass(frozen=True)
class Goal:
    """What the plan is for.

    ``"balanced"``: the least interval that the DSP blocks allow. ``"latency"``: the least latency,
    with multipliers in soft logic too. ``"fps"``: the smallest whose ``interval`` (cycles a frame)
    suffices; without one the least interval, with soft multipliers too. ``"area"``: the smallest.
    """

    kind: str = "balanced"
    interval: int | None = None


def make_plan(graph: ir.Graph, device: Device, board: str, goal: Goal = Goal()) -> Plan:
    """A plan for ``graph`` on ``device``.

    The frame interval is the slowest stage's, so for an interval each stage needs only the fewest
    multipliers that keep it; the least interval whose stages together fit is found by bisection.
    Where block RAM is left over it is used freely: for words as they are wanted, and for lines that
    neighbours need not hurry for. Only where nothing fits, or for the smallest, is it saved.
    Raises :class:`FitError` when even the smallest plan is too large.
    """
    for lean in (True,) if goal.kind == "area" else (False, True):
        search = _Search(graph, device, board, lean)
        plan = search.best(goal)
        if plan is not None:
            return plan
        least = search.smallest()
        lacks = shortfall(Dataflow(graph, least, device).resources, device)
        if not lacks:
            return least
    raise FitError(
        f"the network does not fit {device.name}: at its smallest it needs "
        + ", ".join(f"{need} {name} of {have}" for name, need, have in lacks)
    )


def shortfall(need: Resources, device: Device) -> list[tuple[str, int, int]]:
    """What is too much for the device: name, needed, available to a plan."""
    table = [
        (
            "LUTs" if device.family == "ecp5" else "logic cells",
            cells(need, device),
            _room(device, _LOGIC_SHARE),
        ),
        ("flip-flops", need.ff, device.ff),
        ("DSP blocks", need.dsp, device.dsp),
        ("block RAMs", need.bram, device.bram - link(device).bram),
    ]
    return [row for row in table if row[1] > row[2]]


def _room(device: Device, share: dict[str, float]) -> int:
    """Logic cells for a plan."""
    return int(device.lut * share[device.family]) - cells(link(device), device)


def assign_blocks(designs: Sequence[Design], device: Device) -> tuple[StagePlan, ...]:
    """DSP blocks to the largest arrays first; what is left over multiplies in soft logic.

    On the chip they lie in dataflow order, so that neighbours in the network are neighbours
    there.
    """
    hard = grant(
        [shape.stage.dsp_multipliers if shape.products_per_block else 0 for shape in designs],
        [shape.blocks for shape in designs],
        device.dsp,
    )
    placed, site = [], 0
    for shape, granted in zip(designs, hard, strict=True):
        place = site if granted and device.dsp_sites else None
        placed.append(replace(shape.stage, dsp_multipliers=granted, site=place))
        site += shape.blocks(granted)
    return tuple(placed)


class _Search:
    """Plans of one network for one device."""

    def __init__(self, graph: ir.Graph, device: Device, board: str, lean: bool = False):
        self.graph, self.device, self.board = graph, device, board
        self.stages = stage_candidates(graph, device, lean)
        stages = tuple(stage.smallest for stage in self.stages)
        self.solver = FoldingSolver(self.stages, Dataflow(graph, Plan(board, stages, {}), device))
        self.intervals = self.solver.intervals()

    def best(self, goal: Goal) -> Plan | None:
        """The plan for ``goal``; None when nothing fits."""
        soft = [self._budget(SOFT_SHARE), self._budget(_LOGIC_SHARE)]
        if goal.kind == "area":
            return self._first(self.intervals[-1], [self._budget(_LOGIC_SHARE)])
        if goal.interval is not None:
            within = self.intervals[: max(1, bisect_right(self.intervals, goal.interval))]
            return self._first(within[-1], [self._hard(), *soft])
        find = self.shortest if goal.kind == "latency" else self.fastest
        for budget in [self._hard()] if goal.kind == "balanced" else soft:
            plan = find(budget)
            if plan is not None:
                return plan
        return None

    def _budget(self, share: dict[str, float], soft: int | None = None) -> Budget:
        device = self.device
        return Budget(
            _room(device, share),
            int(device.ff * _FF_SHARE[device.family]),
            device.dsp,
            device.bram - link(device).bram,
            soft,
        )

    def _hard(self) -> Budget:
        """Without soft multipliers, or only as many as the smallest plan needs."""
        wanted = [stage.fewest(self.intervals[-1]) or 0 for stage in self.stages]
        return self._budget(_LOGIC_SHARE, sum(self.solver.soft(wanted, self.device.dsp)))

    def _first(self, interval: int, budgets: Sequence[Budget]) -> Plan | None:
        return next((plan for budget in budgets if (plan := self.plan(interval, budget))), None)

    def fastest(self, budget: Budget) -> Plan | None:
        """The plan of the least interval, with the bound on it."""
        solver, intervals = self.solver, self.intervals
        enough = _least(intervals, lambda i: solver.enough(i, budget))
        if enough == len(intervals):
            return None
        bound = enough + _least(intervals[enough:], lambda i: solver.choose(i, budget) is not None)
        if bound == len(intervals):
            return None
        plans: dict[int, Plan | None] = {}

        def planned(interval: int) -> bool:
            plans[interval] = self.plan(interval, budget)
            return plans[interval] is not None

        found = (
            bound
            if planned(intervals[bound])
            else (bound + 1 + _least(intervals[bound + 1 :], planned))
        )
        plan = plans.get(intervals[found]) if found < len(intervals) else None
        return replace(plan, bound_interval=intervals[bound]) if plan else None

    def plan(self, interval: int, budget: Budget) -> Plan | None:
        """The plan of the fewest multipliers that keeps ``interval`` and ``budget``.

        What queues and converters take is known only for a plan; it is taken off the budget, and
        the choice is made again, until all is kept.
        """
        left = budget
        for _ in range(_ROUNDS):
            chosen = self.solver.choose(interval, left)
            if chosen is None:
                return None
            network = self._network(chosen, interval)
            if self._within(network, budget):
                return network.plan
            left = self._beside(network, budget)
        return None

    def shortest(self, budget: Budget) -> Plan | None:
        """The plan of about the least latency, with the bound on it, from the fastest one on."""
        from .latency_optimizer import LatencyOptimizer

        fastest = self.fastest(budget)
        if fastest is None:
            return None
        least = network = Dataflow(self.graph, fastest, self.device)
        slowest = int(_SLOWER * least.interval)
        optimizer = LatencyOptimizer(self.solver, budget, slowest)
        for _ in range(_ROUNDS):
            before, fitting = network, []
            for chosen in optimizer.choices(self._beside(network, budget)):
                network = self._network(chosen, slowest, eager=True)
                if self._within(network, budget):
                    fitting.append(network)
                elif not fitting:
                    break
            least = min([least, *fitting], key=latency)
            if fitting or network is before:
                break
        bound = min(optimizer.bound, latency(least))
        return replace(least.plan, bound_interval=None, bound_latency=bound)

    def _within(self, network: Dataflow, budget: Budget) -> bool:
        need = network.resources
        return (
            cells(need, self.device) <= budget.cells
            and need.ff <= budget.ff
            and need.bram <= budget.bram
        )

    def _beside(self, network: Dataflow, budget: Budget) -> Budget:
        """What queues and converters as in ``network`` leave for the stages."""
        rest = total(
            [
                network.resources,
                *(design.resources(self.device) * -1 for design in network.designs.values()),
            ]
        )
        return budget.less(cells(rest, self.device), rest.ff, rest.bram)

    def smallest(self) -> Plan:
        """The plan of the fewest multipliers, whether it fits or not."""
        interval = self.intervals[-1]
        chosen = [stage.within(interval)[0] for stage in self.stages]
        return self._network(chosen, interval).plan

    def _network(
        self, chosen: Sequence[Candidate], interval: int, *, eager: bool = False
    ) -> Dataflow:
        stages = assign_blocks([candidate.design for candidate in chosen], self.device)
        lanes = self.solver.lanes_in(chosen, interval, eager=eager) or 1
        plan = Plan(self.board, stages, {}, lanes)
        network = Dataflow(self.graph, plan, self.device)
        return Dataflow(self.graph, with_queues(plan, network), self.device)


def _least(values: Sequence[int], suffices: Callable[[int], bool]) -> int:
    """The place of the first value that ``suffices``, of rising values; their number if none."""
    return bisect_left(values, True, key=suffices)
