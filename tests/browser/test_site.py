"""The site as it was built, in a browser: pages render, on a phone too; links lead somewhere; search finds.

QSIM_SITE names the folder of the site, as docs/conf.py says how to build it; `.ci/run site` does both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

import qsim
from helpers.chromium import chromium, served
from helpers.paths import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

SITE = Path(os.environ.get("QSIM_SITE", "no site")).resolve()
PAGES = sorted({str(path.relative_to(SITE)) for path in SITE.rglob("*.html")} - {"_static/webpack-macros.html"})
WRITTEN = [page for page in PAGES if not page.startswith(("_", "api/")) or page.endswith(".module.html")]
NAMES = sorted({*PAGES} - {*WRITTEN})[::8]  # pages of names, and of sources, are made alike
LOOKED_AT = [*WRITTEN, *NAMES]
GROUPS = 4
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(not PAGES, reason="needs the site: build it, and name its folder in QSIM_SITE")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(SITE) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def watched(context: BrowserContext, address: str) -> tuple[Page, list[str]]:
    """Open a page whose errors, and requests for what the site does not hold, are collected."""
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
    page.on(
        "request", lambda request: None if request.url.startswith((address, "data:")) else wrong.append(request.url)
    )
    return page, wrong


SEEN = """async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    const images = [...document.querySelectorAll('main img')];
    for (const image of images) { image.loading = 'eager'; await image.decode().catch(() => null); }
    return {
        heading: (document.querySelector('h1') || {}).innerText || '',
        broken: images.filter(image => !image.naturalWidth).map(image => image.src),
        formulas: document.querySelectorAll('.math').length,
        typeset: document.querySelectorAll('.math mjx-container').length,
        misset: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
        beyond: document.documentElement.scrollWidth - window.innerWidth,
    };
}"""


@pytest.mark.parametrize("group", range(GROUPS))
def test_pages_render_on_a_phone(browser: Browser, address: str, group: int) -> None:
    """Headings, figures and formulas are there, nothing is wider than the screen, nothing is said on the console."""
    context = browser.new_context(viewport=PHONE)
    page, wrong = watched(context, address)
    faults = {}
    for name in LOOKED_AT[group::GROUPS]:
        wrong.clear()
        page.goto(address + name)
        found: dict[str, Any] = page.evaluate(SEEN)
        if not found.pop("heading"):
            wrong.append("no heading")
        if found.pop("formulas") > found.pop("typeset"):
            wrong.append("a formula that is not typeset")
        wrong += [f"{what}: {value}" for what, value in found.items() if value]
        if wrong:
            faults[name] = list(wrong)
    context.close()
    assert not faults


def test_formulas_and_figures_are_looked_at() -> None:
    """The checks above have something to look at."""
    theory, gallery = (SITE / "theory.html").read_text(), (SITE / "gallery" / "plot_equal_bits.html").read_text()
    assert theory.count('class="math') > 300
    assert "sphx_glr_plot_equal_bits_001" in gallery


@pytest.mark.parametrize(("words", "title"), [("QSGD", "qsim.QSGD"), ("wire format", "The wire format, version 1")])
def test_search_finds(browser: Browser, address: str, words: str, title: str) -> None:
    context = browser.new_context(viewport=DESK)
    page, wrong = watched(context, address)
    page.goto(address)
    page.keyboard.press("Control+k")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.get_by_role("link", name=title).first.click(timeout=20_000)
    page.wait_for_load_state()
    assert title in page.locator("h1").inner_text()
    assert not wrong
    context.close()


def test_it_is_dark_where_readers_want_it(browser: Browser, address: str) -> None:
    lights = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport=DESK, color_scheme=scheme)
        page, wrong = watched(context, address)
        page.goto(address + "guide.html")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lights[scheme] = sum(map(int, colour.partition("(")[2].rstrip(")").split(",")[:3]))
        assert not wrong
        context.close()
    assert lights["dark"] < 150 < 600 < lights["light"]


def test_the_menu_opens_on_a_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page, wrong = watched(context, address)
    page.goto(address + "guide.html")
    link = page.get_by_role("link", name="The wire format, version 1").locator("visible=true")
    inside = page.locator("article").get_by_role("link", name="The wire format, version 1")
    assert link.count() == inside.count()
    page.locator("button.primary-toggle").click()
    page.wait_for_timeout(500)
    assert link.count() > inside.count()
    assert not wrong
    context.close()


class Links(HTMLParser):
    """What a page refers to, and the places in it that can be referred to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places = {"", "top"}
        self.scripts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src") and value is not None:
                self.links.append(value)


def test_links_lead_somewhere() -> None:
    """Those to other pages of the site, to places in them, and to files; nothing is loaded from elsewhere."""
    pages = {SITE / name: Links(SITE / name) for name in PAGES}
    assert len(pages) > 250
    dead = []
    for path, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            file, place = urldefrag(link)
            target = (path.parent / unquote(urlsplit(file).path)).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (target in pages and unquote(place) not in pages[target].places):
                dead.append(f"{path.relative_to(SITE)}: {link}")
    assert not dead


def test_every_public_name_has_a_page() -> None:
    missing = []
    for module in qsim.__all__:
        thing = getattr(qsim, module)
        for name in getattr(thing, "__all__", []):
            text = (SITE / "api" / f"qsim.{module}.module.html").read_text(encoding="utf-8")
            if name not in text:
                missing.append(f"qsim.{module}.{name}")
    assert not missing


def test_gallery_pages_can_be_downloaded() -> None:
    scripts = sorted((ROOT / "examples" / "gallery").glob("plot_*.py"))
    assert len(scripts) > 15
    for script in scripts:
        links = Links(SITE / "gallery" / f"{script.stem}.html").links
        for ending in (".py", ".ipynb"):
            assert any(link.endswith(f"{script.stem}{ending}") for link in links), script
