"""Parameters: one spelling or another gives the same object and the same numbers, or is refused by name."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType

import numpy as np
import pytest

import qsim
from helpers.options import OTHER, arguments, made, options
from qsim.datasets import Contiguous, Quadratics
from qsim.methods import DIANA, EF21, MARINA
from qsim.objectives import LeastSquares
from qsim.options import number, whole

if TYPE_CHECKING:
    from nowhere import Unknown


def holds(field: Field[Any], kind: str) -> bool:
    """Tell whether a field is annotated as a single number of a kind."""
    text = str(field.type)
    other = "Step" in text or (kind == "float" and "int | float" in text)  # a number stands for a rule, or for a share
    return (
        field.init and not other and "[" not in text.replace("Literal[", "") and bool(re.search(rf"\b{kind}\b", text))
    )


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(cls, field, id=f"{cls.__qualname__}.{field.name}")
        for cls in options()
        for field in fields(cls)
        if holds(field, kind) or (kind == "float" and field.type == "Norm")
    ]


def plain(cls: type, field: Field[Any]) -> Any:
    """A number for a field, as everybody would write it."""
    default = OTHER.get(field.name) if field.default in (None, "l2") else field.default
    return arguments(cls).get(field.name, default)


def accepted(cls: type, name: str, value: Any) -> bool:
    try:
        made(cls, name, value)
    except (ValueError, TypeError):
        return False
    return True


def refused(cls: type, name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
            made(cls, name, value)


def same(cls: type, name: str, value: Any, spellings: list[Any]) -> None:
    """Each spelling gives what the plain one does: type, repr, equality, hash."""
    usual = made(cls, name, value)
    assert type(getattr(usual, name)) is type(value)
    for spelling in spellings:
        other = made(cls, name, spelling)
        assert type(getattr(other, name)) is type(value), (spelling, type(spelling))
        assert (other, repr(other), hash(other)) == (usual, repr(usual), hash(usual))


MASKED = np.ma.array([1.0, 2.0], mask=[True, False])


def test_the_walk_finds_them_all() -> None:
    found = options()
    assert len(found) > 90
    assert {qsim.QSGD, qsim.Run, qsim.steps.Noisy, qsim.network.Link, qsim.study.Settings} <= set(found)
    assert len(cases("float")) > 35
    assert len(cases("int")) > 35
    assert len(cases("bool")) >= 6


@pytest.mark.parametrize(("cls", "field"), cases("float"))
def test_floats(cls: type, field: Field[Any]) -> None:
    name, usual = field.name, float(plain(cls, field))
    same(cls, name, usual, [np.float64(usual), np.array(usual), np.longdouble(usual)])
    exact = float(np.float16(min(usual, 1000.0)))
    same(cls, name, exact, [np.float32(exact), np.float16(exact), np.array(exact, np.float32)])
    wholes = [value for value in (0, 1, 2) if accepted(cls, name, float(value))]
    for value in wholes:
        kinds = (int, np.int32, np.int64, np.uint8, np.float32, np.array)
        same(cls, name, float(value), [kind(value) for kind in kinds])
    no_text = () if field.type == "Norm" else ("1",)
    refused(
        cls, name, [True, False, np.True_, np.array(True), 1j, b"1", [1.0], np.ones(1), MASKED, MASKED[0], *no_text]
    )
    if cls not in (qsim.study.tuning.FewestRounds,):
        refused(cls, name, [np.nan, np.inf, -np.inf, np.float32(np.nan), 10**400])
    if "None" not in str(field.type):
        refused(cls, name, [None])


@pytest.mark.parametrize(("cls", "field"), cases("int"))
def test_whole_numbers(cls: type, field: Field[Any]) -> None:
    name, usual = field.name, int(plain(cls, field))
    small = usual if usual < 100 else 32 if accepted(cls, name, 32) else usual
    same(cls, name, usual, [np.int64(usual), np.array(usual)])
    same(cls, name, small, [kind(small) for kind in (np.int16, np.int32, np.uint32, np.uint64, np.array)])
    refused(cls, name, [float(usual), np.float64(usual), np.float32(usual), usual + 0.5, True, np.True_, str(usual)])
    refused(cls, name, [np.nan, np.inf, [usual], np.full(1, usual), MASKED, MASKED[0], 1j])
    if "None" not in str(field.type):
        refused(cls, name, [None])


@pytest.mark.parametrize(("cls", "field"), cases("bool"))
def test_truth_values(cls: type, field: Field[Any]) -> None:
    for value in (True, False):
        same(cls, field.name, value, [np.bool_(value), np.array(value)])
    refused(cls, field.name, [0, 1, 1.0, "yes", None, np.int8(1), [True], np.ones(1, bool)])


@pytest.mark.parametrize(
    ("cls", "name", "usual"),
    [
        (Quadratics, "smoothness", (1.0, 2.0)),
        (qsim.network.FixedSpeeds, "values", (1.0, 2.0)),
        (qsim.datasets.LibSVM, "classes", (1.0, 2.0)),
        (qsim.Network, "timelines", (1, 2)),
    ],
)
def test_sequences(cls: type, name: str, usual: tuple[Any, ...]) -> None:
    others = [list(usual), np.array(usual), np.array(usual, np.int32), [1, 2], (np.int64(1), np.uint8(2))]
    same(cls, name, usual, others if isinstance(usual[0], float) else [list(usual), *others[2:]])
    refused(cls, name, [1, "12", (1.0, "2"), (True, 2.0), (np.nan, 1.0), np.ones((2, 2)), (1.0, None), MASKED])


# What the numbers are.


@pytest.mark.parametrize("l2", [0, 1, np.int32(1), np.uint8(1), np.float32(1), np.array(1)])
def test_smoothnesses_are_those_of_numpy(l2: Any) -> None:
    """For l2 = 0 or 1 as integers the constants of workers were cut to whole numbers."""
    data = Quadratics(smoothness=(1.9, 2.7, 0.8, 3.99), mu=0.5, features=5).load()
    parts = np.split(data.to_scipy().toarray().astype(float), 4)
    own = [float(l2) + np.linalg.eigvalsh(x.T @ x / len(x))[-1] for x in parts]
    for method in (qsim.GradientDescent(), DIANA(), MARINA(), EF21()):
        compressor = qsim.compressors.TopK(1) if method == EF21() else qsim.RandK(1)
        run = qsim.Run(data, LeastSquares(l2=l2), method, compressor=compressor, workers=4, partition=Contiguous())
        problem = run.problem()
        assert problem.worker_smoothness.dtype == np.float64
        assert np.allclose(problem.worker_smoothness, own, rtol=1e-6, atol=0)
        usual = qsim.Run(
            data, LeastSquares(float(l2)), method, compressor=compressor, workers=4, partition=Contiguous()
        )
        assert method.resolved(problem) == method.resolved(usual.problem())


@pytest.mark.parametrize("l2", [0, 0.0])
def test_the_default_step_stays_below_the_bound(l2: float) -> None:
    """Rand-1: the exact run of gradient descent in expectation is below it, so is the mean of 40 seeds."""
    source = Quadratics(smoothness=(0.99, 0.98, 0.6, 0.9), mu=0.3, features=6, seed=1)
    run = qsim.Run(
        source, LeastSquares(l2=l2), qsim.GradientDescent(), compressor=qsim.RandK(1), workers=4,
        partition=Contiguous(), rounds=200,
    )  # fmt: skip
    promise = run.bound()
    assert promise is not None
    assert promise(200) < 1e-2 * promise(0)
    assert qsim.simulate(run).frame.suboptimality.iloc[-1] <= promise(200)


class Bare(qsim.objectives.LinearModel):
    """No option at all, with a class attribute that is an int."""

    l2 = 1

    def loss(self, margins, labels):
        return 0.5 * (margins - labels) ** 2

    def slope(self, margins, labels):
        return margins - labels

    def curvature(self, margins, labels):
        return np.ones_like(margins)

    def curvature_bound(self):
        return 1


def test_an_objective_that_is_no_option_has_float_constants() -> None:
    data = qsim.datasets.load("spark_sample")
    run = qsim.Run(data, Bare(), qsim.GradientDescent(), workers=4)
    usual = qsim.Run(data, LeastSquares(1.0), qsim.GradientDescent(), workers=4)
    assert run.problem().worker_smoothness.tolist() == usual.problem().worker_smoothness.tolist()
    assert isinstance(run.problem().strong_convexity, float)


def test_a_flat_objective_has_no_step_of_theory() -> None:
    zero = qsim.Dataset([0, 1, 2, 3, 4], [0, 1, 0, 1], np.zeros(4), [1, -1, 1, -1], features=2)
    for method in (qsim.GradientDescent(), qsim.SGD(batch=1), DIANA(), MARINA(), EF21(), qsim.methods.SignSGD()):
        compressor = qsim.compressors.Sign() if method == qsim.methods.SignSGD() else qsim.Identity()
        run = qsim.Run(zero, LeastSquares(0), method, compressor=compressor, workers=2, rounds=1, optimum=False)
        with pytest.raises(ValueError, match=r"= 0 for .*LeastSquares.* give the step \(the objective is constant\)"):
            qsim.simulate(run)


# Options of a user's own.

Share = float | Literal["all"]
Seconds = NewType("Seconds", float)


@qsim.option
class Mine:
    a: float
    b: int | None = None
    c: bool = False
    share: Share = "all"
    d: Unknown | None = None
    e: "float | Unknown" = 1.0  # noqa: UP037
    f: Annotated[float, "metres"] = 1.0
    g: tuple[float, int] = (1.0, 2)
    h: Any = None
    i: list[int] | None = None
    j: float = None  # type: ignore[assignment]
    k: Seconds = Seconds(1.0)
    m: Unknown[float] = 0

    def __post_init__(self) -> None:
        assert type(self.a) is float  # what it holds is seen here already


def test_a_users_own_options() -> None:
    mine = Mine(
        np.int8(1), np.uint8(2), np.True_, 3, 1, np.float32(0.5), 2, (1, 2), np.int64(3), [np.int64(1)], None, 1
    )
    assert repr(mine).endswith("Mine(a=1.0, b=2, c=True, share=3.0, d=1, e=0.5, f=2.0, h=3, i=[1])")
    assert (type(mine.share), type(mine.e), type(mine.k)) == (float, float, float)
    assert Mine(1).j is None
    assert isinstance(Mine(1, h=np.ones(2)).h, np.ndarray)
    assert Mine(1, e=mine).e is mine
    for wrong in (
        {"a": "1"},
        {"b": 1.0},
        {"c": 1},
        {"share": True},
        {"f": None},
        {"i": [1.5]},
        {"j": "x"},
        {"e": True},
    ):
        (name,) = wrong
        with pytest.raises(ValueError, match=rf"^{name}\b"):
            Mine(**({"a": 1} | wrong))


def test_an_option_made_inside_a_function_and_one_that_inherits() -> None:
    class Local:
        pass

    @qsim.option
    class Inner:
        a: float
        b: Local | None = None

    @qsim.option
    class Outer(Inner):
        c: int = 1

        def __post_init__(self) -> None:
            assert type(self.a) is float

    assert type(Inner(1).a) is float
    assert type(Outer(1, c=np.int8(3)).c) is int
    thing = Local()
    assert Outer(1, thing).b is thing
    with pytest.raises(ValueError, match="^c must be a whole number, found 1.0"):
        Outer(1, c=1.0)


def test_where_the_class_comes_from_does_not_matter(tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    text = "import qsim\n@qsim.option\nclass A:\n    x: float\n    y: 'int' = 1\n"
    exec(text, space)
    exec("from __future__ import annotations\n" + text.replace("class A", "class B"), space)
    for name in "AB":
        assert type(space[name](1).x) is float
        with pytest.raises(ValueError, match="^y must be a whole number"):
            space[name](1, y=1.0)


# Functions.


def test_numbers_given_to_functions() -> None:
    assert [number("x", value) for value in (1, np.uint8(1), np.float32(1), np.array(1))] == [1.0] * 4
    assert [type(whole("x", value, least=0)) for value in (1, np.uint8(1), np.array(1))] == [int] * 3
    for value in (True, np.True_, "1", None, np.ones(1), np.ma.masked, 1j, np.timedelta64(1)):
        for check in (number, lambda name, value: whole(name, value, least=0)):
            with pytest.raises(ValueError, match="^x must be a"):
                check("x", value)
    with pytest.raises(ValueError, match="33,220 bits"):
        whole("x", -(10**10000), least=0)
    data = qsim.datasets.load("spark_sample")
    usual = Contiguous().split(data, 255, qsim.Key(0))
    assert Contiguous().split(data, np.uint8(255), qsim.Key(0)).offsets.tolist() == usual.offsets.tolist()
    network, sizes = qsim.Network(), [1e6]
    usual = qsim.network.simulate_timing(network, sizes=sizes, down=1e6, workers=255, rounds=3)
    other = qsim.network.simulate_timing(
        network, sizes=sizes, down=np.int32(10**6), workers=np.uint8(255), rounds=np.int8(3)
    )
    assert usual.equals(other)
    with pytest.raises(ValueError, match="seed must be"):
        qsim.network.simulate_timing(network, sizes=sizes, workers=2, rounds=1, seed=1.0)
    made = qsim.datasets.synthetic(np.uint8(200), np.int16(200), np.float32(5), seed=np.uint8(3))
    assert made == qsim.datasets.synthetic(200, 200, 5, seed=3)
    assert repr(made.source) == repr(qsim.datasets.synthetic(200, 200, 5, seed=3).source)


CERTIFIED = [
    qsim.QSGD(4), qsim.QSGD(4, "max"), qsim.QSGD(4, 3), qsim.compressors.TopK(5), qsim.RandK(5),
    qsim.compressors.Bernoulli(0.25), qsim.compressors.Wangni(5), qsim.compressors.NUQSGD(4),
    qsim.compressors.NaturalDithering(4), qsim.compressors.SubtractiveDither(4), qsim.compressors.ScaledSign(),
    qsim.compressors.OneBit(), qsim.compressors.DRIVE(), qsim.compressors.EDEN(2), qsim.compressors.TernGrad(),
    qsim.compressors.NaturalCompression(), qsim.compressors.RoundedFloats("float16"), qsim.Scaled(qsim.QSGD(2)),
    qsim.compressors.Bucketed(qsim.QSGD(4), 64), qsim.compressors.Compose(qsim.compressors.TopK(50), qsim.QSGD(4)),
]  # fmt: skip


@pytest.mark.parametrize("compressor", CERTIFIED, ids=repr)
@pytest.mark.parametrize("n", [np.uint8(200), np.int8(100), np.int32(70_000), np.float64(200), True, "200"])
def test_certificates_take_any_whole_number(compressor: qsim.compressors.Compressor, n: Any) -> None:
    for certificate in (compressor.variance, compressor.contraction):
        if isinstance(n, np.integer):
            assert certificate(n) == certificate(int(n))


# What a user's own parts return.


@qsim.option
class Returns(qsim.compressors.Compressor):
    what: Any
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return self.what


@pytest.mark.parametrize(
    ("what", "found"),
    [
        (None, "found None"),
        (np.ones(16, np.float32), "found array"),
        (qsim.batch.Signs.single([True] * 16, low=-1, high=1), "found Signs of one row of length 16"),
        (qsim.batch.Floats.single(np.ones(15)), "found Floats of one row of length 15"),
        (qsim.batch.Floats.of(qsim.batch.Vectors.dense(np.ones((2, 16)))), "found Floats of 2 rows of length 16"),
    ],
)
def test_what_a_users_quantize_returns_is_checked(what: Any, found: str) -> None:
    run = qsim.Run(
        qsim.datasets.load("spark_sample"), LeastSquares(0.1), qsim.GradientDescent(qsim.steps.Constant(0.1)),
        Returns(what), workers=2, rounds=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"(?s)quantize of .*must return Floats of one row of length 16, {found}"):
        qsim.simulate(run)


@qsim.option
class From(qsim.starts.Start):
    what: Any

    def weights(self, n, key):
        return self.what


@pytest.mark.parametrize(
    "what",
    [None, np.ones(15), np.full(16, np.nan), np.ma.array(np.ones(16), mask=True), np.ones((16, 1)), "w"],
    ids=str,
)
def test_what_a_users_start_returns_is_checked(what: Any) -> None:
    run = qsim.Run(qsim.datasets.load("spark_sample"), LeastSquares(0.1), qsim.GradientDescent(), start=From(what))
    with pytest.raises(ValueError, match=r"(?s)From.* (must return 16 finite numbers|is a masked array)"):
        run.problem()
    start = qsim.Run(run.data, run.objective, run.method, start=From(np.ones(16, np.int8))).problem().start
    assert start.dtype == np.float64


SPARK = qsim.datasets.load("spark_sample")
RUN = qsim.Run(
    SPARK, LeastSquares(0.1), qsim.GradientDescent(), workers=2, rounds=2, optimum=False, network=qsim.Network()
)
ONE = ([0, 1, 2], [0, 0], None)
MASKED_BITS = np.ma.array([1, 0], mask=[True, False])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: qsim.simulate(RUN, progress=1), "progress must be True or False, found 1"),
        (lambda: qsim.simulate(RUN, every=2.0), "every must be a whole number"),
        (lambda: qsim.simulate(RUN, after_round=3), "after_round must be a function"),
        (lambda: qsim.simulate(RUN).timeline(1.0), "round must be a whole number"),
        (lambda: qsim.simulate(RUN).timeline(True), "round must be a whole number"),
        (lambda: qsim.codecs.Dense(np.array(["float32", "x"])), "dtype must be one of"),
        (lambda: qsim.datasets.Builtin(["adult"]), "no built-in data set"),
        (lambda: qsim.datasets.Builtin("adult", ["test"]), "has no split"),
        (lambda: qsim.Dataset(*ONE, [1, 0], 1, name=3), "name must be a text, found 3"),
        (lambda: qsim.Dataset(*ONE, [{}, {}], 1), "labels must be numbers, found {}"),
        (lambda: qsim.Dataset(*ONE, [1, 0], np.True_), "features must be a whole number"),
        (lambda: qsim.batch.Levels.single([1, 0], scale=1.0, s=1.0), "s must be a whole number"),
        (lambda: qsim.batch.Levels.single(MASKED_BITS, scale=1.0, s=1), "levels is a masked"),
        (lambda: qsim.batch.Signs.single(MASKED_BITS, low=0, high=1), "signs is a masked"),
        (lambda: qsim.batch.Floats.single(MASKED_BITS), "vector is a masked"),
        (
            lambda: qsim.network.simulate_timing(qsim.Network(), sizes=MASKED_BITS, workers=2, rounds=1),
            "sizes is a masked",
        ),
        (lambda: qsim.problem.Bound(0.5, 8.0, 1.0, "F")(MASKED_BITS), "rounds is a masked"),
        (lambda: qsim.study.Tuning("x", list, list, [1, 2], qsim.study.LeastFinal(), seeds=2.0), "seeds must be"),
        (lambda: qsim.study.Tuning("x", list, list, [1, "2"], qsim.study.LeastFinal()), r"grid\[1\] must be"),
    ],
)
def test_arguments_of_functions_are_refused_by_name(call: Any, told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        call()


@pytest.mark.parametrize("compressor", CERTIFIED, ids=repr)
def test_laws_are_asked_of_one_vector(compressor: qsim.compressors.Compressor) -> None:
    """The mask of a masked array was lost, and rows of a matrix were taken together."""
    for law in (compressor.exact_variance, compressor.expected_nonzeros):
        for wrong in (np.ma.array([1.0, 2.0], mask=[1, 0]), np.ones((2, 4)), 1.0, "abc", np.ones(3) * 1j):
            with pytest.raises(ValueError, match="v is a masked array|takes (one vector|real numbers), found an array"):
                law(wrong)
        assert law([1, 2, 0, 3]) == law(np.array([1.0, 2.0, 0.0, 3.0]))
