"""Documentation that runs: docstring examples, the README's program and commands, the wire format's example."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import qsim
from helpers.paths import DOCS, PACKAGE, ROOT
from qsim.options import code

MODULES = sorted(
    ".".join(("qsim", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py" and "studies" not in path.parts
)
needs_checkout = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the checkout's README and docs")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.S)


@needs_checkout
def test_readme_programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    programs = blocks(ROOT / "README.md", "python")
    assert len(programs) == 1
    for program in programs:
        exec(compile(program, "README.md", "exec"), {"__name__": "readme"})


@needs_checkout
def test_the_pages_of_parts_name_every_part() -> None:
    pages = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("overview", "engines")}
    for module, base, page in (
        (qsim.compressors, qsim.compressors.Compressor, "overview"),
        (qsim.codecs, qsim.codecs.Codec, "overview"),
        (qsim.methods, qsim.methods.Method, "overview"),
        (qsim.objectives, qsim.objectives.Objective, "overview"),
        (qsim.downlinks, qsim.downlinks.Downlink, "overview"),
        (qsim.engines, qsim.engines.Engine, "engines"),
    ):
        for name in module.__all__:
            part = getattr(module, name)
            if isinstance(part, type) and issubclass(part, base) and part.__repr__ is code:
                assert re.search(rf"`{name}\b", pages[page]), f"docs/{page}.md says nothing of {name}"


@needs_checkout
def test_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).exists(), f"README links to {path}"
    for name in re.findall(r"python -m qsim\.study (\w+)", text):
        from qsim.study import catalog

        assert name in {*catalog.names(), *catalog.COMMANDS}


@needs_checkout
def test_the_page_of_studies(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worked study runs, from a script and by the page's commands; all its commands are understood."""
    from qsim.study import cli

    page = DOCS / "studies.md"
    study, traced = blocks(page, "python")
    assert study.count("\n") < 40
    (tmp_path / "batches.py").write_text(study)
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line, comments=True) for text in blocks(page, "sh") for line in text.splitlines()]
    assert len(commands) == 19
    for words in commands:
        assert words[:3] == ["python", "-m", "qsim.study"]
        cli._parse(words[3:])
        if "batches.py" in words and "parquet" not in words:
            assert cli.main(words[3:]) == 0
    assert {path.suffix for path in Path("paper_figures").glob("batches.*")} == {".pdf", ".png", ".csv", ".md", ".json"}
    space: dict[str, object] = {}
    exec(compile(study, "batches.py", "exec"), space)
    exec(compile(traced, "studies.md", "exec"), space)


@needs_checkout
def test_the_page_of_papers(cache: Path) -> None:
    from qsim.study import catalog, cli

    for program in blocks(DOCS / "papers.md", "python"):
        exec(compile(program, "papers.md", "exec"), {})
    commands = [line for text in blocks(DOCS / "papers.md", "sh") for line in text.splitlines()]
    for line in commands:
        words = shlex.split(line, comments=True)
        assert words[:3] == ["qsim", "study", "papers"]
        assert set(cli._parse(words[2:]).names) <= {*catalog.papers(), "all"}


@needs_checkout
def test_the_page_of_methods() -> None:
    """Its program runs, and its first table has every method."""
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    (program,) = blocks(DOCS / "methods.md", "python")
    exec(compile(program, "methods.md", "exec"), {"__name__": "methods"})
    base = qsim.methods.Method
    methods = [m for m in vars(qsim.methods).values() if isinstance(m, type) and issubclass(m, base) and m is not base]
    assert len(methods) > 8
    assert all(f"`{method.__name__}" in text for method in methods)


@needs_checkout
def test_formulas_in_pages_are_maths() -> None:
    """No norm, root or inequality is typed as text."""
    for path in sorted({*DOCS.glob("*.md"), *(DOCS / "tutorials").glob("*.md")}):
        text = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", "", path.read_text(encoding="utf-8"), flags=re.S)
        assert not re.findall(r"\|\|\S.*|\bsqrt\b.*|.*<= .*|\bE \|.*", text), path


@needs_checkout
def test_wire_format_example() -> None:
    text = (DOCS / "wire-format.md").read_text(encoding="utf-8")
    message = qsim.batch.Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
    codecs = qsim.codecs
    for codec in (codecs.Varint(), codecs.Elias("gamma"), codecs.FixedWidth(), codecs.Bitmap(), codecs.RANS()):
        assert f"header `{codec.header(message).hex(' ')}`, packet `{codec.encode(message)[0].hex(' ')}`" in text
    fixed = replace(message, fixed=1.5)
    assert (
        f"header `{codecs.Varint().header(fixed).hex(' ')}`, packet `{codecs.Varint().encode(fixed)[0].hex(' ')}`"
        in text
    )
    for codec in (qsim.codecs.Elias("omega"), qsim.codecs.GolombRice()):
        assert f"is `{codec.encode(message)[0].hex(' ')}`:" in text


@needs_checkout
def test_the_page_of_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for program in blocks(DOCS / "evaluation.md", "python"):
        exec(compile(program, "evaluation.md", "exec"), {"__name__": "evaluation"})
        assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", program)
    assert {path.suffix for path in Path().iterdir()} == {".gz", ".pdf"}


@needs_checkout
def test_the_page_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for program in blocks(DOCS / "network.md", "python"):
        exec(compile(program, "network.md", "exec"), space)
    assert Path("round_1.pdf").stat().st_size > 1000


@needs_checkout
def test_the_page_of_comparisons(capsys: pytest.CaptureFixture[str]) -> None:
    """Its table is what its program prints."""
    (program,) = blocks(DOCS / "comparison.md", "python")
    exec(compile(program, "comparison.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 5
    assert printed in (DOCS / "comparison.md").read_text(encoding="utf-8")


@needs_checkout
def test_the_page_of_installation() -> None:
    """Its program runs, and its table has every extra."""
    (program,) = blocks(DOCS / "installation.md", "python")
    exec(compile(program, "installation.md", "exec"), {})
    text = (DOCS / "installation.md").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert all(f"`{extra}`" in text for extra in extras)


@needs_checkout
def test_the_first_page() -> None:
    (program,) = blocks(DOCS / "index.md", "python")
    exec(compile(program, "index.md", "exec"), {})
