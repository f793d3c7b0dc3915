"""The release: versions agree everywhere, wheel and sdist hold what they should, and no address is needed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from types import ModuleType

import pytest

import qsim
from helpers.paths import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "tools").exists(), reason="needs the checkout")
TOP = {
    "CHANGELOG.md", "CITATION.cff", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "NOTICE", "README.md",
    "SECURITY.md",
    ".gitignore", ".pre-commit-config.yaml", ".zenodo.json", "codemeta.json", "pyproject.toml",
    ".ci", ".github", "benchmarks", "docs", "examples", "lessons", "paper_figures", "qsim", "studies", "tests", "tools",
}  # fmt: skip


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads(read("pyproject.toml"))["project"]
    return found


def metadata() -> ModuleType:
    """The tool that writes what archives read."""
    spec = importlib.util.spec_from_file_location("metadata", ROOT / "tools/metadata.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tracked() -> list[str]:
    done = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs Git's list of the files of the checkout")
    return [name for name in done.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    code = f"from hatchling.build import build_sdist; build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    subprocess.run([*pip, str(sdist)], check=True, capture_output=True)
    return folder


def wheel_names(dist: Path) -> list[str]:
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_versions_agree() -> None:
    version = qsim.__version__
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert f'{{% set version = "{version}" %}}' in read("tools/conda/meta.yaml")
    first, second = re.findall(r"^## (.*)$", read("CHANGELOG.md"), flags=re.M)[:2]
    assert first == "Unreleased"
    if ".dev" not in version:
        (date,) = re.findall(r'^date-released: "(\d{4}-\d\d-\d\d)"$', read("CITATION.cff"), flags=re.M)
        assert second == f"{version} - {date}"


@pytest.mark.parametrize("name", ["codemeta.json", ".zenodo.json"])
def test_archives_read_what_the_project_says(name: str) -> None:
    assert read(name) == metadata().text(name), "run: python tools/metadata.py"
    assert json.loads(read(name))["version"] == qsim.__version__


def test_the_recipe_has_the_dependencies() -> None:
    recipe = read("tools/conda/meta.yaml")
    run = re.search(r"  run:\n((?:    - .*\n)+)", recipe)
    assert run is not None
    found = {line.strip("- ").replace(" ", "").replace("matplotlib-base", "matplotlib") for line in run[1].splitlines()}
    assert found == {*project()["dependencies"], f"python{project()['requires-python']}"}  # type: ignore[misc]


def test_the_release_is_tried_on_every_supported_python() -> None:
    supported = [text.rpartition(" ")[2] for text in project()["classifiers"] if re.search(r":: 3\.\d+$", text)]  # type: ignore[attr-defined]
    assert project()["requires-python"] == f">={supported[0]}"
    listed = ", ".join(f'"{version}"' for version in supported)
    for workflow in ("ci", "release"):
        assert f"python: [{listed}]" in read(f".github/workflows/{workflow}.yml")


def test_the_wheel_has_the_package_alone(dist: Path) -> None:
    names = wheel_names(dist)
    info = f"qsim-{qsim.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"qsim", info}
    assert not [name for name in names if re.search(r"(^|/)(tests?|conftest|__pycache__|\.\w+)(/|\.py$|$)", name)]
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(names)
    shipped = {f"qsim/{path.relative_to(ROOT / 'qsim').as_posix()}" for path in (ROOT / "qsim").rglob("*.py")}
    shipped |= {f"qsim/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "studies").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == shipped
    data = {name for name in names if name.startswith("qsim/datasets/data/")}
    known = {"adult.npz", "spark_sample.npz", "README.md", "LICENSE-Apache-2.0.txt"}
    assert data == {f"qsim/datasets/data/{name}" for name in known}
    assert "qsim/py.typed" in names


def test_every_data_set_in_the_wheel_has_its_licence_told(dist: Path) -> None:
    for name in wheel_names(dist):
        if name.endswith(".npz"):
            assert name in read("NOTICE")


def test_the_metadata_of_the_wheel(dist: Path) -> None:
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        info = f"qsim-{qsim.__version__}.dist-info"
        text = archive.read(f"{info}/METADATA").decode()
        assert "qsim = qsim.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    about = message_from_string(text)
    assert (about["Name"], about["Version"]) == ("qsim", qsim.__version__)
    assert (about["Summary"], about["License-Expression"]) == (project()["description"], "MIT")
    assert about["Description-Content-Type"] == "text/markdown"
    assert about.get_payload().startswith("# qsim")  # type: ignore[union-attr]
    assert set(about.get_all("Provides-Extra", [])) == set(project()["optional-dependencies"])  # type: ignore[call-overload]


def test_the_sdist_has_what_the_wheel_is_built_from(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2].partition("/")[0] for name in archive.getnames()}
    wanted = {"qsim", "studies", "CHANGELOG.md", "CITATION.cff", "LICENSE", "NOTICE", "README.md", "pyproject.toml"}
    assert names == wanted | {"PKG-INFO", ".gitignore"}  # what hatchling adds
    assert path.stat().st_size < 3_000_000


def test_the_top_level_has_what_is_expected() -> None:
    assert {name.partition("/")[0] for name in tracked()} <= TOP


def test_no_registry_is_named() -> None:
    """Its host would be wrong for whoever uses another one: installers know where they look."""
    hosts = re.compile(
        rb"(?:test\.|upload\.)?pypi\.(?:org|io|python)|files\.pythonhosted|anaconda\.org|conda\.anaconda"
    )
    for name in tracked():
        path = ROOT / name
        if path.is_file() and path.suffix not in {".npz", ".png", ".pdf"}:
            assert not hosts.search(path.read_bytes()), name


def test_settings_without_a_value_are_empty() -> None:
    """What needs a home of the project: until it has one, nothing is guessed."""
    if "urls" not in project():
        for name in ("codemeta.json", ".zenodo.json"):
            assert re.findall(r"https?://([^/\"]+)", read(name)) in (["w3id.org", "spdx.org"], [])
    sdist, checksum = (
        re.findall(rf'{{% set {name} = "(.*)" %}}', read("tools/conda/meta.yaml")) for name in ("sdist", "sha256")
    )
    assert bool(sdist[0]) == bool(checksum[0])
    assert "vars.PUBLISH_ENVIRONMENT != ''" in read(".github/workflows/release.yml")


def test_the_paper_is_short_and_its_numbers_are_committed() -> None:
    """Every number that it names stands in results of this repository; every source that it cites is in its list."""
    text = read("docs/paper/paper.md")
    results = {
        "paper_figures/s_sweep.md": (
            "| s = 1 | 407,509 | 18,586,624 | 45.6 | 1.96 |",
            "45.6 and 1.96 times fewer bits",
        ),
        "paper_figures/survives.md": ("Of 49 claims 38 hold, 1 fail and 10 are open", "49 claims: 38, 1, 10"),
        "paper_figures/engines.md": ("d = 1,000,000, W = 1,000: 37.08 ms", "37 ms per round"),
        "benchmarks/everyday/results.md": ("57.4", "57 to 164 times"),
    }
    for path, (there, here) in results.items():
        assert f"| {here}" in text
        assert f"`{path}`" in text
        assert there in read(path), f"{path} no longer says {there!r}: the paper does"
    for number in ("45.6 times", "1.96 times", "held 49 claims", "38 held", "57 to 164 times", "takes 37 ms"):
        assert number in " ".join(text.split())
    cited = set(re.findall(r"@(\w+)", text.partition("# Summary")[2]))
    assert cited == set(re.findall(r"^@\w+\{(\w+),", read("docs/paper/paper.bib"), flags=re.M))
    body = re.sub(r"!\[.*?\]\(.*?\)", "", text.split("---", 2)[2].partition("# Where the numbers")[0], flags=re.S)
    assert 250 <= len(body.split()) <= 1000, "what the journal asks for"
