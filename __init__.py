"""From a trained ONNX network to a verified FPGA bitstream, with open tools alone.

import gatewright as gw

network = gw.load("model.onnx")                      # the float (or QDQ) network
integers = gw.quantize(network, samples)             # int8, calibrated on samples
plan = gw.plan(integers, "ulx3s-85f")                # folding, cost, interval, latency
compiled = gw.compile("model.onnx", "out", board="ulx3s-85f", samples=samples)
gw.simulate(compiled, samples)                       # RTL against the golden model
gw.build(compiled)                                   # bitstream
"""

from .api import build, compile, load, plan, quantize, simulate
from .compiler.errors import GatewrightError

__all__ = ["GatewrightError", "build", "compile", "load", "plan", "quantize", "simulate"]
