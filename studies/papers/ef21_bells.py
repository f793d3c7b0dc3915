"""EF21 with variance reduction, heavy ball and clients who sit out, at 1, 2 and 4 times theory's step (JMLR 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qsim
from qsim.clients import AllClients, Clients, SampledClients
from qsim.methods import EF21, PAGE, HeavyBall, Method
from qsim.steps import TimesTheory
from qsim.study import Cell, Claim, Panel, PaperStudy, Results, Settings, each_seed, panels, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OBJECTIVE = qsim.objectives.NonconvexLogistic(weight=0.1)
MULTIPLES = (1, 2, 4)
BETA = 0.9
ROWS, CLIENTS = (0.125, 0.015), (0.25, 0.065)
"""The shares of its rows that a worker reads in PAGE, and of the workers that take part."""
HB = f"HB, {BETA:g}"
Way = tuple[Method, Clients]


def percent(share: float) -> str:
    return f"{100 * share:g}%"


def ways(settings: Settings) -> dict[str, Way]:
    held, found = settings.load().rows / settings.workers, {}
    for times in MULTIPLES:
        step = TimesTheory(float(times))
        named: dict[str, Way] = {
            "EF21": (EF21(step=step), AllClients()),
            HB: (EF21(step=step, server_momentum=HeavyBall(BETA)), AllClients()),
        }
        for share in ROWS:
            batch = max(1, round(share * held))
            named[f"PAGE, {percent(share)}"] = (EF21(step=step, estimator=PAGE(batch)), AllClients())
        for share in CLIENTS:
            count = max(1, round(share * settings.workers))
            named[f"PP, {percent(share)}"] = (EF21(step=step), SampledClients(count))
        found |= {f"{name}, {times}x": way for name, way in named.items()}
    return found


def cells(settings: Settings) -> list[Cell]:
    def run(way: Way, seed: int) -> qsim.Run:
        return qsim.Run(
            settings.load(),
            objective=OBJECTIVE,
            method=way[0],
            compressor=qsim.TopK(1),
            clients=way[1],
            workers=settings.workers,
            rounds=settings.rounds,
            seed=seed,
            evaluate_every=max(1, settings.rounds // 50),
            optimum=False,
        )

    return each_seed(settings, ways(settings), run)


def setting(settings: Settings) -> str:
    return (
        f"Logistic regression with the nonconvex regulariser {OBJECTIVE.weight:g} sum w^2/(1 + w^2) on"
        f" {settings.dataset}, shuffled over {settings.workers} workers; Top-1, shifts from zero, {settings.rounds}"
        " rounds. Every method at 1, 2 and 4 times its step of theory (those derived here), of which the figure"
        " shows 4. PAGE reads a share of a worker's rows, PP has a share of the workers take part. The server sends"
        f" dense weights. {settings.statistics}"
    )


def differs(results: Results) -> list[str]:
    heavy = Claim("", f"{HB}, 4x", "EF21, 4x", "gradient_norm").alone(results)
    steps: dict[str, list[object]] = {}
    for curve in results.curves:
        if curve.endswith(" 1x"):
            run = next(cell.run for cell in results.cells if cell.curve == curve)
            problem = run.problem()
            step = run.method.resolved(problem).step(0)  # type: ignore[attr-defined]
            steps[curve.removesuffix(", 1x")] = [f"{step * problem.smoothness:.3g}"]
    return [
        f"Length: {results.settings.rounds} rounds with up to 4 times theory's step, after which no curve has come to"
        " the end of what it could reach.",
        "Numbers: the panel of a9a on the authors' poster (Top-2) has 128 times the step for EF21, and 64, 32, 16 and 8"
        " times for PP with 50, 25, 12.5 and 6.5% of the clients. EF21 comes to a squared gradient norm of 1e-7 in 467"
        " rounds, and all curves of PP with 0.86 to 0.87 of its bits. Steps so long are not taken here, so nothing of"
        " ours stands beside these numbers.",
        "Shares: the paper has batches of 25, 12.5 and 1.5%, and 50, 25, 12.5 and 6.5% of 100 clients; two of each"
        " here.",
        "The authors' scripts use EF21's own step for all methods before they tune, which favours what its theorem"
        " would slow down: with it heavy ball and PAGE would not lag.",
        "Seeds: one run per curve there. A seed sets which rows a worker has, batches and who takes part.",
        "Steps: theory's are those derived here. By them heavy ball has the shorter step, as its theorem pays for"
        f" the momentum and gains nothing. So at equal multiples it lags: at 4 its gradient norm is {heavy} that of"
        f" EF21. Theory's step times L:{table(['step x L'], steps)}",
    ]


def draw(results: Results) -> Figure:
    last = f", {MULTIPLES[-1]}x"
    curves = [curve for curve in results.curves if curve.endswith(last)]

    def label(curve: str) -> str:
        return curve.removesuffix(last)

    scales = {"y_scale": "log", "label": label, "curves": curves}
    return panels(
        results,
        Panel("passes", "gradient_norm", "over passes", x_scale="log", **scales),  # type: ignore[arg-type]
        Panel("bits_up", "gradient_norm", "over uplink bits", x_scale="log", **scales),  # type: ignore[arg-type]
        Panel("bits", "gradient_norm", "over bits both ways", x_scale="log", **scales),  # type: ignore[arg-type]
        height=2.7,
    )


def longer(name: str) -> Claim:
    words = f"{name}: 4 times theory's step gets further than theory's"
    return Claim(
        words, f"{name}, 4x", f"{name}, 1x", "gradient_norm", "round", source="settings of the experiments, read"
    )


def purpose(says: str, name: str, axis: str, most: float = 1.0) -> Claim:
    return Claim(says, f"{name}, 4x", "EF21, 4x", "gradient_norm", axis, most=most, source="what the extension is for")


study = PaperStudy(
    title="EF21 with bells and whistles: PAGE, heavy ball, clients who sit out",
    paper=(
        "Fatkhullin, Sokolov, Gorbunov, Li, Richtarik, *EF21 with bells and whistles: six algorithmic extensions of"
        " modern error feedback*, JMLR 26, 2025 (2110.03294)."
    ),
    claims=(
        *(longer(name) for name in ("EF21", HB, f"PAGE, {percent(ROWS[-1])}", f"PP, {percent(CLIENTS[-1])}")),
        purpose("PAGE needs fewer passes over the data than EF21", f"PAGE, {percent(ROWS[-1])}", "passes"),
        purpose(
            "PP needs no more uplink bits than EF21 (10% are allowed)", f"PP, {percent(CLIENTS[-1])}", "bits_up", 1.1
        ),
    ),
    differs=differs,
    defaults=Settings(data="adult", workers=100, rounds=400, seeds=5),
    cells=cells,
    setting=setting,
    draw=draw,
)
