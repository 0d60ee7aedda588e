"""Words of hardware, for a reader who knows networks: shown where the pointer rests, and listed."""

from collections.abc import Mapping

__all__ = ["HOW", "TERMS"]

#: where a figure comes from
HOW: Mapping[str, str] = {
    "estimated": "by the planner's formulas and cost model, before any tool ran",
    "simulated": "counted in a cycle-exact simulation of the RTL",
    "routed": "by place and route, for this chip",
    "measured": "run and timed, on the CPU of this machine",
    "computed": "by a formula from such figures, or by the arithmetic of the networks on samples",
}

TERMS: Mapping[str, str] = {
    "interval": "cycles from one frame to the next: the slowest stage decides it",
    "latency": "cycles from a frame's first beat in to its last beat out",
    "stage": "a piece of hardware of its own that computes one layer, or a few; all work at once",
    "beat": "what a stream carries in one cycle: some channels of one pixel",
    "simd": "products of one sum that a stage computes in a cycle",
    "pe": "output channels that a stage computes in a cycle",
    "fold": "a layer larger than its simd x pe multipliers passes through them in several cycles",
    "busy": "the stage computes, the zeros of padded folds as well",
    "starved": "the stage waits for its input",
    "stalled": "a result waits until the next stage takes it",
    "queue": "memory between two stages that lets one run ahead",
    "LUTs": "look-up tables of four inputs: the FPGA's logic",
    "logic cells": "a LUT and a flip-flop each; a cell in use may hold only one of the two",
    "flip-flops": "registers of one bit",
    "DSP blocks": "multipliers in hardware",
    "block RAMs": "memories on the chip, for weights, lines of feature maps and long queues",
    "MAC utilization": "products of a frame, of those that the multipliers could give in that time",
    "MACs": "products that are added up: multiply-accumulate operations",
    "SQNR": "signal to quantization noise ratio: 6 dB more are one bit more",
    "own SQNR": "the noise that a layer adds by itself, its inputs taken as exact",
    "critical path": "the slowest way from register to register: it limits the clock",
    "seed": "place and route begins at random; another seed gives another result",
    "golden model": "the network in exact integers: what the hardware must give, bit by bit",
}
