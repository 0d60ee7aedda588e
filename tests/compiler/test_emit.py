"""What is written of an accelerator: source locations that are the same on every machine."""

import re
from pathlib import Path

import gatewright
import pytest
from gatewright.compiler.emit import emit, relative_locations, without_locations
from gatewright.compiler.lower import accelerator

from ..plan.networks import Builder, fold


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    builder = Builder(4, 4, 2)
    builder.conv(builder.input, 3, (3, 3), pads=(1, 1, 1, 1))
    folder = tmp_path_factory.mktemp("rtl")
    emit(accelerator(fold(builder.graph(), dsp_multipliers=1)), folder)
    return (folder / "accelerator.il").read_text()


def test_each_register_says_where_it_is_in_the_source(text):
    wires = re.findall(r"^  wire ", text, re.MULTILINE)
    files = {location.split(":")[0] for location in locations(text)}
    assert len(locations(text)) > len(wires)
    assert "gatewright/hw/window/sliding_window.py" in files


def locations(text):
    return re.findall(r'attribute \\src "([^"]*)"', text)


def test_locations_name_no_folder_of_this_machine(text):
    assert {location.split("/")[0] for location in locations(text)} <= {"gatewright", "amaranth"}
    assert all(re.fullmatch(r"[\w/]+\.py:\d+", location) for location in locations(text))


def test_an_environment_inside_the_project_is_not_part_of_it():
    root = Path(gatewright.__file__).parent
    text = f'attribute \\src "{root}/.venv/lib/site-packages/amaranth/hdl/_ir.py:283"\n'
    assert relative_locations(text) == 'attribute \\src "amaranth/hdl/_ir.py:283"\n'


def test_a_location_outside_of_all_packages_is_a_file_name():
    text = '  attribute \\src "/home/me/my design.py:12"\n  wire width 1 \\x\n'
    assert relative_locations(text) == text.replace("/home/me/", "")


def test_without_locations_everything_else_is_left(text):
    kept = without_locations(text)
    assert "\\src" not in kept
    lines = text.splitlines(keepends=True)
    assert kept == "".join(
        line for line in lines if not line.lstrip().startswith("attribute \\src")
    )
