"""Objectives of a user's own in plain NumPy: means of losses, margins of several weights, and the page about them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import check_grad

import qsim
from helpers.paths import DOCS
from qsim.block import Block, Rows
from qsim.datasets import Dataset, Dirichlet
from qsim.objectives import MarginModel, MeanLoss, NoOptimumError
from qsim.weights import Replica

PAGE = DOCS / "your-own-objective.md"
DATA = qsim.datasets.synthetic(60, 40, 4, seed=3)


@qsim.option
class Logistic(MeanLoss):
    """Logistic regression, once more."""

    l2: float = 0.1

    def loss_and_gradient(self, w, data):
        x, y = data.to_scipy(), data.labels
        margins = x @ w
        return np.logaddexp(0, -y * margins).mean(), x.T @ (-y / (1 + np.exp(y * margins))) / y.size

    def error(self, w, data):
        return np.mean((data.to_scipy() @ w) * data.labels <= 0)


@qsim.option
class Network(MarginModel):
    """Least squares of a layer of tanh: width hidden units, whose mean is the output."""

    l2: float = 0.01
    hidden: int = 3

    takes = ("targets",)

    @property
    def width(self):
        return self.hidden

    def loss(self, margins, labels):
        return 0.5 * (np.tanh(margins).mean(axis=1) - labels) ** 2

    def slope(self, margins, labels):
        out = np.tanh(margins)
        return (out.mean(axis=1) - labels)[:, None] * (1 - out**2) / self.hidden

    def margin_hvp(self, margins, along, labels):
        out = np.tanh(margins)
        inner = 1 - out**2
        mean = (inner * along).mean(axis=1, keepdims=True) * inner / self.hidden
        return mean + (out.mean(axis=1) - labels)[:, None] * (-2 * out * inner) / self.hidden * along

    def curvature_bound(self):
        raise NotImplementedError

    def error(self, w, data):
        out = np.tanh(data.to_scipy() @ w.reshape(-1, self.hidden)).mean(axis=1)
        return np.mean((out - data.labels) ** 2)


def test_a_mean_of_losses_is_what_it_says() -> None:
    """The same numbers, to rounding, as the shipped one: driver, workers, batches, workers that have moved."""
    shards = Dirichlet(0.3).split(DATA, 6, qsim.Key(1))
    block, random = Block(shards, 0, 6), np.random.default_rng(0)
    mine, shipped = Logistic(), qsim.LogisticRegression(0.1)
    w = random.standard_normal(40)
    assert mine.value(w, DATA) == pytest.approx(shipped.value(w, DATA), rel=1e-12)
    np.testing.assert_allclose(mine.gradient(w, DATA), shipped.gradient(w, DATA), rtol=1e-10)
    assert mine.error(w, DATA) == shipped.error(w, DATA)
    moved = random.standard_normal(block.support.offsets[-1])
    owned = np.split(shards.order, shards.offsets[1:-1])
    batch = Rows(np.concatenate([own[:2] for own in owned]), np.cumsum([0, *(own[:2].size for own in owned)]))
    for rows in (block.all_rows(), batch):
        for at in (Replica(w), Replica(w, 0.5, moved), Replica(w.astype(np.float32), 0.5)):
            read = block.read
            found, right = (o.update(block, rows, at, 0.3).to_dense() for o in (mine, shipped))
            assert found.dtype == right.dtype
            np.testing.assert_allclose(found, right, atol=1e-14 if found.dtype == np.float64 else 1e-6)
            losses, right = (o.losses(block, rows, at).value for o in (mine, shipped))
            np.testing.assert_allclose(losses, right, rtol=1e-12 if at.vector.dtype == np.float64 else 1e-5)
            assert block.read - read == 4 * rows.index.size


def test_training_is_that_of_the_shipped_one() -> None:
    run = {"method": qsim.methods.LBFGS(), "rounds": 12, "workers": 3}
    mine = qsim.simulate(DATA, objective=Logistic(), optimum=False, **run).frame
    shipped = qsim.simulate(DATA, objective=qsim.LogisticRegression(0.1), **run).frame
    np.testing.assert_allclose(mine["loss"], shipped["loss"], rtol=1e-12)
    assert shipped["suboptimality"].iloc[-1] < 1e-8
    assert np.array_equal(mine["passes"], shipped["passes"])


def test_what_is_not_known_is_told() -> None:
    for method, compressor, error, told in (
        (
            qsim.GradientDescent(),
            qsim.Identity(),
            ValueError,
            r"Logistic\(\) states no smoothness L, so .* the step",
        ),
        (qsim.methods.EF21(), qsim.TopK(3), ValueError, r"Logistic\(\) states no smoothness.*: give the step"),
        (qsim.methods.NewtonCG(), qsim.Identity(), NotImplementedError, "no product with its Hessian"),
    ):
        with pytest.raises(error, match=told):
            qsim.simulate(DATA, objective=Logistic(), method=method, compressor=compressor, optimum=False)
    with pytest.raises(NoOptimumError, match="optimum=False"):
        qsim.simulate(DATA, objective=Logistic(), method=qsim.methods.LBFGS())


@qsim.option
class Broken(MeanLoss):
    """Wrong in one of several ways."""

    how: str
    l2: float = 0.0

    def loss_and_gradient(self, w, data):
        if self.how == "writes":
            w += 1
        gradient = np.zeros(w.size - (self.how == "short")) + (self.how == "dense")
        return (np.zeros(3) if self.how == "array" else w.sum() if self.how == "dense" else 0.0), gradient

    def error(self, w, data):
        return 0.0


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("short", r"an array of shape \(40,\), found shapes \(\) and \(39,\)"),
        ("array", r"found shapes \(3,\) and \(40,\)"),
        ("dense", "not zero for features that the rows lack"),
        ("writes", "read-only"),
    ],
)
def test_what_is_wrong_is_told(how: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        qsim.simulate(
            DATA, objective=Broken(how), method=qsim.SGD(step=qsim.steps.Constant(0.1)), workers=2, optimum=False
        )
    with pytest.raises(ValueError, match=r"w must have shape \(40,\)"):
        Broken("").value(np.zeros(39), DATA)


@qsim.option
class Misshapen(qsim.objectives.LinearModel):
    """One of the functions returns an array of another shape."""

    which: str
    shape: tuple[int, ...] | None
    l2: float = 0.1

    def bend(self, name, found):
        return found if name != self.which else None if self.shape is None else np.ones(self.shape)

    def loss(self, margins, labels):
        return self.bend("loss", (margins - labels) ** 2 / 2)

    def slope(self, margins, labels):
        return self.bend("slope", margins - labels)

    def curvature(self, margins, labels):
        return self.bend("curvature", np.ones_like(margins))

    def curvature_bound(self):
        return 1.0


@pytest.mark.parametrize("which", ["loss", "slope", "curvature"])
@pytest.mark.parametrize("shape", [(60, 1), (), (59,), None], ids=repr)
def test_a_shape_that_is_wrong_is_told(which: str, shape: tuple[int, ...] | None) -> None:
    """A slope that was too short had the kernels read and write beside their arrays."""
    broken, w = Misshapen(which, shape), np.zeros(40)
    block = Block(qsim.datasets.Contiguous().split(DATA, 1, qsim.Key(0)), 0, 1)
    rows, here = block.all_rows(), Replica(w)
    uses = {
        "loss": [lambda: broken.value(w, DATA), lambda: broken.losses(block, rows, here)],
        "slope": [lambda: broken.gradient(w, DATA), lambda: broken.update(block, rows, here, 1.0)],
        "curvature": [lambda: broken.hvp(block, rows, here, w)],
    }
    for use in uses[which]:
        with pytest.raises(ValueError, match=rf"^what {which} of .*Misshapen.* of shape \(60,\), found"):
            use()


def test_a_model_of_several_margins() -> None:
    """Gradients and Hessian products by differences, for the driver and as the workers' mean."""
    random = np.random.default_rng(0)
    data = Dataset(DATA.indptr, DATA.indices, DATA.values, random.uniform(-1, 1, 60), 40, kind="targets")
    objective = Network()
    w, v = random.standard_normal((2, 120))
    assert check_grad(objective.value, objective.gradient, w, data) < 1e-6
    shards = qsim.datasets.Shuffled().split(data, 4, qsim.Key(0)).of_width(3)
    block = Block(shards, 0, 4)
    rows, here = block.all_rows(), Replica(w)
    gradient = shards.weights @ objective.update(block, rows, here, 1.0).to_dense() + 0.01 * w
    np.testing.assert_allclose(gradient, objective.gradient(w, data), atol=1e-14)
    change = (objective.gradient(w + 1e-5 * v, data) - objective.gradient(w - 1e-5 * v, data)) / 2e-5
    product = shards.weights @ objective.hvp(block, rows, here, v).to_dense() + 0.01 * v
    np.testing.assert_allclose(product, change, atol=1e-8)
    run = qsim.Run(
        data,
        objective,
        qsim.SGD(step=qsim.steps.Constant(0.5), batch=8),
        qsim.QSGD(4),
        start=qsim.starts.Uniform(0.5),
        rounds=40,
        optimum=False,
    )
    frame = qsim.simulate(run).frame
    assert frame["loss"].iloc[-1] < frame["loss"].iloc[0]


@pytest.mark.skipif(not PAGE.exists(), reason="needs the checkout's docs")
def test_the_page_runs(tmp_path: Path) -> None:
    """As a script: classes of `__main__` travel to the processes."""
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(programs) == 5
    script = tmp_path / "mine.py"
    script.write_text("\n".join(programs))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "suboptimality" in done.stdout
    last = [line for line in done.stdout.splitlines() if line.startswith("300 ")]
    assert float(last[0].split()[2]) < 1e-9


def test_workers_without_rows_are_passed_over() -> None:
    """They have no data, and an update of zeros."""
    shards = Dirichlet(0.05).split(DATA, 20, qsim.Key(3))
    empty = np.flatnonzero(shards.sizes == 0)
    assert empty.size
    block = Block(shards, 0, 20)
    taken: list[Any] = list(block.take(block.all_rows()))
    assert [part is None for part in taken] == (shards.sizes == 0).tolist()
    assert sum(part.rows for part in taken if part is not None) == 60
    update = Logistic().update(block, block.all_rows(), Replica(np.zeros(40, np.float32)), 1.0)
    assert not update.to_dense()[empty].any()
