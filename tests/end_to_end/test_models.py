"""Real trained networks of a folder (``--models DIR``), whole, on the largest board; one on a board
whose block RAMs must be packed for it.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from gatewright import boards
from gatewright.compiler.driver import compile_model
from gatewright.compiler.frontend import load
from gatewright.sim.simulate import simulate

FOLDER = os.environ.get("GATEWRIGHT_MODELS")
NAMES = (
    "iris_mlp_winml_fp32",
    "hello_world_sine_int8_qdq",
    "mnist-8_cntk_fp32",
    "mnist8_int8_qdq",
    "residual_block_fp32",
    "magic_wand_int8_qdq",
    "micro_speech_int8_qdq",
    "kws_dscnn7k_alibaba_fp32",
    "kws_dscnn7k_alibaba_int8_qdq_perchan",
    "ad01_mlperf_autoencoder_int8_qdq",
    "ic_resnet8_mlperf_int8_qdq",
    "ic_resnet8_mlperf_fp32",
)

pytestmark = pytest.mark.skipif(not FOLDER, reason="--models names no folder of models")


def random_samples(port, count):
    rng = np.random.default_rng(20261122)
    dtype = np.dtype(port.dtype)
    if dtype.kind == "f":
        return rng.normal(size=(count, *port.shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, (count, *port.shape)).astype(dtype)


@pytest.mark.parametrize(
    ("name", "board"),
    [*((name, "ulx3s-85f") for name in NAMES), ("ic_resnet8_mlperf_int8_qdq", "ulx3s-25f")],
)
def test_a_network_runs_bit_exactly_at_the_planned_interval(name, board, tmp_path):
    model, board = Path(FOLDER) / f"{name}.onnx", boards.get(board)
    x = random_samples(load(model).inputs[0], 32)
    compiled = compile_model(model, tmp_path / "out", board.device, board.name, samples=x)
    done = simulate(compiled, x, 3)
    assert done.passed, done.report
    assert done.summary["interval_cycles"] == compiled.network.interval
    assert simulate(compiled, x, 3, stall=0.3).passed
