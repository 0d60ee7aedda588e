"""Other dialects of quantization, rewritten to QuantizeLinear, float operators, DequantizeLinear.

Each module rewrites the node list of a :class:`~..source.Source` before the importer walks it;
nothing after that knows where a network came from.
"""

from collections.abc import Mapping

from ..scans import inlined
from ..source import Source
from . import (
    branches,
    float_types,
    function_bodies,
    integer_graphs,
    integer_sums,
    numbers,
    pipelines,
    qonnx,
    qoperator,
    roundings,
)
from .rewriting import Rewrite

__all__ = ["BECOMES", "DIALECTS", "standard"]

#: the rewrites, in the order in which they run
DIALECTS: tuple[Rewrite, ...] = (
    inlined,
    pipelines.pipelines,
    function_bodies.function_bodies,
    branches.taken_branches,
    float_types.single_precision,
    integer_graphs.integer_graphs,
    qonnx.quantizers,
    qoperator.static_operators,
    integer_sums.integer_sums,
    numbers.plain_numbers,
    roundings.single_roundings,
)

#: what the operators of the dialects become, by their names with domain
BECOMES: Mapping[str, str] = {
    "Scan": "the operators of its body, over all rows; each state a `Delay`",
    **{name: rule.becomes for name, rule in qoperator.RULES.items()},
    **integer_sums.OPERATORS,
    **pipelines.OPERATORS,
    **{f"qonnx.custom_op.general::{name}": becomes for name, becomes in qonnx.OPERATORS.items()},
}


def standard(source: Source) -> Source:
    """``source`` in float operators, QuantizeLinear and DequantizeLinear; itself when it is so.

    Raises ModelError for a node of a dialect that has no exact form in those.
    """
    for rewrite in DIALECTS:
        source = rewrite(source)
    return source
