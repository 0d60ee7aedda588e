"""The node tests of the ONNX standard: no one crashes, and every accepted one is right.

With ``-s`` it prints how many are accepted, and why the others are refused. Those of operators that
no small network holds (``node_tests.OUTSIDE``) run too, but are not counted.
"""

import re
import sys
from collections import Counter

import pytest

from .node_tests import cases, small, tried

PARTS = 4
#: accepted tests of each part, at least, of operators that a small network can hold
ACCEPTED = 185

#: tests whose expected results are not those of this project, and why
OTHERWISE = {
    "test_resize_downsample_scales_cubic_align_corners": "expects a fractional size, which ONNX "
    "Runtime does not use either",
    "test_bitshift_left_int32_overflow": "expects results that leave the range of int32 to wrap "
    "around; integers of more than 16 bits are read as real numbers",
    "test_l2normalization_axis_0": "divides 0 by 0; in integers that is 0, in floats NaN",
}


def kind(reason):
    """A refusal without the names of files and nodes."""
    return re.sub(r"^(/\S+: )?\S+ \(|\).*|(accepted|;).*", "", reason)[:70]


@pytest.mark.parametrize("part", range(PARTS))
def test_node_tests_of_the_standard(part):
    every = [(small(case), tried(case)) for case in cases()[part::PARTS]]
    outside = Counter(reason for reason, _ in every if reason)
    verdicts = [verdict for reason, verdict in every if not reason]
    accepted = [one for one in verdicts if one.accepted]
    refused = Counter(kind(one.reason) for one in verdicts if not one.accepted)
    lines = [f"\n{len(accepted)} of {len(verdicts)} node tests are accepted; the others:"]
    lines += [f"{count:5} {reason}" for reason, count in refused.most_common()]
    lines += [f"not counted, as no small network holds them: {sum(outside.values())}"]
    lines += [f"{count:5} {reason}" for reason, count in outside.most_common()]
    sys.stdout.write("\n".join(lines))
    assert {
        one.name: one.wrong for _, one in every if one.wrong and one.name not in OTHERWISE
    } == {}
    assert len(accepted) >= ACCEPTED
