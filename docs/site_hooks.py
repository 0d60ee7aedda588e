"""Hooks of the site's build: pages outside ``docs/``, decisions, the command line, roles of Sphinx.

The files stay as they are read in the repository; only their links are written for the site.
"""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import click
from gatewright.cli import main
from mkdocs.structure.files import File, Files

__all__ = ["on_config", "on_files", "on_page_content", "on_page_markdown"]

ROOT = Path(__file__).parents[1]
#: pages of the repository that the site shows as well
OUTSIDE = (
    *(f"benchmarks/{name}.md" for name in ("results", "ablation", "quantization")),
    *(f"examples/{name}/README.md" for name in ("mnist", "brevitas", "keras")),
)
_ROLE = re.compile(r":[a-z]+:<code>~?\.*([^<]*)</code>")


def on_config(config: Any) -> Any:
    """List every decision in the navigation."""
    pages = sorted(Path(config.docs_dir, "decisions").glob("*.md"))
    for section in config.nav:
        if "Decisions" in section:
            section["Decisions"] = [f"decisions/{page.name}" for page in pages]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside ``docs/``, at their paths in the repository."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(text: str, page: Any, config: Any, files: Files) -> str:
    """Write links between ``docs/`` and the pages outside for the site's tree, and the commands."""
    if page.file.src_uri == "cli.md":
        return text.replace("<!-- commands -->", "\n".join(_commands()))
    if page.file.src_uri in OUTSIDE:
        return text.replace("../docs/", "../")
    depth = page.file.src_uri.count("/")
    return text.replace("../" * (depth + 1) + "benchmarks/", "../" * depth + "benchmarks/").replace(
        "../" * (depth + 1) + "examples/", "../" * depth + "examples/"
    )


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Show ``:class:`~.errors.ModelError``` as its last name."""
    return _ROLE.sub(lambda found: f"<code>{found[1].rpartition('.')[2]}</code>", html)


def _commands() -> Iterator[str]:
    """A section a command, in the parser's order, which is that of the flow."""
    context = click.Context(main, info_name="gatewright")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        text, _, example = (command.help or "").replace("\b", "").partition("$ ")
        yield from (f"## {name}", "", text.strip(), "")
        lines = [
            command.get_usage(inner).removeprefix("Usage: "),
            *(["", example] if example else []),
        ]
        yield from ("```text", *(" ".join(line.split()) for line in lines), "```", "")
        yield from ("| option | meaning | default |", "| --- | --- | --- |")
        for option in command.get_params(inner):
            if isinstance(option, click.Option) and not option.hidden:
                yield _option(option, inner)
        yield ""


def _option(option: click.Option, context: click.Context) -> str:
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    written = [*option.opts[:-1], option.opts[-1] + value]
    names = ", ".join(f"<code>{escape(name)}</code>" for name in written)
    shown = "required" if option.required else option.default if option.show_default else ""
    cells = (names, escape(option.help or "", quote=False), shown)
    return "| " + " | ".join(str(cell).replace("|", "&#124;") for cell in cells) + " |"
