"""Where the cells of a routed design lie, by stage."""

import json

from gatewright.boards.flow.layout import LINK, OTHER, STREAMS, layout, part_of

STAGES = frozenset({"s00_conv", "s01_pool"})
SITES = {"TRELLIS_COMB": "lut", "MULT18X18D": "dsp"}


def cell(kind, place):
    return {"type": kind, "attributes": {"NEXTPNR_BEL": place}}


def step(cell, delay, kind="logic"):
    return {"delay": delay, "type": kind, "to": {"cell": cell, "loc": [3, 4], "port": "A"}}


def test_a_cell_belongs_to_the_stage_in_its_name():
    assert part_of("accelerator.accelerator.s00_conv.array.x_LUT4_Z", STAGES) == "s00_conv"
    assert part_of("accelerator.accelerator.s00_conv_slice.valid", STAGES) == STREAMS
    assert part_of("accelerator.accelerator.s00_conv_reset_TRELLIS_FF_Q", STAGES) == STREAMS
    assert part_of("link.uart_protocol.word[3]", STAGES) == LINK
    assert part_of("rx$tr_io", STAGES) == OTHER


def test_tiles_cells_and_the_slowest_path(tmp_path):
    cells = {
        "accelerator.accelerator.s00_conv.a": cell("TRELLIS_COMB", "X3/Y4/SLICEA.LUT0"),
        "accelerator.accelerator.s00_conv.m": cell("MULT18X18D", "X3/Y4/MULT18_0"),
        "accelerator.accelerator.s01_pool.b": cell("TRELLIS_COMB", "X3/Y4/SLICEA.LUT1"),
        "link.c": cell("TRELLIS_COMB", "X5/Y1/SLICEA.LUT0"),
    }
    file = tmp_path / "seed-1.cells"
    file.write_text(json.dumps({"modules": {"small": {"cells": {}}, "top": {"cells": cells}}}))
    own = [step("accelerator.accelerator.s00_conv.a", 0.5), step("link.c", 1.0, "routing")]
    paths = [{"path": [step("link.c", 0.9)]}, {"path": own}]
    found = layout(file, paths, ["s00_conv", "s01_pool"], SITES)
    assert found["parts"] == ["s00_conv", "s01_pool", STREAMS, LINK, OTHER]
    assert found["tiles"] == [[3, 4, 0, 2], [5, 1, 3, 1]]
    assert (found["columns"], found["rows"]) == (6, 5)
    assert found["cells"]["s00_conv"] == {"lut": 1, "dsp": 1}
    assert [(part["part"], part["delay_ns"]) for part in found["critical_path"]] == [
        ("s00_conv", 0.5),
        (LINK, 1.0),
    ]
