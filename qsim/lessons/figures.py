"""The figures of the slides, as calls: each is computed when it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import qsim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


def sparse_gradients(batches: Sequence[int] = (1, 4, 16, 64, 256, 1024), *, draws: int = 50, seed: int = 0) -> Figure:
    r"""Draw why gradients are sparse: the gradient of a row has the row's non-zeros.

    Left, the share of coordinates that are not zero in the gradient of a batch, against its rows, for categorical data
    (Adult) and for text-like data. Right, the magnitudes of the full gradient of Adult at :math:`w = 0`: few are large,
    so that :math:`\|v\|_1 / \|v\|_2`, the non-zeros that the simple quantizer sends on average, is far below :math:`n`.

    Parameters
    ----------
    batches : sequence of int, default (1, 4, 16, 64, 256, 1024)
        The sizes of batches.
    draws : int, default 50
        The batches of each size, over which the mean is taken.
    seed : int, default 0
        The batches that are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Examples
    --------
    >>> import qsim
    >>> figure = qsim.lessons.sparse_gradients((1, 16), draws=5)
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['(a) the gradient of a batch', '(b) the full gradient at w = 0']
    """
    from qsim.study import figure_grid, legend_below, look, panel_letters

    rng = np.random.default_rng(seed)
    data = {
        "categorical (Adult)": qsim.load("adult"),
        "text-like": qsim.datasets.synthetic(4000, 20_000, 70, seed=seed),
    }
    with figure_grid(1, 2, height=2.6) as (figure, axes):
        for place, (name, dataset) in enumerate(data.items()):
            starts = dataset.indptr
            shares = []
            for size in batches:
                drawn = [rng.integers(dataset.rows, size=size) for _ in range(draws)]
                touched = [np.concatenate([dataset.indices[starts[i] : starts[i + 1]] for i in rows]) for rows in drawn]
                shares.append(np.mean([np.unique(columns).size for columns in touched]) / dataset.features)
            axes[0, 0].plot(batches, shares, label=f"{name}, n = {dataset.features:,}", **look(place))
        axes[0, 0].set(xscale="log", yscale="log", xlabel="rows in the batch", ylabel="share of non-zeros")
        adult = data["categorical (Adult)"]
        gradient = _full_gradient(adult)
        sizes = np.sort(np.abs(gradient))[::-1]
        expected = sizes.sum() / np.sqrt(sizes @ sizes)
        axes[0, 1].plot(np.arange(1, sizes.size + 1), sizes, color="black")
        axes[0, 1].axvline(expected, color="#D55E00", linestyle="--", label=f"||v||$_1$/||v||$_2$ = {expected:.1f}")
        axes[0, 1].axvline(np.sqrt(sizes.size), color="#0072B2", linestyle=":", label=f"√n = {sizes.size**0.5:.1f}")
        axes[0, 1].set(yscale="log", ylim=(sizes[sizes > 0].min() / 2, 2 * sizes[0]), xlabel="rank", ylabel="magnitude")
        panel_letters(axes.flat, ("the gradient of a batch", "the full gradient at w = 0"))
        legend_below(figure, axes.flat)
    return figure


def _full_gradient(data: qsim.Dataset) -> Array:
    """Return the gradient of the logistic loss at w = 0, where every row has the slope -y/2."""
    gradient: Array = data.to_scipy().T @ (-0.5 * np.asarray(data.labels, np.float64)) / data.rows
    return gradient


def two_means(n: int = 200, *, workers: Sequence[int] = (1, 4, 16, 64, 256), seed: int = 0) -> Figure:
    """Draw two means and their bias: one bit per coordinate, and what is lost for good.

    A coordinate is sent as its sign, and stands for the mean of its side. Left, what is received against :math:`v`, for
    two means and for the mean of many messages of the simple quantizer. Right, the relative squared error of the mean
    of :math:`W` workers' messages of one vector: unbiased messages average out as :math:`1/W`, two means do not.

    Parameters
    ----------
    n : int, default 200
        The length of the vector, whose coordinates are Gaussian.
    workers : sequence of int, default (1, 4, 16, 64, 256)
        The numbers of workers.
    seed : int, default 0
        The vector and the draws.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Examples
    --------
    >>> import qsim
    >>> figure = qsim.lessons.two_means(50, workers=(1, 16))
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['(a) received against v', '(b) the mean of W messages']
    """
    from qsim.study import figure_grid, legend_below, look, panel_letters

    v = np.random.default_rng(seed).normal(size=n)
    ways = {"two means": qsim.OneBit(), "simple quantizer (s = 1)": qsim.QSGD(levels=1), "s = 4": qsim.QSGD(levels=4)}
    with figure_grid(1, 2, height=2.6) as (figure, axes):
        axes[0, 0].plot([v.min(), v.max()], [v.min(), v.max()], color="0.6", linewidth=0.8)
        for place, (name, compressor) in enumerate(ways.items()):
            received = _received(compressor, v, max(workers), seed)
            if place < 2:
                axes[0, 0].plot(v, received.mean(axis=0), **look(place) | {"linestyle": ""}, label=name)
            errors = [
                np.mean([((received[k : k + W].mean(axis=0) - v) ** 2).sum() for k in range(0, len(received), W)])
                for W in workers
            ]
            axes[0, 1].plot(workers, np.array(errors) / (v @ v), label=name, **look(place))
        axes[0, 0].set(xlabel="v$_i$", ylabel=f"mean of {max(workers)} messages")
        axes[0, 1].set(xscale="log", yscale="log", xlabel="workers W", ylabel="relative squared error")
        panel_letters(axes.flat, ("received against v", "the mean of W messages"))
        legend_below(figure, axes.flat)
    return figure


def _received(compressor: qsim.compressors.Compressor, v: Array, draws: int, seed: int) -> Array:
    """Return what messages of a vector stand for, of shape (draws, n)."""
    keys = [qsim.Key(seed).fold(draw) for draw in range(draws)]
    words = [np.array([key.word], np.uint64) for key in keys]
    decoded = [
        compressor.decompress(compressor.quantize(v, key), word).to_dense()
        for key, word in zip(keys, words, strict=True)
    ]
    return np.concatenate(decoded).astype(np.float64)


def stochastic_quantization(
    levels: Sequence[int] = (1, 2, 4, 8, 16, 32), *, n: int = 121, draws: int = 200, seed: int = 0
) -> Figure:
    r"""Draw what stochastic quantization gives: no bias, a variance that falls with s, and few non-zeros.

    Left, single messages with :math:`s = 4` against :math:`v`, and their mean: a coordinate goes to one of the two
    levels beside it. Middle, :math:`\mathbb{E} \|Q(v) - v\|^2 / \|v\|^2` against :math:`s`, measured, exact, and as
    bounded by :math:`\min(n/s^2, \sqrt{n}/s)` for every :math:`v`. Right, the non-zeros of a message, measured and
    expected.

    Parameters
    ----------
    levels : sequence of int, default (1, 2, 4, 8, 16, 32)
        The numbers of levels :math:`s`.
    n : int, default 121
        The length of the vector, whose coordinates are Gaussian.
    draws : int, default 200
        The messages that are measured.
    seed : int, default 0
        The vector and the draws.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    References
    ----------
    .. [1] Alistarh, Grubic, Li, Tomioka and Vojnovic, "QSGD", NeurIPS 2017, Lemma 3.1.

    Examples
    --------
    >>> import qsim
    >>> figure = qsim.lessons.stochastic_quantization((1, 4), draws=20)
    >>> len(figure.axes)
    3
    """
    from qsim.study import figure_grid, legend_below, look, panel_letters

    v = np.random.default_rng(seed).normal(size=n)
    square = float(v @ v)
    variance: dict[str, list[float]] = {"measured": [], "exact": [], "bound": []}
    nonzeros: dict[str, list[float]] = {"measured": [], "exact": []}
    for s in levels:
        quantizer = qsim.QSGD(levels=s)
        received = _received(quantizer, v, draws, seed)
        variance["measured"].append(float(((received - v) ** 2).sum(axis=1).mean()) / square)
        variance["exact"].append(quantizer.exact_variance(v) / square)
        variance["bound"].append(min(n / s**2, n**0.5 / s))
        nonzeros["measured"].append(float(np.count_nonzero(received, axis=1).mean()))
        nonzeros["exact"].append(quantizer.expected_nonzeros(v))
    with figure_grid(1, 3, height=2.6) as (figure, axes):
        received = _received(qsim.QSGD(levels=4), v, draws, seed)
        axes[0, 0].plot(np.tile(v, 10), received[:10].ravel(), ".", color="0.6", label="10 messages, s = 4")
        axes[0, 0].plot(v, received.mean(axis=0), ".", color="#D55E00", label=f"mean of {draws} messages")
        axes[0, 0].set(xlabel="v$_i$", ylabel="received")
        looks = {"measured": look(0) | {"linestyle": ""}, "exact": look(1) | {"marker": ""}, "bound": look(2)}
        for ax, curves in ((axes[0, 1], variance), (axes[0, 2], nonzeros)):
            for name, values in curves.items():
                ax.plot(levels, values, label=name, **looks[name] | ({"marker": ""} if name == "bound" else {}))
            ax.set(xscale="log", xlabel="levels s")
        axes[0, 1].set(yscale="log", ylabel="variance / ||v||²")
        axes[0, 2].set(ylabel=f"non-zeros of n = {n}")
        panel_letters(axes.flat, ("rounded at random", "the variance", "what is sent"))
        legend_below(figure, axes.flat)
    return figure


def lazy_regularisation(dimensions: Sequence[int] = (100, 1_000, 10_000, 100_000), *, steps: int = 5_000) -> Figure:
    r"""Draw lazy regularisation: a step touches the row's coordinates, and the others shrink when they are read.

    With the step :math:`a` and `l2` as :math:`\lambda` every step multiplies all :math:`d` weights by
    :math:`1 - a \lambda`, though a row has few non-zeros. Left, the coordinates that a step touches and, right, its
    time as measured on this machine while the figure is drawn, without laziness, just in time, and with one factor for
    all weights. The title on the right says how far the weights are apart.

    Parameters
    ----------
    dimensions : sequence of int, default (100, 1000, 10000, 100000)
        The numbers of weights :math:`d`.
    steps : int, default 5000
        The steps of a run, on rows with 39 non-zeros.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Examples
    --------
    >>> import qsim
    >>> figure = qsim.lessons.lazy_regularisation((100, 1000), steps=50)
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['coordinates per step', 'microseconds per step']
    """
    from qsim.l2_decay import EveryStep, GlobalScale, JustInTime
    from qsim.study import figure_grid, legend_below, look, panel_letters

    nonzeros, rounds = 39, 8
    ways = {"every step": EveryStep(), "just in time": JustInTime(), "one factor": GlobalScale()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    apart = 0.0
    for d in dimensions:
        data = qsim.datasets.synthetic(2_000, d, nonzeros, exponent=0.0, seed=0)
        weights = {}
        for name, way in ways.items():
            clock: list[float] = []
            trace = qsim.simulate(
                data,
                objective=qsim.LogisticRegression(l2=1e-3),
                method=qsim.LocalSGD(0.1, steps=steps, decay=way),
                rounds=rounds,
                evaluate_every=rounds,
                optimum=False,
                after_round=lambda *_, clock=clock: clock.append(perf_counter()),
            )
            times[name].append(1e6 * float(np.median(np.diff(clock)[:-1])) / steps)  # the last round is evaluated
            weights[name] = trace.weights
        right = weights["every step"]
        apart = max(apart, *(float(np.abs(w - right).max() / np.abs(right).max()) for w in weights.values()))
    with figure_grid(1, 2, height=2.6) as (figure, axes):
        for place, name in enumerate(ways):
            touched = [d if name == "every step" else nonzeros for d in dimensions]
            axes[0, 0].plot(dimensions, touched, label=name, **look(place))
            axes[0, 1].plot(dimensions, times[name], label=name, **look(place))
        for ax, label in zip(axes[0], ("coordinates per step", "microseconds per step"), strict=True):
            ax.set(xscale="log", yscale="log", xlabel="weights d", ylabel=label)
        panel_letters(axes.flat, ("what a step touches", f"its time; same weights to {apart:.0e}"))
        legend_below(figure, axes.flat)
    return figure


def timeouts(limits: Sequence[float] = (0.02, 0.03, 0.05, 0.1), *, rounds: int = 100, seed: int = 0) -> Figure:
    """Draw timeouts: the server ends a round before all workers have answered, and drops what comes later.

    Gradient descent on Adult over 16 workers. A worker computes for 10 ms and an exponential delay of mean 10 ms; the
    last four take three times as long. Times are virtual. Left, the mean time of a round against the share of messages
    that is dropped, for every timeout and for waiting. Middle and right, the loss against time where the workers' data
    are alike, and where they are sorted by label, so that the slow workers hold labels of one kind.

    Parameters
    ----------
    limits : sequence of float, default (0.02, 0.03, 0.05, 0.1)
        The timeouts in seconds.
    rounds : int, default 100
        The rounds of a run.
    seed : int, default 0
        The delays and the partition.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Examples
    --------
    >>> import qsim
    >>> figure = qsim.lessons.timeouts((0.03,), rounds=5)
    >>> [ax.get_xlabel() for ax in figure.axes]
    ['share dropped', 'virtual seconds', 'virtual seconds']
    """
    from qsim.network import Exponential, FixedSpeeds, Link, Machines, Network, Timeout, WaitForAll
    from qsim.study import figure_grid, legend_below, look, panel_letters

    workers = 16
    machines = Machines(
        base=0.01, per_nonzero=0.0, delay=Exponential(0.01), speeds=FixedSpeeds((1.0,) * 12 + (3.0,) * 4)
    )
    rules = {"wait for all": WaitForAll()} | {f"timeout {1000 * limit:g} ms": Timeout(limit) for limit in limits}
    partitions = {"alike": qsim.datasets.Shuffled(), "sorted by label": qsim.datasets.ByLabel()}
    with figure_grid(1, 3, height=2.6) as (figure, axes):
        for panel, partition in enumerate(partitions.values(), 1):
            for place, (name, rule) in enumerate(rules.items()):
                trace = qsim.simulate(
                    "adult",
                    objective=qsim.LogisticRegression(l2=1e-3),
                    method=qsim.GradientDescent(step=0.6),
                    workers=workers,
                    partition=partition,
                    network=Network(link=Link(bandwidth=2e7, latency=1e-3), machines=machines, rule=rule),
                    rounds=rounds,
                    seed=seed,
                    optimum=False,
                )
                seconds, dropped = trace.axis("seconds"), trace.columns["dropped"][1:].mean() / workers
                axes[0, panel].plot(
                    seconds, trace.axis("loss"), label=name, **look(place) | {"markevery": (rounds, rounds)}
                )
                if panel == 1:
                    axes[0, 0].plot(dropped, 1000 * seconds[-1] / rounds, **look(place) | {"linestyle": ""})
            axes[0, panel].set(xlabel="virtual seconds", ylabel="training loss")
        axes[0, 0].set(xlabel="share dropped", ylabel="milliseconds per round", ylim=(0, None))
        panel_letters(axes.flat, ("what a round takes", *(f"data {name}" for name in partitions)))
        legend_below(figure, axes.flat)
    return figure
