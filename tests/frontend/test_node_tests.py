"""The node tests of the ONNX standard: no one crashes, and every accepted one is right.

With ``-s`` it prints how many are accepted, and why the others are refused.
"""

import re
import sys
from collections import Counter

import pytest

from .node_tests import cases, tried

PARTS = 4
#: accepted tests of each part, at least
ACCEPTED = 80

#: tests whose expected results are not those of this project, and why
OTHERWISE = {
    "test_resize_downsample_scales_cubic_align_corners": "expects a fractional size, which ONNX "
    "Runtime does not use either",
    "test_l2normalization_axis_0": "divides 0 by 0; in integers that is 0, in floats NaN",
}


def kind(reason):
    """A refusal without the names of files and nodes."""
    return re.sub(r"^(/\S+: )?\S+ \(|\).*|(accepted|;).*", "", reason)[:70]


@pytest.mark.parametrize("part", range(PARTS))
def test_node_tests_of_the_standard(part):
    verdicts = [tried(case) for case in cases()[part::PARTS]]
    accepted = [one for one in verdicts if one.accepted]
    refused = Counter(kind(one.reason) for one in verdicts if not one.accepted)
    lines = [f"\n{len(accepted)} of {len(verdicts)} node tests are accepted; the others:"]
    lines += [f"{count:5} {reason}" for reason, count in refused.most_common()]
    sys.stdout.write("\n".join(lines))
    assert {
        one.name: one.wrong for one in accepted if one.wrong and one.name not in OTHERWISE
    } == {}
    assert len(accepted) >= ACCEPTED
