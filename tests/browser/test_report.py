"""The page of a report in a browser: what a reader can do with it by mouse and keyboard and on a phone, offline."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import qsim
from helpers.chromium import chromium
from qsim.study import Cell, Results, Settings, look, resample
from qsim.study.report import page as pages
from qsim.study.report import points
from qsim.study.report.page import Live, Part
from qsim.trace import FORMULA

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("plotly", reason="needs plotly: pip install plotly")
pytest.importorskip("markdown_it", reason="needs markdown-it-py: pip install markdown-it-py")

SETTINGS = Settings("spark_sample", workers=4, rounds=12, seeds=3)
HOSTILE = "</script ><script>window.hit = 1</script><img src=x onerror='window.hit = 2'><b>%{x}</b>"
COMPRESSORS = {"uncompressed": qsim.Identity(), "s = 1": qsim.QSGD(1), HOSTILE: qsim.TopK(3)}
FINDINGS = """A setting.

**Which?** This one:

| | loss | bits |
|---|---|---|
| b | 0.5 (0.4 to 0.6) | 1,234 |
| a | 0.25 | 56,789 |
| c | | 9 |

| a table | that is wide, | on a phone | too wide | 1234567890123456 | 1234567890123456 |
|---|---|---|---|---|---|
| 1234567890123456 | 1234567890123456 | 1234567890123456 | 1234567890123456 | 1 | 2 |
"""


@pytest.fixture(scope="module")
def results() -> Results:
    """Three curves of three seeds, on a network."""
    cells = [
        Cell(
            curve,
            qsim.Run(
                "spark_sample",
                qsim.LogisticRegression(l2=0.1),
                qsim.SGD(step=0.1, batch=4),
                compressor,
                workers=4,
                rounds=12,
                seed=seed,
                network=qsim.Network(),
            ),
        )
        for curve, compressor in COMPRESSORS.items()
        for seed in range(3)
    ]
    return Results(SETTINGS, cells, [qsim.simulate(cell.run) for cell in cells])


@pytest.fixture(scope="module")
def part(results: Results) -> Part:
    curves: dict[str, Any] = {}
    for cell, trace in zip(results.cells, [t for curve in results.traces.values() for t in curve], strict=True):
        curves.setdefault(cell.curve, []).append((cell, trace))
    return Part("tiny", HOSTILE, FINDINGS, points.of_cells(curves), notices=[HOSTILE])


@pytest.fixture(scope="module")
def file(part: Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    pages.write(path, [part])
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    """Open files as pages that must ask for nothing but the file, and log no error."""
    contexts, wrong = [], []

    def open_page(path: Path, choices: str = "", **options: Any) -> Page:
        address = path.as_uri()
        context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort())
        page.on("request", lambda request: request.url.startswith(address) or wrong.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address + choices)
        page.wait_for_selector(".chart .plot-container", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def drawn(page: Page) -> dict[str, Any]:
    """What plotly.js has drawn: names of axes, scales, and how many lines, and bands."""
    return page.evaluate("""() => {
        const { layout, data } = document.querySelector(".study:not([hidden]) .chart");
        return {x: layout.xaxis.title.text, y: layout.yaxis.title.text, scales: [layout.xaxis.type, layout.yaxis.type],
                lines: data.filter((trace) => trace.hoverinfo !== "skip").length,
                bands: data.filter((trace) => trace.fill === "tonexty").length};
    }""")


def test_axes_scales_and_what_is_shown_are_chosen(opened: Any, file: Path) -> None:
    page = opened(file)
    bits = {"x": "bits, uplink + downlink", "y": "suboptimality"}
    assert drawn(page) == {**bits, "scales": ["log", "log"], "lines": 3, "bands": 3}
    page.get_by_label("Across", exact=True).select_option(label="virtual seconds")
    page.get_by_label("Up", exact=True).select_option(label="training loss")
    assert drawn(page) == {
        "x": "virtual seconds",
        "y": "training loss",
        "scales": ["linear"] * 2,
        "lines": 3,
        "bands": 3,
    }
    page.get_by_label("Scale across").select_option("log")
    page.get_by_label("Scale up").select_option("log")
    assert drawn(page)["scales"] == ["log", "log"]
    for show, lines, bands in (("means", 3, 0), ("every seed", 9, 0), ("bands and seeds", 12, 3)):
        page.get_by_label("Show").select_option(label=show)
        assert (drawn(page)["lines"], drawn(page)["bands"]) == (lines, bands)
    page.reload()  # the address has the choices
    assert drawn(page)["x"] == "virtual seconds"
    assert drawn(page)["lines"] == 12
    offered = page.get_by_label("Across", exact=True).locator("option").all_text_contents()
    for name in ("round", "passes", "bits_up", "bits", FORMULA, "nonzeros", "seconds"):
        assert qsim.trace.LABELS[name] in offered


def test_curves_are_toggled(opened: Any, file: Path) -> None:
    page = opened(file)
    page.get_by_label("s = 1").uncheck()
    assert drawn(page)["lines"] == 2
    page.get_by_role("button", name="none").click()
    assert drawn(page)["lines"] == 0
    page.get_by_role("button", name="all").click()
    page.get_by_label("uncompressed").uncheck()
    assert drawn(page)["lines"] == 2
    page.reload()
    assert drawn(page)["lines"] == 2
    assert not page.get_by_label("uncompressed").is_checked()


def test_a_point_tells_its_run_which_can_be_copied(opened: Any, file: Path, results: Results) -> None:
    page = opened(file, "#x=round&y=loss&show=seeds", permissions=["clipboard-read", "clipboard-write"])
    place = page.evaluate("""() => {
        const chart = document.querySelector(".chart"), { xaxis, yaxis } = chart._fullLayout;
        const trace = chart.data[4], box = chart.getBoundingClientRect(); // s = 1, seed 1
        return [box.x + xaxis._offset + xaxis.d2p(trace.x[7]), box.y + yaxis._offset + yaxis.d2p(trace.y[7])];
    }""")
    page.mouse.move(*place)
    page.wait_for_selector(".hovertext")
    cell = next(cell for cell in results.cells if (cell.curve, cell.run.seed) == ("s = 1", 1))
    loss = results.samples("s = 1", "loss")[1, 7]
    hover = page.locator(".hovertext", has_text="seed 1").text_content()
    where = page.locator(".visited .where").inner_text()
    for text in (hover, where):
        assert "s = 1" in text
        assert "seed 1" in text
        assert f"{loss:.6g}" in text
    assert "Seed 1: iteration 7;" in page.locator(".visited .seen").inner_text()
    assert "qsim.SGD(step=0.1, batch=4)" in page.locator(".visited .seen").inner_text()
    assert page.locator(".visited .run").inner_text() == repr(cell.run)
    page.get_by_role("button", name="Copy the run").click()
    page.get_by_text("Copied.").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert eval(copied, {"qsim": qsim}) == cell.run
    page.get_by_label("Seed", exact=True).select_option(label="2")
    assert eval(page.locator(".visited .run").inner_text(), {"qsim": qsim}).seed == 2


def test_a_hostile_name_is_a_name(opened: Any, file: Path) -> None:
    page = opened(file, "#show=mean")
    page.locator(".chart").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert HOSTILE in page.locator(".visited .where").inner_text()
    page.locator(".hovertext", has_text=HOSTILE).wait_for()  # plotly.js shows it a moment later
    assert HOSTILE in page.locator("h2").inner_text()
    assert page.get_by_role("checkbox", name=HOSTILE).is_checked()
    assert page.evaluate("window.hit") is None
    assert page.locator("script").count() == 3


def test_no_button_sends_anything_away(opened: Any, file: Path) -> None:
    """As one of plotly.js does by default."""
    buttons = opened(file).locator(".modebar-btn").evaluate_all("(all) => all.map((one) => one.dataset.title)")
    assert buttons == ["Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]


def test_tables_sort(opened: Any, file: Path) -> None:
    page = opened(file)
    table = page.locator(".findings table").first
    names = table.locator("tbody tr td:first-child")

    def order(head: str) -> tuple[str, str | None]:
        table.get_by_role("button", name=head).click()
        states = [one.get_attribute("aria-sort") for one in table.locator("th").all()]
        assert states.count("none") == 2
        return "".join(names.all_text_contents()), next(state for state in states if state != "none")

    assert "".join(names.all_text_contents()) == "bac"
    assert order("loss") == ("abc", "ascending")
    assert order("loss") == ("bac", "descending")  # what says nothing comes last
    assert order("bits") == ("cba", "ascending")
    assert order("name") == ("abc", "ascending")
    ends = page.locator(".ends table")
    ends.get_by_role("button", name="bits, uplink + downlink").click()
    column = [text.replace(",", "") for text in ends.locator("tbody tr td:nth-child(9)").all_text_contents()]
    values = [float(text) for text in column]
    assert values == sorted(values)


def test_the_table_of_the_chart_has_its_numbers(opened: Any, file: Path, results: Results) -> None:
    page = opened(file, "#x=round&y=loss")
    page.get_by_text("The numbers of the chart").click()
    rows = page.locator(".numbers tbody tr")
    rows.first.wait_for()
    assert rows.count() == 3 * 13
    values = [cell.get_attribute("data-value") for cell in rows.nth(20).locator("td").all()]
    band = results.band("s = 1", "loss")
    np.testing.assert_allclose(
        [float(value or "nan") for value in values[1:]], [7, band.mean[7], band.low[7], band.high[7]], rtol=1e-7
    )
    page.get_by_label("s = 1").uncheck()
    assert rows.count() == 2 * 13


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
def test_bands_are_those_of_the_results(opened: Any, file: Path, results: Results, log: bool) -> None:
    """On every axis, for every quantity: the script computes what `Results.band` does."""
    page = opened(file)
    study = json.loads(page.locator("#data").inner_text())["studies"][0]
    axes, quantities = [name for name, _ in study["across"]], [name for name, _ in study["up"]]
    found = page.evaluate(
        """([axes, quantities, log]) => {
            const study = data.studies[0];
            return study.curves.map((curve) => axes.map((x) => quantities.map((y) => band(study, curve, x, y, log))));
        }""",
        [axes, quantities, log],
    )
    compared = 0
    for curve, by_axis in zip(results.curves, found, strict=True):
        for x, by_quantity in zip(axes, by_axis, strict=True):
            for y, mine in zip(quantities, by_quantity, strict=True):
                expected, what = results.band(curve, y, axis=x, log=log), f"{curve} {y} over {x}"
                atol = 1e-7 * np.abs(expected.mean).max()
                for name in ("at", "mean", "low", "high"):
                    ours = np.array(mine[name], np.float64)
                    np.testing.assert_allclose(ours, getattr(expected, name), rtol=1e-6, atol=atol, err_msg=what)
                    compared += ours.size
    assert compared > 5000


def test_seeds_are_put_on_the_grid_of_the_statistics(opened: Any, file: Path) -> None:
    """Of seeds that share all points, some, or none, and that stay where they are for a while."""
    page, random = opened(file), np.random.default_rng(0)
    shared = 0
    for case in range(60):
        ends = [0.0, 20.0] if case % 3 else [float(random.integers(3)), 20.0 - random.integers(3)]
        steps = [np.sort([*ends, *random.integers(3, 17, size=random.integers(1, 9))]) for _ in range(3)]
        if case % 4 == 0:
            steps[1:] = [steps[0], steps[0]]
        seeds = [(at, random.uniform(0.1, 2, at.size)) for at in steps]
        log_x, log_y = bool(case & 1), bool(case & 2)
        grid, values = resample(seeds, log_x=log_x, log_y=log_y)
        found = page.evaluate(
            "([seeds, x, y]) => resample(seeds, x, y)", [[[a.tolist(), b.tolist()] for a, b in seeds], log_x, log_y]
        )
        np.testing.assert_allclose(found[0], grid, rtol=1e-12)
        np.testing.assert_allclose(found[1], values, rtol=1e-9)
        shared += set(grid) <= set(steps[0])
    assert 15 < shared < 55


def test_all_can_be_done_by_keyboard(opened: Any, file: Path) -> None:
    page = opened(file, permissions=["clipboard-read", "clipboard-write"])

    def press(*keys: str) -> str:
        for key in keys:
            page.keyboard.press(key)
        return page.evaluate("document.activeElement.id || document.activeElement.className")

    def until(wanted: str) -> None:
        for _ in range(60):
            if press("Tab") == wanted:
                return
        raise AssertionError(f"Tab does not come to {wanted}")

    assert press("Tab") == "skip"
    assert press("Enter") == "chart-0"
    assert press("ArrowRight", "ArrowRight", "ArrowRight") == "chart-0"
    third = page.locator(".visited .where").inner_text()
    assert third.startswith("uncompressed; mean of 3 seeds, 95% band")
    press("ArrowLeft", "ArrowDown")
    assert page.locator(".visited .where").inner_text().startswith("s = 1; ")
    press("End")
    last = page.locator(".visited .where").inner_text()
    press("Home", "End")
    assert page.locator(".visited .where").inner_text() == last != third
    press("Enter")
    until("study-0-curve-0")
    press("Space")
    assert drawn(page)["lines"] == 2
    until("copy-0")
    press("Enter")
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("qsim.Run(")
    until("numbers-0")
    press("Enter")
    page.locator(".numbers tbody tr").first.wait_for()  # `toggle` comes a moment later
    page.keyboard.press("Shift+Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_what_a_screen_reader_is_told(opened: Any, file: Path) -> None:
    page = opened(file)
    chart = page.get_by_role("application", name="suboptimality over bits, uplink + downlink, 3 curves")
    assert chart.get_attribute("tabindex") == "0"
    assert "left and right go along a curve" in page.locator(f"#{chart.get_attribute('aria-describedby')}").inner_text()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("main h2").count() == page.locator("h1").count() == 1
    unnamed = page.evaluate("""() => [...document.querySelectorAll("select, input, button")]
        .filter((node) => !(node.labels?.length || node.textContent.trim() || node.getAttribute("aria-label")))
            .map((node) => node.outerHTML)""")
    assert unnamed == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator(".where").get_attribute("aria-live") == "polite"


def brightness(page: Page) -> list[float]:
    """How bright the ground and the text are, from 0 to 255; and the first curve."""
    texts = page.evaluate("""() => {
        const style = getComputedStyle(document.body), chart = document.querySelector(".chart");
        const line = getComputedStyle(chart.querySelector(".scatterlayer .js-line")).stroke;
        return [style.backgroundColor, style.color, line, chart.layout.font.color];
    }""")
    return [sum(map(float, re.findall(r"[\d.]+", text)[:3])) / 3 for text in texts]


@pytest.mark.parametrize("system", ["light", "dark"])
def test_light_and_dark(opened: Any, file: Path, system: str) -> None:
    """As the system has it, until the reader chooses; the chart with it."""
    page = opened(file, "#show=mean", color_scheme=system)
    for chosen in (None, "dark", "light", "auto"):
        if chosen is not None:
            page.get_by_label("Colours").select_option(chosen)
        ground, *others = brightness(page)
        if (system if chosen in (None, "auto") else chosen) == "dark":
            assert ground < 40
            assert min(others) > 180
        else:
            assert ground > 240
            assert max(others) < 60
    page.get_by_label("Colours").select_option("dark")
    page.reload()
    assert brightness(page)[0] < 40


def test_light_colours_are_those_of_the_figures(opened: Any, file: Path) -> None:
    page = opened(file, color_scheme="light")
    for place in range(8):
        wanted = tuple(int(str(look(place)["color"])[at : at + 2], 16) for at in (1, 3, 5))
        assert page.evaluate(f"colour('curve-{place}')") == f"rgba({', '.join(map(str, wanted))}, 1)"


def test_on_a_phone(opened: Any, file: Path) -> None:
    page = opened(file, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    box = page.locator(".chart").bounding_box()
    assert box is not None
    assert 300 < box["width"] <= 360
    page.locator(".chart").tap()
    findings, point = page.locator(".findings").bounding_box(), page.locator(".visited").bounding_box()
    assert findings is not None
    assert point is not None
    assert findings["y"] > point["y"]  # one below the other
    page.locator(".chart").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):  # to a name that is wider than the phone
        page.keyboard.press(key)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]


def test_several_studies_are_on_one_page(opened: Any, part: Part, tmp_path: Path) -> None:
    path = tmp_path / "several.html"
    pages.write(
        path, [part, Part("other", "The other", "Nothing is drawn.", {}), Part("third", "Third", "", part.data)]
    )
    page = opened(path)
    assert page.locator("h2:visible").all_text_contents() == [HOSTILE]
    page.get_by_role("link", name="other").click()
    assert page.locator("h2:visible").all_text_contents() == ["The other"]
    assert page.locator(".chart:visible").count() == 0
    page.get_by_role("link", name="third").click()
    assert page.locator(".chart:visible").count() == 1
    assert page.get_by_role("link", name="third").get_attribute("aria-current") == "page"
    page.reload()
    assert page.locator("h2:visible").all_text_contents() == ["Third"]


def test_a_page_of_a_running_sweep_reads_itself_again(opened: Any, part: Part, tmp_path: Path) -> None:
    """It keeps what the reader has chosen, can be held, and stops when the sweep is over."""
    path = tmp_path / "live.html"
    pages.write(path, [part], Live("1 of 2 cells", ["x: no luck"], every=0.5))
    page = opened(path, "#y=loss")
    assert "1 of 2 cells" in page.get_by_role("status").first.inner_text()
    assert page.get_by_text("x: no luck").count() == 1
    pages.write(path, [part], Live("2 of 2 cells", every=0.5))
    page.get_by_text("2 of 2 cells").wait_for()
    assert drawn(page)["y"] == "training loss"
    page.get_by_role("button", name="Hold this page").click()
    pages.write(path, [part], Live("finished"))
    page.get_by_text("Held for 3 s.").wait_for()
    page.get_by_role("button", name="Hold this page").click()
    page.get_by_text("finished").wait_for()
    assert page.locator("#pause").is_hidden()


def test_written_results_are_drawn(opened: Any, results: Results, tmp_path: Path) -> None:
    path = tmp_path / "written.html"
    written = points.of_table(results.numbers(), {"s = 1": {"run": "a run", "seeds": [0, 1, 2]}})
    pages.write(path, [Part("written", "Written", "", written)])
    page = opened(path)
    assert drawn(page) == {
        "x": "bits, uplink + downlink", "y": "suboptimality", "scales": ["log", "log"], "lines": 3, "bands": 3,
    }  # fmt: skip
    page.locator(".chart").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".visited .run").inner_text() == "a run"
    assert "another seed it made those of 0, 1, 2" in page.locator(".visited .seen").inner_text()
