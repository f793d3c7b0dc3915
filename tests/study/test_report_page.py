"""Reports: what is on a page, that nothing of it is taken for markup, and what is said of cells that are missing."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qsim
from helpers.studies import TUNED
from qsim.study import catalog, cli
from qsim.study.report import page, points
from qsim.study.report.page import Live, Part
from qsim.study.store import Store

pytest.importorskip("plotly", reason="needs plotly: pip install plotly")
pytest.importorskip("markdown_it", reason="needs markdown-it-py: pip install markdown-it-py")

HOSTILE = "</script ><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'too' %{x} <b>"
STUDY = """
import qsim
from matplotlib.figure import Figure
from qsim.study import Cell, Settings, Study

NAME = @NAME@

def run(settings, compressor, seed):
    return qsim.Run(settings.load(), objective=qsim.LogisticRegression(l2=0.1), method=qsim.GradientDescent(step=0.1),
                    compressor=compressor, workers=settings.workers, rounds=settings.rounds, seed=seed)

def cells(settings):
    curves = {NAME: qsim.QSGD(1), "max": qsim.QSGD(1, "max")}
    return [Cell(c, run(settings, part, seed)) for c, part in curves.items() for seed in range(settings.seeds)]

study = Study(
    title=NAME, questions=[NAME, "Which?"], defaults=Settings("spark_sample", 4, 5, 2), cells=cells,
    setting=lambda settings: NAME + " ![image](http://example.org/x.png) [link](javascript:alert(3))",
    answers=lambda results: [NAME, "a table:\\n\\n| | loss |\\n|---|---|\\n| x | 1,234 |\\n"],
    draw=lambda results: Figure(),
)
"""


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with studies of a user."""
    (tmp_path / "plain.py").write_text(STUDY.replace("@NAME@", repr("l2")))
    (tmp_path / "hostile.py").write_text(STUDY.replace("@NAME@", repr(HOSTILE)))
    (tmp_path / "tuned.py").write_text(TUNED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Tags(HTMLParser):
    """The tags of a page, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and not self.scripts[-1]:
            self.scripts[-1] = data
        else:
            self.words += data


def test_a_page_has_the_points_of_every_seed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plain.py"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "plain.py"]) == 0
    assert re.match(r"wrote plain.html: \d\.\d MB, in \d+\.\d s", capsys.readouterr().out)
    found = Tags((here / "plain.html").read_text())
    data = json.loads(found.scripts[0])
    (study,) = data["studies"]
    assert [curve["name"] for curve in study["curves"]] == ["l2", "max"]
    run = study["curves"][1]["runs"][1]
    trace = qsim.simulate(qsim.Run(**{**vars(eval(run["run"], {"qsim": qsim}))}))
    assert (run["seed"], eval(run["run"], {"qsim": qsim}).seed) == (1, 1)
    for quantity in ("round", "bits", "bits_up", "nonzeros", "passes", "formula_bits_up", "loss", "suboptimality"):
        np.testing.assert_allclose(run["at"][quantity], trace.axis(quantity).astype(float), rtol=1e-8)
    assert "seconds" not in [name for name, _ in study["across"]]  # there is no network
    assert data["every"] is None
    assert "Which?" in found.words
    images = [attributes["src"] or "" for tag, attributes in found.tags if tag == "img"]
    assert [source.startswith("data:image/png;base64,") for source in images] == [True]


def test_names_are_never_markup(here: Path) -> None:
    """A study, a curve and questions that are called like tags add none, and no script; the policy runs no other."""
    assert cli.main(["hostile.py"]) == 0
    assert cli.main(["plain.py"]) == 0
    assert cli.main(["report", "hostile.py"]) == 0
    assert cli.main(["report", "plain.py"]) == 0
    hostile, plain = (Tags((here / f"{name}.html").read_text()) for name in ("hostile", "plain"))
    assert len(hostile.scripts) == 3
    assert len(re.findall("</script", (here / "hostile.html").read_text(), re.IGNORECASE)) == 3
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert hostile.words.count(HOSTILE) >= 3  # title, question, answer
    assert json.loads(hostile.scripts[0])["studies"][0]["curves"][0]["name"] == HOSTILE
    names = {name for _, attributes in hostile.tags for name in attributes}
    assert not any(name.startswith("on") for name in names)
    links = [attributes.get("href") or attributes.get("src") or "" for _, attributes in hostile.tags]
    assert not any(link.startswith(("javascript:", "http")) and not link.endswith(".png") for link in links)
    (policy,) = [about["content"] or "" for tag, about in hostile.tags if tag == "meta" and "http-equiv" in about]
    for script in hostile.scripts[1:]:
        assert f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy


def test_what_a_sweep_says_is_never_markup() -> None:
    text = page.page([Part(HOSTILE, HOSTILE, HOSTILE, notices=[HOSTILE])], Live(HOSTILE, [HOSTILE], 1.0))
    found = Tags(text)
    assert len(found.scripts) == 3
    assert found.words.count(HOSTILE) >= 6
    assert not [tag for tag, _ in found.tags if tag in ("img", "b")]


def test_missing_cells_are_said_with_their_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plain.py", "--rounds", "4"]
    assert cli.main(["report", *command]) == 2
    said = capsys.readouterr().err
    assert "4 of 4 cells of plain are not stored: 'l2, seed 0', 'l2, seed 1'" in said
    assert "error: no page is written, as there is nothing to draw of plain.py" in said
    assert not (here / "plain.html").exists()
    assert cli.main([*command, "--only", "max"]) == 0
    capsys.readouterr()
    assert cli.main(["report", *command]) == 1
    said = "2 of 4 cells of plain are not stored: 'l2, seed 0', 'l2, seed 1'; curves have the seeds that are."
    assert f"{said} To run them: qsim study plain.py --rounds 4" in capsys.readouterr().err
    found = Tags((here / "plain.html").read_text())
    assert said in found.words
    assert [curve["name"] for curve in json.loads(found.scripts[0])["studies"][0]["curves"]] == ["max"]
    assert "The findings are drawn from all cells" in found.words
    assert "a table:" not in found.words


def test_a_tuned_study_is_reported_without_running_anything(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that diverged is not stored, but the journal of its sweep tells that it did."""
    assert cli.main(["report", "tuned.py"]) == 2
    assert "6 of 6 runs to choose by of tuned are not stored" in capsys.readouterr().err
    assert cli.main(["tuned.py"]) == 0
    stored = Store().cells()
    assert cli.main(["report", "tuned.py"]) == 0
    assert Store().cells() == stored
    found = Tags((here / "tuned.html").read_text())
    assert "What was tuned?" in found.words
    assert len(json.loads(found.scripts[0])["studies"][0]["curves"][0]["runs"]) == 2
    for path in (Store().folder / "sweeps").iterdir():
        path.unlink()
    capsys.readouterr()
    assert cli.main(["report", "tuned.py"]) == 2
    assert "2 of 6 runs to choose by of tuned are not stored: 'plain, 1e+300, seed 1000000'" in capsys.readouterr().err


def test_without_names_all_that_is_stored(here: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(catalog, "names", lambda: ["certificates", "seminar", "s_sweep", "simple_quantization"])
    settings = ["--data", "spark_sample", "--rounds", "2", "--seeds", "1", "--workers", "2"]
    assert cli.main(["report", *settings]) == 2
    assert "there is nothing to draw of any study" in capsys.readouterr().err
    assert cli.main(["s_sweep", *settings, "--only", "s = 1"]) == 0
    assert cli.main(["report", *settings, "--html", "out/all.html"]) == 1
    studies = json.loads(Tags((here / "out" / "all.html").read_text()).scripts[0])["studies"]
    found = {study["name"]: [curve["name"] for curve in study["curves"]] for study in studies}
    assert found == {"s_sweep": ["s = 1"], "simple_quantization": ["simple quantizer"]}  # the cell is of both


def test_written_results_make_a_page(here: Path) -> None:
    assert cli.main(["plain.py"]) == 0
    assert cli.main(["report", "plain", "--from", "paper_figures"]) == 0
    found = Tags((here / "plain.html").read_text())
    (study,) = json.loads(found.scripts[0])["studies"]
    table = pd.read_csv(here / "paper_figures" / "plain.csv")
    rows = table[table["curve"] == "max"]
    (run,) = study["curves"][1]["runs"]
    for quantity, column in {"loss": "loss", "loss_low": "loss_low", "bits_up": "cumulative_bits_up"}.items():
        np.testing.assert_allclose(run["at"][quantity], rows[column], rtol=1e-8)
    assert run["at"]["bits"] == (rows["cumulative_bits_up"] + rows["cumulative_bits_down"]).tolist()
    assert run["run"].startswith("qsim.Run(")
    assert run["seeds"] == [0, 1]
    assert "Which?" in found.words
    assert "with the settings qsim.study.Settings(" in found.words


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("report plain.py --html .", "--html . is not a file that can be written"),
        ("report nowhere.py", "there is no study file"),
        ("report certificates", "certificates stores no cells: qsim study certificates writes its results"),
        ("report --from nowhere", "--from nowhere is not a folder with results"),
        ("report x --from .", "there are no results"),
        ("report wrong --from .", "wrong.csv and .json are not what a study wrote"),
        ("watch plain.py tuned.py", "watch takes the name of one study"),
        ("watch certificates", "certificates stores no cells"),
        ("watch --html x.html", "--html needs the name of the study"),
        ("watch plain.py --every 0", "--every must be above 0"),
        ("watch --wait 0", "no sweep is running"),
    ],
)
def test_wrong_requests_are_said(command: str, words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "wrong.csv").write_text("curve,loss\nx,1\n")
    (here / "wrong.json").write_text("[")
    if "--html ." in command:
        assert cli.main(["plain.py"]) == 0
        capsys.readouterr()
    assert cli.main(command.split()) == 2
    assert words in capsys.readouterr().err
    assert not list(here.glob("*.html"))


@pytest.mark.parametrize("module", ["plotly", "markdown_it"])
def test_without_the_extra_it_is_named(module: str, here: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None if name == module else name)
    for command in (["report", "plain.py"], ["watch", "plain.py", "--html", "x.html"]):
        assert cli.main(command) == 2
        name = module.replace("_it", "-it-py")
        assert f"error: a report needs {name}: pip install {name}" in capsys.readouterr().err


def test_of_many_rounds_the_shown_are_real_ones() -> None:
    """Nothing is averaged: chosen rounds, the ends among them, and how many there were stays known."""
    assert points.thinned(5).tolist() == [0, 1, 2, 3, 4]
    for evaluated in (401, 1000, 100_000):
        chosen = points.thinned(evaluated)
        assert chosen[[0, 1, -1]].tolist() == [0, 1, evaluated - 1]
        assert (np.diff(chosen) > 0).all()
        assert 250 <= chosen.size <= points.MOST
        assert np.diff(chosen).max() <= np.ceil((evaluated - 1) / (points.MOST // 2 - 1)) + 1
    run = qsim.Run(
        "spark_sample", qsim.LogisticRegression(l2=0.1), qsim.GradientDescent(step=0.1), rounds=1000, optimum=False
    )
    trace = qsim.simulate(run)
    data = points.of_cells({"one": [(qsim.study.Cell("one", run), trace)]})
    (shown,) = data["curves"][0]["runs"]
    assert shown["of"] == 1001
    assert len(shown["at"]["round"]) < points.MOST
    np.testing.assert_allclose(shown["at"]["loss"], trace.axis("loss")[shown["at"]["round"]], rtol=1e-8)


def test_numbers_that_are_not_finite_do_not_break_the_page() -> None:
    frame = pd.DataFrame({"curve": ["a", "a", "b"], "x": [1.0, np.inf, 3.0], "y": [np.nan, 2.0, 1e300]})
    data = points.of_table(frame, {})
    text = page.page([Part("t", "T", "", data)])
    (study,) = json.loads(Tags(text).scripts[0])["studies"]
    assert study["curves"][0]["runs"][0]["at"] == {"x": [1, None], "y": [None, 2]}
