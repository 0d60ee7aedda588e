"""Summaries as the steps leave them."""

__all__ = ["ALL", "DRAWN", "POINTS"]


def _part(stage, **cycles):
    kinds = ("writing", "computing", "pipeline", "streams", "waiting")
    return {"stage": stage, **dict.fromkeys(kinds, 0), **cycles}


COMPILE = {
    "model": "net.onnx",
    "board": "ulx3s-25f",
    "macs": 1_500_000,
    "interval_cycles": 4000,
    "latency_cycles": 6000,
    "latency_parts": [
        _part(None, waiting=64),
        _part("s00_conv", writing=100, computing=4800, pipeline=30, streams=2),
        _part("s01_maxpool", computing=990, pipeline=10, streams=4),
    ],
    "multipliers": 20,
    "products_per_cycle": 20,
    "fits": True,
    "shortfall": [],
    "inputs": [
        {
            "name": "image <in>",
            "shape": [1, 8, 8],
            "dtype": "float32",
            "stream": "i8",
            "lanes": 1,
            "beats": 64,
        }
    ],
    "outputs": [
        {
            "name": "scores",
            "shape": [10],
            "dtype": "float32",
            "stream": "i8",
            "lanes": 2,
            "beats": 5,
        }
    ],
    "layers": [
        {
            "name": "conv <1>",
            "op": "Conv",
            "output": "a",
            "stage": "s00_conv",
            "macs": 1_000_000,
            "simd": 4,
            "pe": 4,
            "cycles": 4000,
            "multipliers": 16,
            "memory_bits": 9000,
            "block_rams": 2,
        },
        {
            "name": "pool",
            "op": "MaxPool",
            "output": "b",
            "stage": "s01_maxpool",
            "macs": 0,
            "simd": 1,
            "pe": 2,
            "cycles": 1000,
            "multipliers": 0,
            "memory_bits": 600,
            "block_rams": 0,
        },
    ],
    "estimate": {"lut": 5000, "ff": 4000, "dsp": 20, "bram": 7},
    "available": {"lut": 24288, "ff": 24288, "dsp": 28, "bram": 56},
}

SIMULATE = {
    "frames": 3,
    "values": 12_345,
    "mismatches": 0,
    "first_mismatch": None,
    "latency_cycles": 6001,
    "interval_cycles": 4000,
    "stall": 0.0,
    "simulator": "Verilator 5.048",
    "level": "rtl",
    "cycles_per_second": 150_000.0,
    "wall_seconds": 0.1,
}

BUILD = {
    "fmax_mhz": 161.25,
    "routed_mhz": 161.25,
    "highest_mhz": 160.0,
    "target_mhz": 150.0,
    "clock_mhz": 150.0,
    "timing_met": True,
    "utilization": {
        "lut": {"used": 6250, "available": 24288},
        "dsp": {"used": 20, "available": 28},
        "ff": {"used": 5000, "available": 24288},
    },
    "bitstream": "build/ulx3s-25f.bit",
    "tools": {"yosys": "0.70"},
    "seed": 2,
    "seeds": {"1": 140.0, "2": 161.25},
    "median_mhz": 150.6,
    "limit_mhz": 287.0,
    "limit_reason": "MULT18X18D",
    "wall_seconds": 62.0,
}

BENCH = {
    "fpga": {
        "latency_us": 40.0,
        "fps": 37_500.0,
        "gmacs": 56.25,
        "mac_utilization": 0.9,
        "device_utilization": None,
        "clock_mhz": 150.0,
        "clock_source": "board target (not built)",
        "cycles_source": "simulated",
        "how": "simulated",
    },
    "cpu": [
        {
            "name": "ONNX Runtime int8",
            "threads": 1,
            "latency_us": 80.0,
            "fps": 15_000.0,
            "fps_batch": 32,
            "how": "measured",
        }
    ],
    "speedup": [{"name": "ONNX Runtime int8", "threads": 1, "latency": 2.0, "fps": 2.5}],
    "inputs": "50 samples",
    "machine": {"cpu": "a CPU", "cores": 4, "python": "3.11", "onnxruntime": "1.31", "numpy": "2"},
}

LAYER_ROW = {
    "name": "conv <1>",
    "op": "Conv",
    "output": "a",
    "values": 1_000_000,
    "differing": 3,
    "fraction": 3e-6,
    "largest": 1,
}

ACCURACY = {
    "samples": 50,
    "labelled": True,
    "float": {"top1": 0.98, "right": 49, "model": "ONNX Runtime 1.31"},
    "integer": {"top1": 0.96, "right": 48, "model": "golden model"},
    "agreement": 0.98,
    "sqnr": {
        "frames": 50,
        "layers": [
            {"name": "conv <1>", "op": "Conv", "output": "a", "sqnr_db": 33.25},
            {"name": "pool", "op": "MaxPool", "output": "b", "sqnr_db": None},
        ],
    },
    "reference_runtime": {
        "runtime": "ONNX Runtime 1.31, optimizations off",
        "end_to_end": {"frames": 50, "agreement": 1.0, "fraction": 0.0, "largest": 0.0},
        "layer_by_layer": {
            "frames": 50,
            "values": 1_000_000,
            "differing": 3,
            "fraction": 3e-6,
            "largest": 1,
            "layers": [LAYER_ROW],
            "missing": ["pool"],
        },
    },
    "how": "computed",
}

ALL = {
    "compile": COMPILE,
    "simulate": SIMULATE,
    "build": BUILD,
    "bench": BENCH,
    "accuracy": ACCURACY,
}

POINTS = [
    {
        "target": 4000,
        "interval": 4000,
        "latency": 6000,
        "multipliers": 20,
        "lut": 5000,
        "ff": 4000,
        "dsp": 20,
        "bram": 7,
        "share": 0.3,
        "fps": 25000.0,
        "plan": "plans/4000-abc.json",
        "built": {"timing_met": True, "fmax_mhz": 131.5, "clock_mhz": 100.0, "fps": 25000.0},
        "fits": True,
        "pareto": True,
    },
    {
        "target": 8000,
        "interval": 8000,
        "latency": 9000,
        "multipliers": 12,
        "lut": 5100,
        "ff": 3000,
        "dsp": 21,
        "bram": 7,
        "share": 0.29,
        "fps": 12500.0,
        "plan": "plans/8000-abc.json",
        "built": None,
        "fits": True,
        "pareto": False,
    },
]


def _stream(source, sink, shape, queue=0):
    return {
        "source": source,
        "output": 0,
        "sink": sink,
        "input": 0,
        "value": "v",
        "shape": shape,
        "type": "i8",
        "bits": 8,
        "lanes": 1,
        "queue": queue,
    }


def _more(row, **values):
    estimate = {"lut": 900, "ff": 800, "dsp": 16, "weight_bits": 8, "type": "i8"}
    return row | {"shape": [8, 8, 4], "kind": "windowed"} | estimate | values


#: with all that the drawings show
DRAWN = {
    "compile": COMPILE
    | {
        "layers": [_more(row) for row in COMPILE["layers"]],
        "streams": [
            _stream(None, "s00_conv", [8, 8, 1]),
            _stream("s00_conv", "s01_maxpool", [8, 8, 4], queue=32),
            _stream("s01_maxpool", None, [1, 1, 10]),
        ],
        "device_multipliers": 28,
        "memory_bits_per_cycle": 2016,
    },
    "simulate": SIMULATE
    | {
        "activity": {
            "span": 100,
            "spans": 3,
            "cycles": 350,
            "first_beat": 120,
            "frames": [[0, 210], [90, 330]],
            "stages": [
                {
                    "name": name,
                    "busy": [100, 60, 0],
                    "stalled": [0, 40, 0],
                    "busy_cycles": 160,
                    "stalled_cycles": 40,
                    "starved_cycles": 150,
                    "beats": 16,
                    "output_waits": 50,
                    "input_waits": 20,
                }
                for name in ("s00_conv", "s01_maxpool")
            ],
            "queues": [
                {
                    "stage": "s01_maxpool",
                    "input": 0,
                    "value": "v",
                    "depth": 32,
                    "peak": 20,
                    "mean": 4.5,
                    "peaks": [20, 3, 0],
                }
            ],
        }
    },
    "build": BUILD | {"link": {"baud": 1_000_000}},
    "layout": {
        "parts": ["s00_conv", "s01_maxpool", "link"],
        "columns": 4,
        "rows": 3,
        "tiles": [[0, 0, 0, 8], [1, 2, 1, 3], [3, 2, 2, 5]],
        "cells": {"s00_conv": {"lut": 1000, "dsp": 16}, "s01_maxpool": {"lut": 90}, "link": {}},
        "critical_path": [
            {
                "part": "s00_conv",
                "cell": "a.b",
                "at": [0, 0],
                "delay_ns": 2.5,
                "type": "logic",
            },
            {"part": "link", "cell": "c", "at": [3, 2], "delay_ns": 1.5, "type": "routing"},
        ],
        "how": "routed",
        "seed": 2,
    },
    "bench": BENCH,
    "accuracy": ACCURACY
    | {
        "histograms": [
            {
                "name": "conv $<1>$",
                "output": "a",
                "low": -2,
                "high": 1,
                "integer": [0, 1, 5, 3, 1, 0],
                "float": [1, 1, 5, 3, 0, 0],
            }
        ],
        "confusion": [[24, 1], [1, 24]],
        "examples": [
            {
                "index": 3,
                "label": 1,
                "float": 1,
                "integer": 0,
                "best": [[0, 0.5]],
                "curve": [0.0, 0.5, 1.0],
            },
            {
                "index": 4,
                "label": 1,
                "float": 1,
                "integer": 1,
                "best": [[1, 0.9]],
                "image": "iVBORw0KGgo=",
            },
        ],
    },
    "commands": {
        "compile": {"command": "gatewright compile 'a b.onnx'", "versions": {"numpy": "2.0"}}
    },
}
