"""The search for a plan: as fast as the board allows, or as small as the goal allows."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from ...hw.target.base import Device
from .. import ir
from ..errors import FitError
from ..stages import Design, Products, StagePlan, stage_ops
from .candidates import Candidate, CandidatePool
from .dataflow import Dataflow, Plan
from .fifo import with_queues
from .folding_solver import Budget, FoldingSolver, block_worth, grant
from .resources import Resources, cells, link, total, weight_bits
from .schedule import latency
from .turns import TurnCandidates, by_turns

__all__ = [
    "Goal",
    "Occupancy",
    "assign_blocks",
    "available",
    "least_interval",
    "make_dataflow",
    "occupancy",
    "refuse_too_large",
    "shortfall",
]

#: longest interval of a plan for latency, in units of the least interval
_SLOWER = 1.2
#: a network with a loop may be slower than the fastest one by this factor: the last cycle of a turn
#: may take half of a chip
_CLOSE = 1.01
#: limit on the rounds of counting queues and converters and choosing again
_ROUNDS = 5
#: share of the device that the smallest stages together take at which no search is worth it: other
#: foldings are smaller by less
_FAR = 1.15
#: bits of the narrowest weights of several levels, and the share of block RAM that weights may fill
_NARROW, _FILLED = 2, 0.8
#: a latency within this factor of the bound on it is good enough without saving block RAM
_NEAR = 1.25
#: shares of block RAM in the sum of logic and block RAM that is bounded
_MIXES = tuple(n / 10 for n in range(11))


@dataclass(frozen=True)
class Goal:
    """The objective of a plan.

    ``"balanced"``: the least interval that the DSP blocks allow. ``"latency"``: the least latency,
    with multipliers in soft logic too. ``"fps"``: the smallest plan that keeps ``interval`` (cycles
    a frame); without one the least interval, with soft multipliers too. ``"area"``: the smallest.
    ``fast_inner_product``: stages may get two products from each multiplier.
    ``minimal_filtering``: four products may give two outputs of three taps, sixteen four of nine.
    """

    kind: str = "balanced"
    interval: int | None = None
    fast_inner_product: bool = True
    minimal_filtering: bool = True

    @property
    def ways(self) -> tuple[Products, ...]:
        """How stages may make their products."""
        return tuple(
            way
            for way in Products
            if (self.fast_inner_product or not way.paired)
            and (self.minimal_filtering or not way.directions)
            and (self.kind != "latency" or way.directions < 2)  # pixels wait for rows of tiles
            and (self.kind in ("latency", "fps") or way is not Products.TREES)
        )


def make_dataflow(
    graph: ir.Graph,
    device: Device,
    board: str,
    goal: Goal = Goal(),
    pool: CandidatePool | None = None,
) -> Dataflow:
    """``graph`` under a plan for ``device``; ``pool``: what other searches have built for it.

    The frame interval is the slowest stage's, so for an interval each stage needs only the fewest
    multipliers that keep it; the least interval whose stages together fit is found by bisection.
    Weights are stored as they are read, and line buffers have spare rows; block RAM is saved where
    no plan fits otherwise or a better one does, and for the smallest plan. Raises :class:`FitError`
    when even the smallest plan is too large.
    """
    pool = pool or CandidatePool(graph)
    refuse_too_large(graph, device, pool)
    leans = (True,) if goal.kind == "area" else (False, True)
    searches = [_Search(pool, device, board, lean, ways=goal.ways) for lean in leans]
    if goal.kind == "area" or goal.interval is not None:
        found = next(filter(None, (search.keeping(goal) for search in searches)), None)
    else:
        found = _best(searches, goal)
    if found is not None:
        return found
    for search in searches:
        least = search.smallest()
        lacks = shortfall(least.budgeted, device)
        if not lacks:
            return least
    raise FitError(
        f"the network does not fit {device.name}: at its smallest it needs {_listed(lacks)}", lacks
    )


def _best(searches: Sequence["_Search"], goal: Goal) -> Dataflow | None:
    """The best dataflow for ``goal`` within the first of the budgets in which the first of the
    searches finds one; what another finds within an earlier one stays if it is better.
    """
    plain, *others = searches
    found: Dataflow | None = None
    for number, budget in enumerate(plain.budgets(goal)):
        first = plain.better(found, budget, goal)
        rest = others if found is None else []
        found = first
        for search in rest:
            found = search.better(found, search.budgets(goal)[number], goal)
        if first is not None:
            break
    if found is not None and goal.kind != "balanced":
        for search in searches:
            hard = search.without_trees
            found = hard.sooner(found) if goal.kind == "latency" else hard.faster(found)
    return found


@dataclass(frozen=True)
class Occupancy:
    """The ``share`` of a device that the first ``stages`` of a network take at least; ``need`` is
    about what that comes from, ``least`` the fewest of each resource by itself.
    """

    share: float
    need: Resources
    least: Resources
    stages: int


def refuse_too_large(
    graph: ir.Graph, device: Device, pool: CandidatePool | None = None
) -> Occupancy:
    """The bound of :func:`occupancy`; raises :class:`FitError` for a network that is too large by
    far, before any search.
    """
    bound = occupancy(graph, device, pool)
    if bound.share <= _FAR or not shortfall(bound.need, device):
        return bound
    raise _too_large(graph, device, bound)


def _too_large(graph: ir.Graph, device: Device, bound: Occupancy) -> FitError:
    """The error for a network that is too large by the ``bound``, or by its weights alone."""
    stored, least, ops = _Weights.of(graph), bound.least, stage_ops(graph)
    why, bits = "", 0
    if stored.bits > _block_ram_bits(device):
        why, bits = f"; {stored.advice(device)}", stored.bits
        least = replace(least, bram=max(least.bram, stored.blocks(device)))
    elif bound.stages < len(ops):
        why = f", for {bound.stages} of its {len(ops)} stages alone"
    sure = shortfall(least, device)
    lacks = sure or shortfall(bound.need, device)
    return FitError(
        f"the network does not fit {device.name}: at its smallest it needs "
        f"{'at least' if sure else 'about'} {_listed(lacks)}{why}",
        [*lacks, *shortfall(Resources(), device, bits)],
    )


@dataclass(frozen=True)
class _Weights:
    """How many weights a network has, and the bits that they take."""

    number: int
    bits: int

    @classmethod
    def of(cls, graph: ir.Graph) -> "_Weights":
        layers = [op for op in graph if isinstance(op, ir.Conv)]
        return cls(
            sum(op.weight.size for op in layers),
            sum(op.weight.size * _fewest_bits(op) for op in layers),
        )

    def blocks(self, device: Device) -> int:
        """The block RAMs that hold them at least: some may be in all the LUTs."""
        outside = max(0, self.bits - device.target.table_bits * device.lut)
        return ceil(outside / device.target.block_ram_bits)

    def advice(self, device: Device) -> str:
        """What they take of the block RAMs, and what to do."""
        room = _block_ram_bits(device)
        free = device.bram - link(device).bram
        narrow = int(_FILLED * free * device.target.block_ram_bits / self.number)
        bits = f", or weights of {narrow} bits" if narrow >= _NARROW else ""
        return (
            f"its {_rounded(self.number)} weights take {_rounded(self.bits)}bit, the chip's block "
            f"RAMs hold {_rounded(room)}bit; use a smaller network{bits}"
        )


def _block_ram_bits(device: Device) -> int:
    return device.bram * device.target.block_ram_bits


def _fewest_bits(op: ir.Conv) -> int:
    """Bits of a weight in any code; those of -1, 0 and 1 take less than two."""
    bits = weight_bits(op)
    return 1 if bits <= _NARROW and int(op.weight.min()) >= -1 else bits


def _rounded(number: int) -> str:
    """A number in thousands or millions, as in "11.7 M"."""
    unit, size = ("M", 1e6) if number >= 1e6 else ("k", 1e3)
    return f"{number / size:,.0f} {unit}" if number >= 1e9 else f"{number / size:.3g} {unit}"


def occupancy(graph: ir.Graph, device: Device, pool: CandidatePool | None = None) -> Occupancy:
    """A lower bound on the share of ``device`` that the stages of ``graph`` take, without a search.

    Counted are the stages alone, each with at most one multiplier. A stage has a choice of
    memories, which trade logic for block RAM. For every weighting of the two the cheapest choices
    of all stages are a bound on what any choice takes; the bound is the largest of these, and that
    of the flip-flops. Stages behind those that are too large by far are not counted.
    """
    room = _room(device, device.target.logic_share), device.bram - link(device).bram
    registers = int(device.ff * device.target.register_share)
    needs = {mix: Resources() for mix in _MIXES}
    best, fewest = Occupancy(0.0, Resources(), Resources(), 0), 0
    for count, choices in enumerate((pool or CandidatePool(graph)).least(device), 1):
        fewest += min(each.ff for each in choices)
        for mix in _MIXES:
            needs[mix] += min(choices, key=lambda each: _share(each, device, room, mix))
        mix = max(_MIXES, key=lambda mix: _share(needs[mix], device, room, mix))
        share = max(_share(needs[mix], device, room, mix), fewest / registers)
        least = Resources(needs[0.0].lut, fewest, bram=needs[1.0].bram)
        best = Occupancy(share, needs[mix], least, count)
        if share > _FAR and shortfall(needs[mix], device):
            break
    return best


def _share(need: Resources, device: Device, room: tuple[int, int], mix: float) -> float:
    """The share of the logic and the block RAM of a device, weighted by ``mix``."""
    logic, bram = room
    return (1 - mix) * cells(need, device) / logic + mix * need.bram / bram


def _listed(lacks: Sequence[tuple[str, int, int]]) -> str:
    return ", ".join(f"{need:,} {name} of {have:,}" for name, need, have in lacks)


def least_interval(
    graph: ir.Graph, device: Device, board: str, pool: CandidatePool | None = None
) -> int:
    """The least interval, in cycles a frame, for which the DSP blocks suffice; a plan may need
    more where logic or block RAM is short.
    """
    search = _Search(pool or CandidatePool(graph), device, board, ways=Goal().ways, whole=True)
    budget = search.dsp_only()
    found = _least(search.intervals, lambda i: search.solver.enough(i, budget))
    return search.intervals[min(found, len(search.intervals) - 1)]


def shortfall(need: Resources, device: Device, weights: int = 0) -> list[tuple[str, int, int]]:
    """The resources that the device lacks: name, needed, available to a plan; for so many bits of
    ``weights``, the bits that all block RAMs hold.
    """
    needed = (cells(need, device), need.ff, need.dsp, need.bram, weights)
    there = available(device)
    return [
        (name, n, there[name]) for name, n in zip(there, needed, strict=True) if n > there[name]
    ]


def available(device: Device) -> dict[str, int]:
    """What a plan may take of the device, by the names that messages give."""
    return {
        device.target.logic_unit: _room(device, device.target.logic_share),
        "flip-flops": device.ff,
        "DSP blocks": device.dsp,
        "block RAMs": device.bram - link(device).bram,
        "bits for weights": _block_ram_bits(device),
    }


def _room(device: Device, share: float) -> int:
    """Logic cells for a plan."""
    return int(device.lut * share) - cells(link(device), device)


def assign_blocks(designs: Sequence[Design], device: Device) -> tuple[StagePlan, ...]:
    """The stages with DSP blocks granted to the largest arrays first, the other multipliers in soft
    logic. Where stages use the fast inner product, whose multipliers are wider, those come first
    that take most logic without.

    The blocks are placed in dataflow order, so that consecutive stages are neighbours on the chip.
    """
    granted = grant(
        [shape.stage.dsp_multipliers if shape.products_per_block else 0 for shape in designs],
        [shape.blocks for shape in designs],
        device.dsp,
        block_worth(designs),
    )
    placed, site = [], 0
    for shape, count in zip(designs, granted, strict=True):
        place = site if count and device.dsp_sites else None
        placed.append(replace(shape.stage, dsp_multipliers=count, site=place))
        site += shape.blocks(count)
    return tuple(placed)


class _Search:
    """Plans of one network for one device.

    Minimal filtering in both directions is for what is not reached without: each layer with it
    takes more block RAM and flip-flops, and lengthens the queues of the paths beside it. ``whole``:
    a search with all ``ways``.
    """

    def __init__(
        self,
        pool: CandidatePool,
        device: Device,
        board: str,
        lean: bool = False,
        *,
        ways: Sequence[Products],
        whole: bool = False,
    ):
        graph = pool.graph
        self.graph, self.device, self.board = graph, device, board
        self.pool, self.lean, self.ways, self.whole = pool, lean, tuple(ways), whole
        used = self.ways if whole else tuple(way for way in self.ways if way.directions < 2)
        every = pool.stages(device, lean, used)
        stages = tuple(stage.smallest for stage in every)
        template = Dataflow(graph, Plan(board, stages, {}), device)
        self.stages = by_turns(every, template)
        self.solver = FoldingSolver(self.stages, template)
        self.intervals = self.solver.intervals()

    def keeping(self, goal: Goal) -> Dataflow | None:
        """The smallest dataflow, or the first that keeps the interval of ``goal``."""
        if goal.interval is None:
            return self._first(self.intervals[-1], [self._budget(self.device.target.logic_share)])
        return self._keeping(goal.interval, [self.dsp_only(), *self._soft()])

    def budgets(self, goal: Goal) -> list[Budget]:
        """Those for the best dataflow, of which the first in which there is one is taken."""
        return [self.dsp_only()] if goal.kind == "balanced" else self._soft()

    def better(self, found: Dataflow | None, budget: Budget, goal: Goal) -> Dataflow | None:
        """The dataflow for ``goal`` that keeps ``budget``, if it is better than ``found``, with the
        lower of both bounds; a latency near its bound stays as it is.
        """
        if goal.kind != "latency":
            return self.below(found, budget) if found else self.fastest(budget)
        bound = found.plan.bound_latency if found else None
        if found and bound and latency(found) <= _NEAR * bound:
            return found
        other = self.shortest(budget)
        if found is None or other is None:
            return found or other
        bounds = [b for b in (bound, other.plan.bound_latency) if b is not None]
        best = min(found, other, key=latency)
        return best.replanned(bound_latency=min(bounds, default=None))

    @cached_property
    def _wider(self) -> "_Search | None":
        """The search with all ways, where there are more and a layer has a choice of them."""
        if self.whole or all(way.directions < 2 for way in self.ways):
            return None
        found = _Search(self.pool, self.device, self.board, self.lean, ways=self.ways, whole=True)
        return found if any(stage.directions == 2 for stage in found.stages) else None

    @cached_property
    def without_trees(self) -> "_Search":
        """The search without trees of adders, which are in soft logic whole."""
        ways = [way for way in self.ways if way is not Products.TREES]
        return _Search(self.pool, self.device, self.board, self.lean, ways=ways)

    @property
    def looped(self) -> bool:
        return any(isinstance(stage, TurnCandidates) for stage in self.stages)

    def _soft(self) -> list[Budget]:
        """With multipliers in soft logic, which need room for the routing, or else without it."""
        target = self.device.target
        return [self._budget(target.soft_logic_share), self._budget(target.logic_share)]

    def _budget(self, share: float, soft: int | None = None) -> Budget:
        device = self.device
        return Budget(
            _room(device, share),
            int(device.ff * device.target.register_share),
            device.dsp,
            device.bram - link(device).bram,
            soft,
        )

    def dsp_only(self) -> Budget:
        """A budget without soft multipliers, or with only as many as the smallest plan needs."""
        wanted = [stage.fewest(self.intervals[-1]) or 0 for stage in self.stages]
        return self._budget(
            self.device.target.logic_share, sum(self.solver.soft(wanted, self.device.dsp))
        )

    def _keeping(self, interval: int, budgets: Sequence[Budget]) -> Dataflow | None:
        """The first plan within ``interval``; queues that were not expected may make a turn longer,
        then one with shorter turns.
        """
        limit, found = interval, None
        for _ in range(_ROUNDS):
            within = self.intervals[: max(1, bisect_right(self.intervals, limit))]
            found = self._first(within[-1], budgets)
            if found is None or found.interval <= interval or len(within) == 1:
                break
            limit = within[-1] - (found.interval - interval)
        return found

    def _first(self, interval: int, budgets: Sequence[Budget]) -> Dataflow | None:
        searches = [self, *filter(None, [self._wider])]
        tried = (search.plan(interval, budget) for budget in budgets for search in searches)
        return next(filter(None, tried), None)

    def fastest(self, budget: Budget) -> Dataflow | None:
        """The dataflow of the least interval, with the bound on it."""
        found, bound = self._fastest(budget, self.intervals)
        if found is None:
            return None
        found = found.replanned(bound_interval=bound)
        return self._wider.below(found, budget) if self._wider else found

    def faster(self, found: Dataflow) -> Dataflow:
        """``found``, which has soft multipliers, or a faster one without: that may use more of the
        logic, of which soft multipliers leave a part free for the routing.
        """
        return self.below(found, self.dsp_only())

    def below(self, found: Dataflow, budget: Budget) -> Dataflow:
        """``found``, or a faster one that keeps ``budget``; with the lower of both bounds."""
        within = self.intervals[: bisect_left(self.intervals, found.interval)]
        other, least = self._fastest(budget, within) if within else (None, None)
        best = min(filter(None, (found, other)), key=lambda one: one.interval)
        bound = found.plan.bound_interval
        if bound is not None:
            lower = within[: bisect_left(within, bound)]
            # without a plan the bound may be lower all the same: seldom, so that is asked first
            if least is None and lower and self.solver.suffices(lower[-1], budget):
                least = lower[self._bound(budget, lower)]
            bound = min(filter(None, (bound, least)))
        best = best.replanned(bound_interval=bound)
        return self._wider.below(best, budget) if self._wider else best

    def sooner(self, found: Dataflow) -> Dataflow:
        """``found``, which has soft multipliers, or the fastest one without where that has less
        latency; on that there is no bound.
        """
        budget = self.dsp_only()
        within = self.intervals[: bisect_left(self.intervals, found.interval)]
        if not within or not self.solver.enough(within[-1], budget):
            return found
        hard = self.fastest(budget)
        if hard is None or latency(hard) >= latency(found):
            return found
        return hard.replanned(bound_interval=None)

    def _fastest(
        self, budget: Budget, intervals: Sequence[int]
    ) -> tuple[Dataflow | None, int | None]:
        """The dataflow of the least of some ``intervals``, and the bound on it."""
        slowest = self.plan(intervals[-1], budget)
        if slowest is None:
            return None, None  # known soonest at the slowest, where the candidates are fewest
        bound = self._bound(budget, intervals)
        plans: dict[int, Dataflow | None] = {intervals[-1]: slowest}

        def planned(interval: int) -> bool:
            if interval not in plans:
                plans[interval] = self.plan(interval, budget)
            return plans[interval] is not None

        found = (
            bound
            if planned(intervals[bound])
            else (bound + 1 + _least(intervals[bound + 1 :], planned))
        )
        if self.looped and found < len(intervals):
            close = bisect_right(intervals, int(_CLOSE * intervals[found])) - 1
            found = close if planned(intervals[close]) else found
        fastest = plans.get(intervals[found]) if found < len(intervals) else None
        if fastest is None or self.looped:  # of a turn there is no bound
            return fastest, None
        return fastest, min(intervals[bound], fastest.interval)

    def _bound(self, budget: Budget, intervals: Sequence[int]) -> int:
        """The index of the first of some ``intervals`` for which ``budget`` suffices but for queues
        and converters; their number if none does.
        """
        enough = _least(intervals, lambda i: self.solver.enough(i, budget))
        return enough + _least(intervals[enough:], lambda i: self.solver.suffices(i, budget))

    def plan(self, interval: int, budget: Budget) -> Dataflow | None:
        """The dataflow of the fewest multipliers that keeps ``interval`` and ``budget``.

        The cost of queues and converters is known only for a plan. It is subtracted from the
        budget, and the choice is repeated, until the whole plan keeps the budget.
        """
        left = budget
        for _ in range(_ROUNDS):
            chosen = self.solver.choose(interval, left)
            if chosen is None:
                return None
            network = self._network(chosen, interval)
            if self._within(network, budget):
                return network
            left = self._remaining(network, budget, chosen)
        return None

    def shortest(self, budget: Budget) -> Dataflow | None:
        """A dataflow of about the least latency, with the bound on it."""
        from .latency_optimizer import LatencyOptimizer

        fastest = self.fastest(budget)
        if fastest is None:
            return None
        least = network = fastest
        slowest = int(_SLOWER * least.interval)
        optimizer = LatencyOptimizer(self.solver, budget, slowest)
        left = self._remaining(network, budget)
        for _ in range(_ROUNDS):
            before, fitting = network, []
            for chosen in optimizer.choices(left):
                network = self._network(chosen, slowest, eager=True)
                # of all that did not fit, or what one of them lacked could be missing again
                left = left.within(self._remaining(network, budget, chosen))
                if self._within(network, budget):
                    fitting.append(network)
                elif not fitting:
                    break
            least = min([least, *fitting], key=latency)
            if fitting or network is before:
                break
        bound = min(optimizer.bound, latency(least))
        return least.replanned(bound_interval=None, bound_latency=bound)

    def _within(self, network: Dataflow, budget: Budget) -> bool:
        need = network.budgeted
        return budget.holds(cells(need, self.device), need.ff, need.bram)

    def _remaining(
        self, network: Dataflow, budget: Budget, chosen: Sequence[Candidate] = ()
    ) -> Budget:
        """The budget of the stages: the whole without queues and converters as in ``network``, and
        without what the stages ``chosen`` for it take more than the solver knows, where some use
        the fast inner product and some of the multipliers are in soft logic.
        """
        rest = network.outside_stages
        left = budget.less(cells(rest, self.device), rest.ff, rest.bram)
        if not any(o.products.paired or o.products.directions for o in chosen):
            return left
        known = self.solver.need(chosen, budget.blocks)
        found = total(d.resources(self.device) for d in network.designs.values())
        more = cells(found, self.device) - known[0], found.ff - known[1]
        return left.less(max(0, ceil(more[0])), max(0, ceil(more[1])), 0)

    def smallest(self) -> Dataflow:
        """The dataflow of the fewest multipliers, whether it fits or not."""
        interval = self.intervals[-1]
        chosen = [stage.within(interval)[0] for stage in self.stages]
        return self._network(chosen, interval)

    def _network(
        self, chosen: Sequence[Candidate], interval: int, *, eager: bool = False
    ) -> Dataflow:
        stages = assign_blocks([candidate.design for candidate in chosen], self.device)
        lanes = self.solver.lanes_in(chosen, interval, eager=eager) or [1] * len(self.graph.inputs)
        names = [port.name for port in self.graph.inputs]
        plan = Plan(self.board, stages, {}, dict(zip(names, lanes, strict=True)))
        return with_queues(Dataflow(self.graph, plan, self.device))


def _least(values: Sequence[int], suffices: Callable[[int], bool]) -> int:
    """The index of the first of rising values that ``suffices``; their number if none does."""
    return bisect_left(values, True, key=suffices)
