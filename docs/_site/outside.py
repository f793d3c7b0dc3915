"""Pages of the site that are written elsewhere in the repository, and links to what is not on the site.

The changelog, the guide for contributors, what studies found and what benchmarks measured are copied to pages of the
site before it is built. Links of any page to those files lead to the pages; links to other files of the repository lead
to it if it has an address, and download the file if not.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)((?:#[^)\s]*)?)(?=\))")


def outside_pages() -> dict[Path, str]:
    """Return the files that become pages, with the names of the pages."""
    pages = {ROOT / "CONTRIBUTING.md": "project/contributing", ROOT / "CHANGELOG.md": "project/changelog"}
    pages |= {path: f"figures/{path.stem}" for path in ROOT.glob("paper_figures/*.md")}
    for path in ROOT.glob("benchmarks/**/results.md"):
        name = "-".join(path.relative_to(ROOT / "benchmarks").parts[:-1])
        pages[path] = f"benchmarks/{name or 'overview'}"
    return pages


def relinked(text: str, source: Path, place: Path, pages: dict[Path, str], repository: str) -> str:
    """Return a text whose relative links lead where they should, of a file that is read at another place."""

    def link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / match[1]))
        if target in pages:
            target = DOCS / f"{pages[target]}.md"
        elif not target.is_relative_to(DOCS) and target.is_dir():
            return f"{repository}/tree/main/{target.relative_to(ROOT)}" if repository else match[0]
        elif repository and not target.is_relative_to(DOCS) and target.suffix not in {".png", ".svg"}:
            return f"{repository}/blob/main/{target.relative_to(ROOT)}{match[2]}"
        return os.path.relpath(target, place.parent) + match[2]

    return LINK.sub(link, text)


def write_pages(app: Sphinx) -> None:
    """Write the pages; those that are as they should be keep their time."""
    pages = outside_pages()
    for source, name in pages.items():
        path = DOCS / f"{name}.md"
        text = relinked(source.read_text(encoding="utf-8"), source, path, pages, app.config.repository)
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Change the links of a page of the guide."""
    path = DOCS / f"{page}.md"
    pages = outside_pages()
    if path.exists() and page not in pages.values():
        source[0] = relinked(source[0], path, path, pages, app.config.repository)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx."""
    app.add_config_value("repository", "", "env", str)
    app.connect("config-inited", lambda app, config: write_pages(app))
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
