"""Hooks of the site's build: pages outside ``docs/``, the list of decisions, roles of Sphinx.

The files stay as they are read in the repository; only their links are written for the site.
"""

import re
from pathlib import Path
from typing import Any

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
    """Write links between ``docs/`` and the pages outside for the site's tree."""
    if page.file.src_uri in OUTSIDE:
        return text.replace("../docs/", "../")
    depth = page.file.src_uri.count("/")
    return text.replace("../" * (depth + 1) + "benchmarks/", "../" * depth + "benchmarks/").replace(
        "../" * (depth + 1) + "examples/", "../" * depth + "examples/"
    )


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Show ``:class:`~.errors.ModelError``` as its last name."""
    return _ROLE.sub(lambda found: f"<code>{found[1].rpartition('.')[2]}</code>", html)
