"""Pages: parts about studies, put into one HTML file with styles, scripts and plotly.js in it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from html import escape
from importlib.util import find_spec
from pathlib import Path
from string import Template
from time import strftime
from typing import Any

import qsim
from qsim.storage import replacing
from qsim.study.catalog import RequestError

_HERE = Path(__file__).parent
_SCRIPTS = ("bands.js", "tables.js", "chart.js", "page.js")


@dataclass(frozen=True)
class Part:
    """What a page says of a study.

    Parameters
    ----------
    name, title : str
        Its name and title.
    findings : str
        Markdown: the setting, and each question with its answer.
    data : mapping
        Its curves, as `qsim.study.report.points` makes them; empty if there are none.
    notices : sequence of str
        What the reader must know first: which cells are missing, and what runs them.
    figure : bytes, optional
        The figure of the study, a PNG.
    """

    name: str
    title: str
    findings: str
    data: Mapping[str, Any] = field(default_factory=dict)
    notices: Sequence[str] = ()
    figure: bytes | None = None


@dataclass(frozen=True)
class Live:
    """What a page says of a sweep that is watched.

    Parameters
    ----------
    state : str
        In words: how many cells are done, rates, time left; or how it ended.
    failures : sequence of str
        The cells that failed, and with what.
    every : float, optional
        The page is read again after so many seconds; None: it is final.
    """

    state: str
    failures: Sequence[str] = ()
    every: float | None = None


def require() -> None:
    """Refuse to make a page where its packages are missing. Raises RequestError."""
    missing = [name for module, name in (("plotly", "plotly"), ("markdown_it", "markdown-it-py")) if not _has(module)]
    if missing:
        raise RequestError(f"a report needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def write(path: Path, parts: Sequence[Part], live: Live | None = None) -> int:
    """Write a page, whole or not at all; returns its bytes."""
    text = page(parts, live).encode("utf-8", errors="backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(text)
    return len(text)


def page(parts: Sequence[Part], live: Live | None = None) -> str:
    """Return a page as HTML. Nothing of the parts is taken for markup or code but the Markdown of their findings."""
    plotly, script = _plotly(), "\n".join(_file(name) for name in _SCRIPTS)
    names = [part.name for part in parts]
    heading = ", ".join(names) if len(names) <= 3 else f"{len(names)} studies"
    data = {"studies": [{"name": part.name} | dict(part.data) for part in parts], "every": live and live.every}
    return Template(_file("page.html")).substitute(
        title=escape(f"{heading}: qsim"),
        heading=escape(heading),
        policy=" ".join(f"'sha256-{_digest(text)}'" for text in (plotly, script)),
        style=_file("page.css"),
        live="" if live is None else _live(live),
        tabs="".join(f'<a href="#study={at}">{escape(part.name)}</a>' for at, part in enumerate(parts)),
        alone="hidden" if len(parts) == 1 else "",
        studies="\n".join(_study(at, part) for at, part in enumerate(parts)),
        made=escape(f"qsim {qsim.__version__}, {strftime('%Y-%m-%d %H:%M:%S')}"),
        data=_json(data),
        plotly=plotly,
        script=script,
    )


def _study(at: int, part: Part) -> str:
    figure = ""
    if part.figure is not None:
        image = f"data:image/png;base64,{b64encode(part.figure).decode()}"
        words = escape(f"The figure of the study {part.name}; the findings say what it shows.")
        figure = f'<details><summary>Figure</summary><img src="{image}" alt="{words}"></details>'
    return Template(_file("study.html")).substitute(
        at=at,
        title=escape(part.title),
        notices="".join(f'<p class="notice">{escape(text)}</p>' for text in part.notices),
        chart="" if part.data else "hidden",
        findings=_markdown(part.findings),
        figure=figure,
    )


def _live(live: Live) -> str:
    failures = "".join(f"<li>{escape(text)}</li>" for text in live.failures)
    return Template(_file("live.html")).substitute(
        state=escape(live.state),
        failures=f"<ul>{failures}</ul>" if failures else "",
        pause="hidden" if live.every is None else "",
    )


def _markdown(text: str) -> str:
    """Return Markdown as HTML: tags in it stand as text, and images, which would be files beside the page, as links."""
    from markdown_it import MarkdownIt

    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text)
    return html


def _json(data: Any) -> str:
    """Return JSON that may stand in a script: without a character that could end it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _plotly() -> str:
    """Return the source of plotly.js, which must not end its own script."""
    from plotly.offline import get_plotlyjs

    return re.sub(r"</(?=script)", r"<\\/", str(get_plotlyjs()), flags=re.IGNORECASE).replace("\r\n", "\n")


@cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").rstrip("\n")


def _digest(text: str) -> str:
    """Return the digest by which a page says that a script is its own; any other script on it is not run."""
    return b64encode(sha256(text.encode("utf-8")).digest()).decode()


def _has(module: str) -> bool:
    return find_spec(module) is not None
