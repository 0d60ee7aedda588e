"""``plan.json`` reads back as it was written; a broken one is refused with place and rule."""

import json

import pytest
from gatewright.compiler.errors import PlanError
from gatewright.compiler.plan import Plan, StagePlan, read_plan, write_plan

PLAN = Plan(
    "ulx3s-85f",
    (
        StagePlan("s00_conv", "window_matmul", ("a", "b"), 9, 4, 36, "block_ram"),
        StagePlan("s01_add", "elementwise", ("c",), pe=3),
        StagePlan("s02_conv", "window_matmul", ("d",), 8, 4, 20, fast_inner_product=True),
        StagePlan("s03_conv", "window_matmul", ("e",), 8, 4, 0, adder_trees=True),
        StagePlan("s04_conv", "window_matmul", ("f",), 8, 4, 0, minimal_filtering=2),
    ),
    {("s01_add", 0): 12, ("s01_add", 1): 1},
    lanes_in={"left": 3, "right": 1},
    argmax=True,
    output_queues={"scores": 7},
)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan(
            "icebreaker",
            (StagePlan("s", "lookup", ("x",), weights="packed_rows", minimal_rows=True),),
            {},
        ),
        Plan('odd "name"', (), {}),
    ],
    ids=lambda plan: plan.board,
)
def test_reads_back_what_was_written(plan, tmp_path):
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan


def test_a_stage_is_a_line(tmp_path):
    write_plan(PLAN, tmp_path / "plan.json")
    lines = (tmp_path / "plan.json").read_text().splitlines()
    assert sum('"simd"' in line for line in lines) == len(PLAN.stages)
    assert sum('"pixels"' in line for line in lines) == 2


def table(**changes):
    stage = {
        "name": "s",
        "kind": "lookup",
        "ops": ["x"],
        "simd": 1,
        "pe": 1,
        "dsp_multipliers": 0,
        "weights": "logic",
    }
    queue = {"stage": "s", "input": 0, "pixels": 4}
    whole = {"format": 2, "board": "b", "inputs": {"x": 1}, "stages": [stage], "queues": [queue]}
    for path, value in changes.items():
        *way, key = path.split("__")
        at = whole
        for step in way:
            at = at[step][0]
        if value is None:
            del at[key]
        else:
            at[key] = value
    return whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"board": None}, ': lacks "board"'),
        ({"board": 3}, ': "board" is 3; it must be of type str'),
        ({"inputs": 1}, ': "inputs" is 1; it must be of type dict'),
        ({"inputs": {"x": 0}}, ': inputs: "x" is 0; it must be at least 1'),
        ({"inputs": {"x": True}}, ': inputs: "x" is True; it must be of type int'),
        ({"inputs": {"x": 1 << 21}}, ': inputs: "x" is 2097152; it must be at most 1048576'),
        ({"output_queues": {"y": 0}}, ': output_queues: "y" is 0; it must be at least 1'),
        ({"board": ["b"]}, ": \"board\" is ['b']; it must be of type str"),
        ({"stages": None}, ': lacks "stages"'),
        ({"stages": {}}, ': "stages" is {}; it must be of type list'),
        (
            {"stages": [3]},
            ": stage 0: is 3; accepted: an object with adder_trees, dsp_multipliers, "
            "fast_inner_product, kind, minimal_filtering, "
            "minimal_rows, name, ops, pe, simd, site, weights",
        ),
        ({"stages__name": None}, ': stage 0: lacks "name"'),
        ({"stages__kind": None}, ': stage 0: lacks "kind"'),
        ({"stages__kind": 4}, ': stage 0: "kind" is 4; it must be of type str'),
        ({"stages__simd": 0}, ': stage 0: "simd" is 0; it must be at least 1'),
        ({"stages__pe": 2.5}, ': stage 0: "pe" is 2.5; it must be of type int'),
        (
            {"stages__dsp_multipliers": -1},
            ': stage 0: "dsp_multipliers" is -1; it must be at least 0',
        ),
        ({"stages__ops": "x"}, ": stage 0: \"ops\" is 'x'; it must be of type list"),
        (
            {"stages__weights": "flash"},
            ": stage 0: \"weights\" is 'flash'; choose one of block_ram, packed_rows, logic",
        ),
        (
            {"stages__speed": 9},
            ": stage 0: unknown speed; accepted: adder_trees, dsp_multipliers, "
            "fast_inner_product, kind, minimal_filtering, minimal_rows, name, ops, pe, simd, site, "
            "weights",
        ),
        ({"stages__minimal_rows": 1}, ': stage 0: "minimal_rows" is 1; it must be of type bool'),
        (
            {"stages__fast_inner_product": "yes"},
            ": stage 0: \"fast_inner_product\" is 'yes'; it must be of type bool",
        ),
        ({"stages__ops": []}, ': stage 0: "ops" has 0 elements; at least 1 are needed'),
        (
            {"stages__ops": ["x", 7]},
            ': stage 0: element 1 of "ops" is 7; it must be of type str',
        ),
        ({"stages__simd": 1 << 21}, ': stage 0: "simd" is 2097152; it must be at most 1048576'),
        (
            {"stages__dsp_multipliers": 10**99},
            ': stage 0: "dsp_multipliers" is an integer of 329 bits; it must be at most 65536',
        ),
        ({"stages__site": True}, ': stage 0: "site" is True; it must be of type int'),
        ({"argmax": 1}, ': "argmax" is 1; it must be of type bool'),
        ({"queues": {}}, ': "queues" is {}; it must be of type list'),
        (
            {"format": 3},
            ': "format" is 3; accepted: 2; compile the model again with this gatewright',
        ),
        (
            {"speed": 9},
            ": unknown speed; accepted: argmax, board, format, inputs, output_queues, queues, "
            "stages",
        ),
        ({"queues__pixels": 0}, ': queue 0: "pixels" is 0; it must be at least 1'),
        ({"queues__stage": None}, ': queue 0: lacks "stage"'),
        ({"queues__input": "a"}, ": queue 0: \"input\" is 'a'; it must be of type int"),
    ],
    ids=str,
)
def test_a_broken_rule_is_named(changes, message, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(table(**changes)))
    with pytest.raises(PlanError) as error:
        read_plan(path)
    assert str(error.value) == f"{path}{message}"


def test_the_table_of_these_tests_is_a_plan(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(table()))
    assert read_plan(tmp_path / "plan.json").queues == {("s", 0): 4}


def test_what_is_not_json_is_refused_with_its_line(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{\n"board": oops}')
    with pytest.raises(PlanError, match=r"plan.json:2: not JSON"):
        read_plan(path)


def test_a_plan_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PlanError, match=r"can not be read \(No such file or directory\)"):
        read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize(
    "name",
    ["", "comb", "sync", "Sync", "input", "input_slice", "s00_conv_queue", "s_axis", "a.b", "7"],
)
def test_a_name_that_no_stage_may_have(name, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(table(stages__name=name)))
    with pytest.raises(PlanError, match="no name of the accelerator's own parts"):
        read_plan(path)


def test_an_old_plan_is_refused_with_what_changed(tmp_path):
    path = tmp_path / "plan.json"
    stage = {"name": "s", "ops": ["x"], "simd": 1, "pe": 1, "hard": 0, "weights": "logic"}
    path.write_text(json.dumps({"board": "b", "inputs": {"x": 1}, "stages": [stage], "queues": []}))
    with pytest.raises(PlanError) as error:
        read_plan(path)
    assert str(error.value).startswith(f"{path}: a plan of an older gatewright")
    assert '"hard" is "dsp_multipliers" now' in str(error.value)


TEXT = json.dumps(table())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16"), "not text in UTF-8"),
        (b"\xff" + TEXT.encode(), "not text in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 40 + b"]" * 40, "nested deeper than 32 levels"),
        (TEXT.replace('{"x": 1}', '{"x": NaN}').encode(), "holds NaN"),
        (TEXT.replace('{"x": 1}', '{"x": 1e999}').encode(), "is too large"),
        (TEXT.replace('{"x": 1}', '{"x": ' + "9" * 5000 + "}").encode(), "Exceeds the limit"),
        (TEXT.replace("{", '{"board": "a", ', 1).encode(), "has 'board' twice in one object"),
        (b"7", "is 7; accepted: an object with argmax, board"),
        (b"", "not JSON"),
    ],
    ids=[
        "utf-16",
        "latin",
        "open",
        "deep",
        "nan",
        "infinity",
        "digits",
        "twice",
        "number",
        "empty",
    ],
)
def test_a_file_that_holds_no_table(content, message, tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=message) as error:
        read_plan(path)
    assert str(path) in str(error.value)


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "plan.json").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert read_plan(tmp_path / "plan.json").board == "b"


def test_two_queues_before_one_input(tmp_path):
    path, whole = tmp_path / "plan.json", table()
    path.write_text(json.dumps(whole | {"queues": whole["queues"] * 2}))
    with pytest.raises(PlanError, match="queue 1: a second queue before input 0 of stage s"):
        read_plan(path)
