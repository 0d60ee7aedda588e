"""From a trained ONNX network to a verified FPGA bitstream, with open tools alone.

import gatewright as gw

gw.check("model.onnx")                               # every node's verdict, and the boards it fits
network = gw.load("model.onnx")                      # the float (or QDQ) network
integers = gw.quantize(network, samples)             # int8, calibrated on samples
plan = gw.plan(integers, "ulx3s-85f")                # folding, cost, interval, latency
compiled = gw.compile("model.onnx", "out", board="ulx3s-85f", samples=samples)
gw.simulate(compiled, samples)                       # RTL against the golden model
gw.accuracy(compiled, samples, labels)               # integers against floats
gw.build(compiled)                                   # bitstream; "max": the highest clock
gw.bench(compiled, samples)                          # FPGA against this CPU
gw.report(compiled)                                  # the path of the page
gw.flash(compiled)                                   # into the board
gw.run(compiled, samples)                            # on the board; port="emulate": without one
gw.stream(compiled, "camera")                        # an answer for each sample as it comes
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        accuracy,
        bench,
        build,
        check,
        compile,
        emulate,
        explore,
        flash,
        load,
        open,
        plan,
        quantize,
        report,
        run,
        simulate,
        stream,
        with_states,
    )
    from .compiler.errors import GatewrightError

__all__ = [
    "GatewrightError",
    "accuracy",
    "bench",
    "build",
    "check",
    "compile",
    "emulate",
    "explore",
    "flash",
    "load",
    "open",
    "plan",
    "quantize",
    "report",
    "run",
    "simulate",
    "stream",
    "with_states",
]


def __getattr__(name: str) -> Any:
    """A function of :mod:`~gatewright.api`, imported at its first use: a command does not wait for
    the parts of the package that it does not need.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".compiler.errors" if name == "GatewrightError" else ".api"
    return getattr(import_module(module, __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
