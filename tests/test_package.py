"""The package: imports point one way, `import qsim` is light, names exist, kernels recompile, the wheel is complete."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import get_overloads

import pytest

import qsim
from helpers.paths import PACKAGE, ROOT, process_environment
from qsim.options import code

LAYERS = [  # each package may import those above it, and itself
    {"_version", "options", "interrupts", "plotting", "commands", "notebooks"},
    {"object_loader", "arrays"},
    {"storage"},
    {"kernels"},
    {"keys", "program"},
    {"batch", "bound", "steps", "clients", "l2_decay", "stopping"},
    {"weights", "network"},
    {"datasets"},
    {"block", "identity"},
    {"objectives", "compressors", "codecs", "starts"},
    {"channel", "entropy", "formulas", "metrics", "problem", "trace"},
    {"plan"},
    {"methods", "downlinks"},
    {"workers"},
    {"engines"},
    {"simulation"},
    {"study", "testing", "calibrate"},
    {"verify", "warm", "lessons"},
    {"cli"},
    {"__main__"},
]
EXCEPTIONS = {("kernels", "storage"), ("kernels", "interrupts")}
OUTSIDE = {
    "kernels": {"numpy", "numba", "llvmlite"},
    "batch": {"numpy"},
    "keys": {"numpy"},
    "arrays": {"numpy"},
    "options": set(),
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """All modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the package"
            found.add(node.module or "")
            if node.module == "qsim":
                found |= {f"qsim.{alias.name}" for alias in node.names}
    return found


def package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    if path in (PACKAGE / "__init__.py",):
        return
    own = package(path)
    if own == "studies":
        return
    floors = {name: floor for floor, names in enumerate(LAYERS) for name in names}
    assert own in floors, f"{own} is in no layer"
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "qsim" and len(parts) > 1:
            allowed = floors[parts[1]] < floors[own] or parts[1] == own or (own, parts[1]) in EXCEPTIONS
            assert allowed, f"{own} must not import {module}"
        elif own in OUTSIDE and parts[0] not in sys.stdlib_module_names and parts[0] != "qsim":
            assert parts[0] in OUTSIDE[own], f"{own} must not import {module}"


def test_no_file_imports_itself_by_others() -> None:
    """No circle, for types neither: files can be put into an order in which each imports earlier ones only."""
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in sources()}
    names = {name.removesuffix(".__init__"): path for name, path in names.items() if "studies" not in name}
    names.pop("qsim")  # imports what is asked for, when it is
    needs = {}
    for name, path in names.items():
        needs[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                needs[name] |= {one if one in names else node.module for one in full} & (set(names) - {name})
    while ready := {name for name, others in needs.items() if not others}:
        needs = {name: others - ready for name, others in needs.items() if name not in ready}
    assert sorted(needs) == []


def test_no_file_is_long() -> None:
    files = [*sources(), *ROOT.glob("tests/**/*.py"), *ROOT.glob("studies/**/*.py"), *ROOT.glob("tools/*.py")]
    files += [*ROOT.glob("lessons/*.py"), *ROOT.glob("examples/**/*.py"), *ROOT.glob("docs/**/*.py")]
    long = [str(path) for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 500]
    assert not long


def test_files_of_tests_have_names_of_their_own() -> None:
    """Two of one name cannot be imported by one process."""
    names = [path.name for path in ROOT.glob("tests/**/test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_public_names_import() -> None:
    for name in qsim.__all__:
        assert getattr(qsim, name) is not None
    for name in ("codecs", "compressors", "datasets", "engines", "methods", "network", "objectives", "study"):
        module = getattr(qsim, name)
        assert module.__all__ == sorted(module.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
        for inner in module.__all__:
            assert getattr(module, inner) is not None
    with pytest.raises(AttributeError, match="no attribute 'qsdg'"):
        _ = qsim.qsdg


def test_the_top_level_follows_its_rule() -> None:
    """All compressors, methods and objectives that can be made are at the top level, and what `dir` shows is public."""
    for module, base in (
        (qsim.compressors, qsim.compressors.Compressor),
        (qsim.methods, qsim.methods.Method),
        (qsim.objectives, qsim.objectives.Objective),
    ):
        classes = [getattr(module, name) for name in module.__all__]
        shipped = {cls for cls in classes if isinstance(cls, type) and issubclass(cls, base) and cls.__repr__ is code}
        assert {cls.__name__ for cls in shipped} <= set(qsim.__all__)
    assert dir(qsim) == sorted(qsim.__all__)


@pytest.mark.parametrize("name", [name for name in qsim.__all__ if isinstance(getattr(qsim, name), ModuleType)])
def test_modules_show_their_public_names(name: str) -> None:
    module = getattr(qsim, name)
    assert sorted(dir(module)) == sorted(module.__all__)


def test_simulate_spells_out_the_fields_of_a_run() -> None:
    """The overload for editors, and the signature for `help`, have the fields of `Run` with their defaults."""
    run = inspect.signature(qsim.Run).parameters
    (_, spelled) = get_overloads(qsim.simulate)
    for signature in (inspect.signature(spelled), inspect.signature(qsim.simulate)):
        found = signature.parameters
        assert [name for name in found if name in run] == list(run)
        assert {name: found[name].default for name in run} == {name: part.default for name, part in run.items()}
        assert list(found)[len(run) :] == ["engine", "checkpoint", "every", "progress", "after_round"]


def test_simulate_documents_the_fields_of_a_run() -> None:
    """`help(qsim.simulate)` says of each what `Run` says."""
    fields = (inspect.getdoc(qsim.Run) or "").partition("\nobjective : ")[2].partition("\n\nRaises")[0]
    assert f"objective : {fields}\nengine : " in (inspect.getdoc(qsim.simulate) or "")


def test_windows_is_refused() -> None:
    code = (
        "import sys, numba, pandas, scipy.sparse, multiprocessing.connection, qsim.datasets\n"
        "sys.platform = 'win32'\nimport qsim\nqsim.simulate"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith(
        "ImportError: qsim does not run on Windows: install it in WSL, the Windows Subsystem for Linux\n"
    )


def test_version_is_in_step() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", qsim.__version__)
    if (ROOT / "CITATION.cff").exists():
        assert f"version: {qsim.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.skipif(not (ROOT / "CITATION.cff").exists(), reason="needs the checkout")
@pytest.mark.parametrize("module", [qsim.compressors, qsim.methods, qsim.steps], ids=lambda module: module.__name__)
def test_sources_can_be_cited(module: ModuleType) -> None:
    """Who uses a method cites its paper: CITATION.cff names the first author of every source."""
    known = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for name in getattr(module, "__all__", vars(module)):
        text = getattr(module, name).__doc__ or ""
        for author in re.findall(r"\.\. \[\d+\] (?:[eE]\.g\. )?([A-Z][\w-]+)(?:,| and | et al[.])", text):
            assert f"family-names: {author}," in known, f"{name} cites {author}"


def test_public_docstrings() -> None:
    for name in qsim.__all__:
        if name != "__version__":
            assert getattr(qsim, name).__doc__, f"{name} has no docstring"


def python(code: str, **environment: str) -> str:
    """Run a program in a fresh interpreter, away from the checkout; return what it prints."""
    settings = process_environment(**environment)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=settings, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_lazy() -> None:
    heavy = python(
        "import sys, qsim; print([m for m in ('numpy', 'numba', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    assert heavy.strip() == "[]"
    light = python(
        "import sys, qsim; qsim.Run; print([m for m in ('pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    assert light.strip() == "[]"


def test_an_edit_in_another_files_kernel_is_noticed(tmp_path: Path) -> None:
    """`draw_with_replacement` calls `below` of another file. Numba's own cache would go on returning the old answer."""
    copy = tmp_path / "qsim"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import numpy as np; from qsim.kernels.sampling import draw_with_replacement as draw; o = np.empty(2, int);"
        "r = np.empty(4, np.int64); one = np.ones(1, np.uint64);"
        "draw(one, np.arange(9), np.array([0, 9]), 4, None, o, r); print(r)"
    )
    settings = {"PYTHONPATH": str(tmp_path), "QSIM_CACHE_DIR": str(tmp_path / "cache")}
    first = python(code, **settings)
    assert python(code, **settings) == first
    hashing = copy / "kernels" / "hashing.py"
    text = hashing.read_text(encoding="utf-8")
    stamp = hashing.stat()
    edited = text.replace("* np.float64(size))", "* np.float64(1.0))")
    assert edited != text
    hashing.write_text(edited, encoding="utf-8")
    os.utime(hashing, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert python(code, **settings).strip() == "[0 0 0 0]" != first.strip()


def test_compiling_is_announced_once_and_cached(tmp_path: Path) -> None:
    code = (
        "from numpy import int32, uint64; from qsim.kernels.hashing import below;"
        " below(uint64(1), 3); below(uint64(1), int32(3))"
    )
    settings = process_environment(QSIM_CACHE_DIR=str(tmp_path))
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings, check=True).stderr
        for _ in range(2)
    ]
    assert runs[0].count("compiling kernels") == 1
    assert runs[1] == ""


def test_a_users_numba_settings_stay() -> None:
    code = "from numba.core import config; config.CACHE_DIR = 'mine'; import qsim.kernels.csr; print(config.CACHE_DIR)"
    assert python(code).strip() == "mine"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("the tests run outside a checkout: there is nothing to build a wheel from")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    unpacked = folder / "site"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(unpacked)
    return unpacked


def test_the_wheel_is_complete_and_small(wheel: Path) -> None:
    names = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    assert {
        "qsim/py.typed",
        "qsim/studies/s_sweep.py",
        "qsim/studies/papers/dasha.py",
        "qsim/datasets/data/README.md",
        *(f"qsim/study/report/{name}" for name in ("page.html", "study.html", "live.html", "page.css")),
        *(f"qsim/study/report/{name}.js" for name in ("bands", "tables", "chart", "page")),
    } <= names
    assert not any(name.startswith(("tests", "studies", "benchmarks")) for name in names)
    assert sum(path.stat().st_size for path in (wheel / "qsim/datasets/data").iterdir()) < 500_000
    (licences,) = {path.parent for path in wheel.rglob("NOTICE")}
    assert (licences / "LICENSE").exists()


@pytest.mark.parametrize("name", ["simple_quantization", "s_sweep", "seminar"])
def test_studies_run_from_the_wheel(wheel: Path, tmp_path: Path, name: str) -> None:
    """From another folder, on a tiny size, twice: the same numbers, and every file written."""
    settings = os.environ | {"PYTHONPATH": str(wheel)}
    command = [sys.executable, "-m", "qsim.study", name, "--rounds", "10", "--seeds", "2", "--workers", "4"]
    for out in ("first", "second"):
        done = subprocess.run(
            [*command, "--out", out, "--data", "spark_sample"],
            capture_output=True, text=True, env=settings, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"{name}: " in done.stdout
    for kind in ("pdf", "png", "csv", "md", "json"):
        first, second = (tmp_path / out / f"{name}.{kind}" for out in ("first", "second"))
        assert first.stat().st_size > 100
        assert first.read_bytes() == second.read_bytes()
    assert b"/Type3" not in (tmp_path / "first" / f"{name}.pdf").read_bytes()
    assert "nan" not in (tmp_path / "first" / f"{name}.md").read_text(encoding="utf-8")
