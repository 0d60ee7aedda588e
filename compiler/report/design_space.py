"""The design space as a page: ``explore.html``, which needs no other file."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

__all__ = ["write_page"]


def write_page(summary: Mapping[str, Any], path: Path, *, title: str, command: str) -> Path:
    """Write the page over ``explore.json``'s content to ``path``; returns it.

    The page plots a chosen cost over frames a second and shows the figures of the plan under the
    pointer or the focus. ``command`` compiles a plan; ``{plan}`` in it stands for the plan's file.
    """
    template = files(__package__).joinpath("design_space.html").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, autoescape=True)
    page = environment.from_string(template).render(
        title=title, data={**summary, "command": command, "folder": path.parent.as_posix()}
    )
    path.write_text(page, encoding="utf-8")
    return path
