"""The picture of a design space."""

import pytest
from gatewright.compiler.report.plot import design_space
from matplotlib import rc_context

from .summaries import POINTS


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_suffix_decides_the_format(tmp_path, suffix, magic):
    path = design_space(
        POINTS, tmp_path / f"explore.{suffix}", title="net", available={"lut": 6000, "dsp": 28}
    )
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("unit", ["LUTs", "logic cells"])
def test_the_axis_of_logic_has_its_unit(tmp_path, unit):
    with rc_context({"svg.fonttype": "none"}):
        path = design_space(POINTS, tmp_path / "explore.svg", logic_unit=unit)
    assert (">LUTs<" in path.read_text()) == (unit == "LUTs")
    assert f">{unit}<" in path.read_text()


def test_a_space_where_nothing_fits_is_drawn_empty(tmp_path):
    design_space([point | {"fits": False} for point in POINTS], tmp_path / "explore.png")
    assert (tmp_path / "explore.png").stat().st_size > 1000
