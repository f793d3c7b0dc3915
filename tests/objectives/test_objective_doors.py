"""What a user's own objective returns: taken if it is sound, else refused by name before a kernel takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import qsim
from helpers.small_runs import DATA, STEP, masked, read_only, trained
from qsim.batch import Memory, Support, Vectors
from qsim.methods import DIANA, EF21, LBFGS, MARINA, SGD, GradientDescent, LocalSGD, NewtonCG, SignSGD
from qsim.objectives import LeastSquares, LinearModel, MeanLoss


class Squares(LinearModel):
    """Least squares, not even an option."""

    l2 = 0.1
    kept = np.ones(1)

    def loss(self, margins, labels):
        return 0.5 * (margins - labels) ** 2

    def slope(self, margins, labels):
        return margins - labels

    def curvature(self, margins, labels):
        return np.ones_like(margins)

    def curvature_bound(self):
        return 1.0


def changed(name: str, how: Callable[[Any], Any]) -> Squares:
    """Squares, one method of which returns something else."""
    usual = getattr(Squares, name)
    return type("Changed", (Squares,), {name: lambda self, *given: how(usual(self, *given))})()


NO_NUMBERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda a: None,
    "a mask": masked,
    "objects": lambda a: a.astype(object),
    "complex": lambda a: a + 0j,
    "texts": lambda a: a.astype(str),
    "a column": lambda a: a[:, None],
    "one less": lambda a: a[:-1],
    "a number": lambda a: 1.0,
    "a generator": lambda a: (x for x in a),
    "ragged": lambda a: [[1.0], [1.0, 2.0]],
}
SAME_NUMBERS: dict[str, Callable[[Any], Any]] = {
    "a list": list,
    "read only": read_only,
    "every other": lambda a: np.repeat(a, 2)[::2],
    "long doubles": lambda a: a.astype(np.longdouble),
}


@pytest.mark.parametrize("how", NO_NUMBERS)
@pytest.mark.parametrize("name", ["loss", "slope", "curvature"])
def test_what_the_functions_of_margins_return(name: str, how: str) -> None:
    objective = changed(name, NO_NUMBERS[how])
    with pytest.raises(
        ValueError, match=rf"what {name} of <.*Changed object at .*> returns (must be an array|is a mask)"
    ):
        trained(objective=objective, method=NewtonCG())


@pytest.mark.parametrize("how", SAME_NUMBERS)
@pytest.mark.parametrize("name", ["loss", "slope", "curvature"])
def test_margins_in_another_form(name: str, how: str) -> None:
    usual, other = (
        trained(objective=each, method=NewtonCG()) for each in (Squares(), changed(name, SAME_NUMBERS[how]))
    )
    assert np.allclose(usual.weights, other.weights, rtol=1e-5, atol=1e-7)


def test_what_an_objective_keeps_is_not_written_to() -> None:
    """Slopes are scaled in place: not in an array that the objective gives out again and again."""

    class Constantly(Squares):
        slopes = np.full(60, -1.0, np.float32)

        def loss(self, margins, labels):
            return -margins

        def slope(self, margins, labels):
            return self.slopes[: margins.size]

    trained(objective=Constantly(), method=GradientDescent(step=STEP))
    assert (Constantly.slopes == -1).all()


BATCHES: dict[str, Callable[[Vectors], Any]] = {
    "none": lambda v: None,
    "an array": lambda v: v.to_dense(),
    "longer": lambda v: Vectors(v.n + 900, v.offsets, v.index, v.value),
    "a row less": lambda v: Vectors.dense(v.to_dense()[1:]),
    "more rows": lambda v: Vectors.dense(np.tile(v.to_dense(), (3, 1))),
    "unsigned": lambda v: replace(v, index=v.index.astype(np.uint32)),
    "past the end": lambda v: replace(v, index=v.index + 10**6),
    "negative": lambda v: replace(v, index=v.index - 10**6),
    "a value less": lambda v: replace(v, value=v.value[:-1]),
    "offsets beyond": lambda v: replace(v, offsets=v.offsets * 1000),
    "whole numbers": lambda v: replace(v, value=np.ones(v.value.size, np.int64)),
    "halves": lambda v: replace(v, value=v.value.astype(np.float16)),
    "objects": lambda v: replace(v, value=v.value.astype(object)),
    "a mask": lambda v: replace(v, value=masked(v.value)),
}
METHODS: dict[str, tuple[Any, Any]] = {
    "SGD": (SGD(batch=2, step=STEP), qsim.QSGD(4)),
    "memory": (SGD(batch=2, step=STEP), qsim.ErrorFeedback(qsim.TopK(3))),
    "DIANA": (DIANA(step=STEP), qsim.QSGD(4)),
    "EF21": (EF21(step=STEP), qsim.TopK(3)),
    "MARINA": (MARINA(step=STEP), qsim.RandK(3)),
    "LocalSGD": (LocalSGD(batch=2, steps=2, step=STEP), qsim.QSGD(4)),
    "SignSGD": (SignSGD(step=STEP), qsim.compressors.Sign()),
    "LBFGS": (LBFGS(), qsim.Identity()),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", BATCHES)
def test_the_updates_of_an_objective(what: str, method: str) -> None:
    how, compressor = METHODS[method]
    with pytest.raises((TypeError, ValueError), match=r"what update of <.*Changed object at .*> returns"):
        trained(objective=changed("update", BATCHES[what]), method=how, compressor=compressor)


@pytest.mark.parametrize("what", BATCHES)
def test_other_vectors_of_an_objective(what: str) -> None:
    for name in ("losses", "hvp"):
        if name == "losses" and what in ("unsigned", "past the end", "negative"):
            continue  # there are no coordinates
        with pytest.raises((TypeError, ValueError), match=rf"what {name} of <.*Changed object at .*> returns"):
            trained(objective=changed(name, BATCHES[what]), method=NewtonCG())


def test_a_mixin_is_looked_at_too() -> None:
    class Mixin:
        def update(self, block, rows, weights, step):
            return None

    class Mixed(Mixin, Squares):
        pass

    with pytest.raises(TypeError, match="what update of .* returns must be a batch"):
        trained(objective=Mixed())


def test_the_doors_of_objectives_are_those_of_users() -> None:
    assert not hasattr(LeastSquares.value_and_gradient, "__wrapped__")
    assert not hasattr(LeastSquares.update, "__wrapped__")


QUANTITY = {"curvature_bound": "smoothness"}


@pytest.mark.parametrize("value", [None, "1", True, np.ones(2), 1j, np.ma.masked], ids=repr)
def test_numbers_that_an_objective_states(value: Any) -> None:
    for name in ("smoothness", "strong_convexity", "error", "row_smoothness", "curvature_bound"):
        objective = changed(name, lambda _: value)
        problem = qsim.Run(DATA, objective, GradientDescent(), workers=3).problem()
        with pytest.raises(ValueError, match=rf"what {name} of .* returns must be a number, found"):
            trained(objective=objective) if name == "error" else getattr(problem, QUANTITY.get(name, name))
    for name in ("l2", "width"):
        with pytest.raises(ValueError, match=rf"{name} of .* must be a "):
            trained(objective=type("Changed", (Squares,), {name: value})())


@pytest.mark.parametrize(
    "found",
    [
        *(None, 1.0, (1.0,), (1.0, np.zeros(40), 1), ("1", np.zeros(40)), (1.0, np.zeros(39))),
        *((1.0, np.zeros((40, 1))), (np.ones(1), np.zeros(40)), (1.0, masked(np.zeros(40)))),
        (1.0, np.zeros(40, object)),
    ],
)
def test_what_value_and_gradient_returns(found: Any) -> None:
    objective = changed("value_and_gradient", lambda _: found)
    with pytest.raises(ValueError, match=r"value_and_gradient of .* (must be|is a masked)"):
        trained(objective=objective)


@pytest.mark.parametrize("mu", [-0.1, np.nan, np.inf])
def test_mu_is_a_number_of_at_least_zero(mu: float) -> None:
    objective = changed("strong_convexity", lambda _: mu)
    with pytest.raises(ValueError, match=r"the mu of .* must be a finite number of at least 0, found"):
        qsim.Run(DATA, objective, GradientDescent(), workers=3).bound()


@pytest.mark.parametrize("loss", ["1", True, 1j, np.ma.masked], ids=repr)
def test_the_loss_of_some_rows(loss: Any) -> None:
    class Flat(MeanLoss):
        l2 = 0.1
        gradient = np.zeros(40)

        def loss_and_gradient(self, w, data):
            return loss, self.gradient

        def error(self, w, data):
            return 0.0

    with pytest.raises(ValueError, match=r"the loss that loss_and_gradient of .* returns must be a number"):
        trained(objective=Flat())
    other = type("Masked", (Flat,), {"gradient": masked(np.zeros(40))})()
    with pytest.raises(ValueError, match=r"the gradient that loss_and_gradient of .* returns is a masked array"):
        trained(objective=other)


def test_a_memory_takes_vectors_of_its_own_kind() -> None:
    """More rows than workers went past the end of its arrays."""
    support = Support(6, np.array([0, 3]), np.array([1, 2, 5], np.int32))
    memory = Memory.zeros(support, "h")
    for v in (np.ones((2, 6)), np.ones((1, 5)), np.ones((0, 6))):
        for call in (memory.add, memory.plus):
            with pytest.raises(ValueError, match="the memory is of 1 workers with vectors of length 6, found"):
                call("h", Vectors.dense(v))
    assert not memory.arrays["h"].any()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda found: None, "what evaluate of .* must be the value and the gradient and the error, found None"),
        (lambda found: found[:2], "must be the value and the gradient and the error"),
        (lambda found: (found[0], found[1][:-1], found[2]), "the gradient that evaluate of .* of shape"),
        (lambda found: (found[0], found[1], "none"), "the error that evaluate of"),
    ],
)
def test_what_evaluate_returns(how: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        trained(objective=changed("evaluate", how))
