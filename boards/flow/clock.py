"""The clock of the accelerator: PLL settings for a requested frequency, and the clock domains."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from amaranth import ClockDomain, ClockSignal, Const, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib.cdc import ResetSynchronizer

from ...compiler.errors import PlanError
from ..board import Board
from . import flow_of
from .base import Bypass, LoopPll, Pll

__all__ = [
    "ClockGenerator",
    "check_reachable",
    "choose",
    "constant",
    "highest",
    "synthesized",
    "tuned",
]

CLOSE_ENOUGH = 0.005


def choose(board: Board, target_mhz: float) -> Pll:
    """The settings whose clock is nearest to ``target_mhz``.

    A clock up to 0.5 % above the target counts as the target; failing that, the highest below it
    is taken. Timing is to be checked against the result's ``output_mhz``. Raises ``PlanError`` when
    the board can not make a clock that low.
    """
    legal = _legal(board)
    above = [
        pll for pll in legal if target_mhz <= pll.output_mhz <= target_mhz * (1 + CLOSE_ENOUGH)
    ]
    if above:
        return min(above, key=lambda pll: (pll.output_mhz, *pll.jitter))
    below = [pll for pll in legal if pll.output_mhz < target_mhz]
    if below:
        return min(below, key=lambda pll: (-pll.output_mhz, *pll.jitter))
    raise _out_of_range(board, legal, target_mhz)


def highest(board: Board, mhz: float) -> float | None:
    """The highest clock up to ``mhz`` that the board can make; None if all are higher."""
    return max((pll.output_mhz for pll in _legal(board) if pll.output_mhz <= mhz), default=None)


def synthesized(board: Board, pll: Pll) -> Pll:
    """The settings that the chip is synthesized with, to be replaced by those of ``pll`` with
    :func:`tuned`. They are the same for all clocks if nothing else depends on the clock, so that
    one netlist serves them all.
    """
    usual = choose(board, board.target_mhz)
    only_settings = isinstance(pll, LoopPll) and pll.board_mhz is not None
    return usual if only_settings and type(usual) is type(pll) else pll


def tuned(netlist: Mapping[str, Any], board: Board, pll: Pll) -> Mapping[str, Any]:
    """A netlist as yosys writes it, of the settings :func:`synthesized`, with its loop set to
    ``pll``.
    """
    if not isinstance(pll, LoopPll) or pll == synthesized(board, pll):
        return netlist
    loop = pll.instance(board, Signal(), ClockSignal(), Signal())
    settings = {
        "parameters": {key: constant(value) for key, value in loop.parameters.items()},
        "attributes": {key: constant(value) for key, value in loop.attrs.items()},
    }

    def set_(cell: Mapping[str, Any]) -> Mapping[str, Any]:
        if cell["type"] != loop.type:
            return cell
        return {**cell, **{part: cell[part] | values for part, values in settings.items()}}

    modules = {
        name: {**module, "cells": {key: set_(cell) for key, cell in module["cells"].items()}}
        for name, module in netlist["modules"].items()
    }
    return {**netlist, "modules": modules}


def constant(value: object) -> str:
    """A parameter as it is in yosys' JSON netlists: a string that could be bits ends in a space."""
    if isinstance(value, Const):
        return f"{value.value:0{len(value)}b}"
    if isinstance(value, int):
        return f"{value:032b}"
    return f"{value} " if re.fullmatch("[01xz]* *", str(value)) else str(value)


def check_reachable(board: Board, target_mhz: float) -> None:
    """Raise ``PlanError`` for a clock above the highest that the board can make."""
    legal = _legal(board)
    if target_mhz > max(pll.output_mhz for pll in legal) * (1 + CLOSE_ENOUGH):
        raise _out_of_range(board, legal, target_mhz)


def _legal(board: Board) -> list[Pll]:
    """Every way to make a clock from the board's own."""
    settings = flow_of(board.device.target).pll_settings(board.clock_mhz)
    return [Bypass(board.clock_mhz), *settings]


def _out_of_range(board: Board, legal: Sequence[Pll], target_mhz: float) -> PlanError:
    clocks = [pll.output_mhz for pll in legal]
    return PlanError(
        f"{board.name} can not be clocked at {target_mhz:g} MHz: from its {board.clock_mhz:g} MHz "
        f"the lowest clock is {min(clocks):.3f} MHz and the highest {max(clocks):.3f} MHz; choose "
        "one between"
    )


class ClockGenerator(Elaboratable):
    """Drives the domain ``sync`` from the board's clock, in reset until the clock is steady.

    Parameters
    ----------
    board : whether the clock pin is a PLL pad is taken from here
    pll : from ``choose``
    clk : the board's clock pin, one bit
    board_domain : name of a domain that runs on the board's own clock, in reset as long as ``sync``
        is; for a ``pll`` with ``board_mhz``
    """

    # iCE40's block RAMs read zero for about 3 us after configuration.
    POWER_ON_CYCLES = 1023

    def __init__(
        self, board: Board, pll: Pll, clk: Signal, board_domain: str | None = None
    ) -> None:
        self.board, self.pll, self.clk = board, pll, clk
        self.board_domain = board_domain

    def elaborate(self, platform: object) -> Module:
        m = Module()
        steady, clock = Signal(), ClockSignal()
        if isinstance(self.pll, LoopPll):
            m.submodules.pll = self.pll.instance(self.board, self.clk, clock, steady)
        else:
            m.d.comb += clock.eq(self.clk)
            self._wait(m, steady)
        self._reset(m, "sync", steady)
        if self.board_domain is not None:
            m.d.comb += ClockSignal(self.board_domain).eq(self.clk)
            self._reset(m, self.board_domain, steady)
        return m

    def _reset(self, m: Module, domain: str, steady: Signal) -> None:
        name = f"{domain}_waking"
        waking = ClockDomain(name, local=True)
        m.domains += waking
        m.d.comb += waking.clk.eq(ClockSignal(domain))
        m.submodules[f"{domain}_reset"] = ResetSynchronizer(~steady, domain=name, stages=3)
        # Plain registers after it, which may lie on the way to what they reset.
        near, nearer = (
            Signal(init=1, reset_less=True, name=f"{domain}_{register}")
            for register in ("near", "nearer")
        )
        m.d[name] += [near.eq(waking.rst), nearer.eq(near)]
        m.d.comb += ResetSignal(domain).eq(nearer)

    def _wait(self, m: Module, steady: Signal) -> None:
        m.domains.por = power_on = ClockDomain("por", reset_less=True, local=True)
        m.d.comb += power_on.clk.eq(self.clk)
        left = Signal(range(self.POWER_ON_CYCLES + 1), init=self.POWER_ON_CYCLES)
        with m.If(left == 0):
            m.d.por += steady.eq(1)
        with m.Else():
            m.d.por += left.eq(left - 1)
