"""Epoch times of deep networks on up to 16 GPUs: a model with one fitted number, held against the QSGD paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.batch import Vectors
from qsim.codecs import Codec, FixedWidth
from qsim.compressors import QSGD, Bucketed, Compressor, Identity
from qsim.network import Link, Machines, ParameterServer, simulate_timing
from qsim.study import Cell, Results, Settings, Study, bullets, figure_grid, legend_below, panel_letters, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GPUS = (2, 4, 8, 16)
ENTRIES = 10**6  # of the Gaussian vectors whose encoded bytes are counted
BUCKET, SMALL_BUCKET = 512, 128
FULL = "32 bit"
WAYS: dict[str, tuple[Compressor, Codec | None]] = {
    FULL: (Identity(), None),
    "QSGD, 8 bit": (Bucketed(QSGD(127, norm="max"), BUCKET), FixedWidth()),
    "QSGD, 4 bit": (Bucketed(QSGD(7, norm="max"), BUCKET), FixedWidth()),
    "QSGD, 2 bit": (Bucketed(QSGD(1, norm="max"), SMALL_BUCKET), FixedWidth()),
}
SHORT = ("32", "8", "4", "2")
PARTS = {"compute": "0.75", "communicate": "#0072B2"}


@dataclass(frozen=True)
class Deep:
    """A network: parameters, samples of an epoch, of a minibatch (all GPUs), and per second on one K80."""

    parameters: int
    samples: int
    batch: int
    rate: float
    words: str
    """Where the rate and the batch are from."""

    @property
    def iterations(self) -> float:
        """Of an epoch."""
        return self.samples / self.batch


IMAGENET, CIFAR, AN4 = 1_281_167, 50_000, 252_734
RESNET50_RATE, RESNET50_WORK = 51.5, 3877.95  # images a second, million multiply-adds an image
LSTM_SIZE = sum(4 * 1024 * (n + 512 + 1) + 3 * 1024 + 512 * 1024 for n in (363, 512, 512)) + 132 * (512 + 1)


def _by_work(work: float) -> float:
    """Return samples per second if the K80 did as many multiply-adds per second as in ResNet50."""
    return RESNET50_RATE * RESNET50_WORK / work


DEEP = {
    "AlexNet": Deep(62_378_344, IMAGENET, 1024, 684.0, "rate measured; batch of the QSGD paper, there for 16 GPUs"),
    "VGG19": Deep(
        143_667_240,
        IMAGENET,
        256,
        36.3 * 15.5 / 19.67,
        "rate of VGG16 (36.3) by their multiply-adds (15.5 to 19.67 billion), assumed; batch of its paper",
    ),
    "BN-Inception": Deep(
        11_295_240, IMAGENET, 256, _by_work(2048.06), "rate by multiply-adds (2,048 million), assumed; batch assumed"
    ),
    "ResNet50": Deep(25_557_032, IMAGENET, 256, RESNET50_RATE, "rate measured; batch of its paper"),
    "ResNet152": Deep(60_192_808, IMAGENET, 256, 19.7, "rate measured; batch of its paper"),
    "ResNet110": Deep(
        1_730_714, CIFAR, 128, _by_work(255.70), "rate by multiply-adds (256 million), assumed; batch of its paper"
    ),
    "LSTM": Deep(
        LSTM_SIZE,
        AN4,
        256,
        _by_work(LSTM_SIZE / 1e6),
        "rate by multiply-adds (one per parameter and frame), assumed; batch of the QSGD paper",
    ),
}


@dataclass(frozen=True)
class Constants:
    """What is fitted: the links. Their bandwidth is an effective one, as it has the time of encoding in it."""

    link: Link


def message(deep: Deep, way: str) -> float:
    """Return the bytes of a message: those of an encoded Gaussian vector, scaled to the parameters."""
    return deep.parameters * encoded(way) / 8


@cache
def encoded(way: str, seed: int = 0) -> float:
    """Return the bits per entry of an encoded Gaussian vector."""
    channel = qsim.Channel(*WAYS[way])
    vector = qsim.Key(seed).generator().standard_normal((1, ENTRIES)).astype(np.float32)
    _, packets = channel.pack(Vectors.dense(vector), qsim.Key(seed).words(0, 1))
    return float(np.sum(packets.bits)) / ENTRIES


def epoch(deep: Deep, gpus: int, way: str, constants: Constants) -> dict[str, float]:
    """Return the hours of an epoch by part. One exchange is rehearsed: every message, up and down."""
    kept = (gpus - 1) / gpus  # the share of a message that leaves its GPU
    size = message(deep, way) * kept
    machines = Machines(base=deep.batch / gpus / deep.rate)
    network = qsim.Network(ParameterServer(servers=gpus), constants.link, machines)
    (row,) = simulate_timing(network, sizes=[size], down=size, workers=gpus, rounds=1).to_dict("records")
    hours = deep.iterations / 3600
    return {
        "compute": float(row["compute"]) * hours,
        "communicate": float(row["uplink"] + row["downlink"]) * hours,
    }


def total(name: str, gpus: int, way: str, constants: Constants) -> float:
    """Return the hours of an epoch."""
    return sum(epoch(DEEP[name], gpus, way, constants).values())


@dataclass(frozen=True)
class Claim:
    """A number of the paper: what it is of, where it stands, how it is used, and the model's."""

    what: str
    paper: float
    where: str
    model: Callable[[Constants], float]
    fitted: bool = False
    speedup: tuple[str, int, str] | None = None
    """The network, GPUs and way whose speed-up over 32 bit it is."""
    least: bool = False
    """The paper says "more than" so much."""


def _gain(name: str, gpus: int, way: str, paper: float, where: str, *, fitted: bool = False) -> Claim:
    def model(c: Constants) -> float:
        return total(name, gpus, FULL, c) / total(name, gpus, way, c)

    return Claim(f"{name}, {gpus} GPUs, {way}: speed-up", paper, where, model, fitted, (name, gpus, way))


def _share(name: str, gpus: int, paper: float, *, least: bool = False) -> Claim:
    def model(c: Constants) -> float:
        parts = epoch(DEEP[name], gpus, FULL, c)
        return parts["communicate"] / sum(parts.values())

    return Claim(f"{name}, {gpus} GPUs, {FULL}: share communicating", paper, "Section 5", model, least=least)


FITTED = _gain("ResNet152", 8, "QSGD, 8 bit", 1.56, "Table 1", fitted=True)
CLAIMS = (
    FITTED,
    _gain("ResNet152", 16, "QSGD, 8 bit", 1.8, "abstract; bits assumed"),
    _gain("ResNet50", 8, "QSGD, 4 bit", 1.26, "Table 1"),
    _gain("ResNet110", 8, "QSGD, 4 bit", 1.10, "Table 1"),
    _gain("AlexNet", 8, "QSGD, 4 bit", 2.05, "Table 1"),
    _gain("AlexNet", 16, "QSGD, 4 bit", 2.5, "Section 5"),
    _gain("LSTM", 2, "QSGD, 4 bit", 2.0, "Table 1"),
    _gain("BN-Inception", 8, "QSGD, 4 bit", 1.16, "Table 1, projected there; bits assumed"),
    _gain("VGG19", 8, "QSGD, 4 bit", 2.25, "Table 1, projected there; bits assumed"),
    _share("AlexNet", 16, 0.8, least=True),
    _share("LSTM", 2, 0.71),
)


def needed(claim: Claim, constants: Constants) -> float | None:
    """Return the bits a second with which the model has the paper's speed-up; None: with none it has.

    S = (c + x u) / (c + x v), with c the compute, and u and v the communication at a bandwidth: x = (S - 1) c /
    (u - S v) is how many times as long it takes.
    """
    assert claim.speedup is not None
    name, gpus, way = claim.speedup
    full, short = (epoch(DEEP[name], gpus, each, constants) for each in (FULL, way))
    above = (claim.paper - 1) * full["compute"]
    below = full["communicate"] - claim.paper * short["communicate"]
    return constants.link.bandwidth * below / above if above > 0 and below > 0 else None


def fit(claim: Claim = FITTED) -> Constants:
    """Return the constants with which the model has a speed-up of the paper: one number, one constant."""
    bandwidth = needed(claim, Constants(Link(bandwidth=1e9, latency=0.0)))
    assert bandwidth is not None
    return Constants(Link(bandwidth=bandwidth, latency=0.0))


def compared(results: Results) -> pd.DataFrame:
    """Return the paper's numbers, the model's, and their ratio."""
    import pandas as pd

    constants = fit()
    return pd.DataFrame(
        {"what": c.what, "paper": c.paper, "where": c.where, "fitted": c.fitted, "least": c.least}
        | {"model": c.model(constants), "ratio": c.model(constants) / c.paper}
        | {"needed": needed(c, constants) if c.speedup else None}
        for c in CLAIMS
    )


def numbers(results: Results) -> pd.DataFrame:
    """Return the hours of an epoch by part for every network, number of GPUs and way."""
    import pandas as pd

    constants, rows = fit(), []
    for name, deep in DEEP.items():
        for gpus in GPUS:
            for way in WAYS:
                row: dict[str, Any] = {"network": name, "GPUs": gpus, "way": way, "message bytes": message(deep, way)}
                row |= epoch(deep, gpus, way, constants)
                row["hours"] = sum(row[part] for part in PARTS)
                row["speed-up"] = total(name, gpus, FULL, constants) / row["hours"]
                rows.append(row)
    return pd.DataFrame(rows)


def cells(settings: Settings) -> Sequence[Cell]:
    """Nothing is trained."""
    return []


def setting(settings: Settings) -> str:
    bits = ", ".join(f"{way} {encoded(way):.5g}" for way in WAYS)
    return (
        "A model of the setting of Alistarh et al., NeurIPS 2017 (arXiv 1610.02132): synchronous SGD on the GPUs of"
        " one machine of NVIDIA K80s. The paper's numbers are those of its abstract, Section 5 and Table 1 (speed-ups"
        " of whole trainings, the model's are of an epoch); its Figure 2 was not used. No network is trained and no GPU"
        " is used: an exchange is rehearsed by `qsim.network` (size-only mode). Bars: hours (minutes) of an epoch, from"
        " below compute and communicate, for 32 bit and QSGD of 8, 4 and 2 bit (32, 8, 4, 2), without overlap: the"
        " paper overlaps them in part (double buffering), so a bandwidth here is an effective one. As in the paper,"
        " encoding and decoding count as communication. (h): speed-ups over 32 bit of the paper and the model; of"
        f" {FITTED.what.removesuffix(': speed-up')} the model has the paper's by its fit, the others are predictions."
        f" Messages: bytes of encoded Gaussian vectors of {ENTRIES:,} entries, scaled to the number of parameters; bits"
        f" an entry: {bits}. QSGD: s = 127, 7 and 1, the max norm of buckets of {BUCKET}, for 2 bit {SMALL_BUCKET},"
        " as in the paper; fixed width, all parameters quantized. An epoch has samples / minibatch exchanges; the"
        " minibatch is shared by all GPUs (assumed). Each of the W GPUs owns 1/W of the parameters, gets the others'"
        " shares of it, and sends the sum back in the same format, as in Seide et al. 2014: (W - 1)/W m bytes there and"
        " as many back. Nothing is random but the vectors; their lengths are the same for every draw, so there are no"
        " bands."
    )


def answers(results: Results) -> list[str]:
    shown, constants, found = results.once(numbers), fit(), results.once(compared)
    hours = {}
    for name in DEEP:
        at8 = shown[(shown["network"] == name) & (shown["GPUs"] == 8)].set_index("way")
        full = shown[(shown["network"] == name) & (shown["way"] == FULL)].set_index("GPUs")
        share = full["communicate"] / full["hours"]
        hours[name] = [
            *(f"{100 * share[gpus]:.0f}%" for gpus in (GPUS[0], GPUS[-1])),
            *(f"{at8.loc[way, 'hours']:.3g}" for way in WAYS),
            f"{at8['speed-up'].idxmax()}, {at8['speed-up'].max():.2f} times",
        ]
    columns = [f"32 bit communicates, {gpus} GPUs" for gpus in (GPUS[0], GPUS[-1])]
    columns += [f"{way}, hours on 8" for way in WAYS] + ["fastest"]
    rows = {row["what"]: _compared(row) for _, row in found.iterrows()}
    against = table(["paper", "source", "model", "model / paper", "", "bandwidth needed"], rows)
    tests = found[~found["fitted"] & ~found["least"]]
    worst = tests.loc[np.abs(np.log(tests["ratio"])).idxmax()]
    within = tests.loc[np.abs(np.log(tests["ratio"])) <= np.log(1.1), "what"]
    above = int((tests["ratio"] > 1).sum())
    spread = tests["needed"].dropna().agg(["min", "max"]) / 1e9
    network, *_ = FITTED.what.split(", ")
    fitted, bandwidth = FITTED.what.removesuffix(": speed-up"), f"{constants.link.bandwidth / 1e9:.3g} Gbit/s"
    return [
        f"By the model:{table(columns, hours)}",
        f"Of {len(tests)} numbers that were not fitted {len(within)} are within 10%"
        f" ({'; '.join(within) if len(within) else 'none'}), and the model is above the paper in {above}; the furthest"
        f" is {worst['what']}, {worst['ratio']:.3g} times the paper's."
        f"{against}",
        f"One number is fitted, to one of the paper's, {FITTED.paper:g} times for {fitted}: the effective bandwidth of"
        f" a GPU's link, {bandwidth} each way, with latency and encoding in it. No source was at hand for what is"
        f" called assumed. By source:{bullets(_sources())}",
        f"The paper's other speed-ups would need {spread['min']:.3g} to {spread['max']:.3g} Gbit/s where {bandwidth}"
        f" were fitted to {network}. So one bandwidth for all networks is wrong, or the assumed rates, minibatches and"
        f" bits are, or what overlaps differs, and the bars are what would be if {network}'s bandwidth held for all."
        " One"
        " reason could be that a ResNet sends hundreds of short messages, one a layer, whose start-up is in its"
        " bandwidth, and AlexNet a few long ones; another that AlexNet, with the most to send, hides more of it behind"
        " computing. Neither is tested here. All minibatches times a factor change no hours, only the fitted"
        " bandwidth.",
    ]


def _compared(row: pd.Series[Any]) -> list[str]:
    if row["fitted"]:
        kind = "fitted"
    elif row["least"]:
        kind = "kept" if row["ratio"] > 1 else "broken"
    else:
        kind = "predicted"
    bandwidth = "" if row["needed"] != row["needed"] or row["needed"] is None else f"{row['needed'] / 1e9:.3g} Gbit/s"
    paper = f"over {row['paper']:g}" if row["least"] else f"{row['paper']:g}"
    return [paper, row["where"], f"{row['model']:.3g}", f"{row['ratio']:.3g}", kind, bandwidth]


def _sources() -> list[str]:
    lines = [
        f"{name}: {deep.parameters:,} parameters; {deep.samples:,} samples per epoch, {deep.batch} a minibatch;"
        f" {deep.rate:.3g} a second on one K80 ({deep.words})"
        for name, deep in DEEP.items()
    ]
    return [
        *lines,
        "measured rates: TensorFlow's benchmarks of May 2017, one K80 of an Amazon EC2 p2.8xlarge, synthetic data"
        " (noted by others, not looked up again, as are the tables that follow)",
        "parameters and multiply-adds: the tables of imgclsmob; VGG19: parameters by Keras, multiply-adds (and"
        " VGG16's) by MMClassification",
        "LSTM: counted from CNTK's AN4 example (lstmp-3layer-opt.ndl), whose list of utterances has the frames; that"
        " the paper trained this one is assumed",
        "images: ILSVRC 2012 and CIFAR-10; minibatches of their papers: He et al. 2016, Simonyan and Zisserman 2015",
    ]


def figure(results: Results) -> Figure:
    shown = results.once(numbers)
    with figure_grid(4, 2, height=8.4) as (found, axes):
        for ax, name in zip(axes.flat, DEEP, strict=False):
            _bars(ax, shown[shown["network"] == name], name)
        _gains(axes[3, 1], results.once(compared))
        panel_letters(
            axes.flat, [*(f"{name}: time of an epoch" for name in DEEP), "speed-ups of the paper and the model"]
        )
        legend_below(found, axes.flat)
    return found


def _bars(ax: Axes, here: pd.DataFrame, name: str) -> None:
    """Draw a stacked bar for each number of GPUs and way."""
    unit, per = ("hours", 1.0) if here["hours"].max() > 1 else ("minutes", 60.0)
    step, places = len(WAYS) + 1, {}
    for i, gpus in enumerate(GPUS):
        for j, way in enumerate(WAYS):
            places[gpus, way] = i * step + j
    at = [places[key] for key in zip(here["GPUs"], here["way"], strict=True)]
    below = np.zeros(len(here))
    for part, colour in PARTS.items():
        tall = per * here[part].to_numpy()
        ax.bar(at, tall, 0.85, bottom=below, color=colour, label=part, zorder=2)
        below += tall
    ax.set_ylim(0, 1.1 * per * here["hours"].max())
    ax.xaxis.remove_overlapping_locs = False
    ax.set_xticks(list(places.values()), labels=SHORT * len(GPUS), minor=True, fontsize=5.5)
    middles = [places[gpus, "QSGD, 4 bit"] for gpus in GPUS]
    ax.set_xticks(middles, labels=[f"{gpus} GPUs" for gpus in GPUS])
    ax.tick_params(axis="x", which="both", length=0)
    ax.tick_params(axis="x", which="minor", pad=1)
    ax.tick_params(axis="x", which="major", pad=9)
    ax.grid(visible=False, axis="x")
    ax.set_ylabel(f"{unit} per epoch")


def _gains(ax: Axes, found: pd.DataFrame) -> None:
    """Draw the paper's speed-ups and the model's, one below the other."""
    here = found[found["what"].str.endswith(": speed-up")]
    rows = np.arange(len(here))
    for row, paper, model in zip(rows, here["paper"], here["model"], strict=True):
        ax.plot([paper, model], [row, row], color="0.6", linewidth=0.8)
    ax.plot(here["paper"], rows, "ko", label="speed-up, paper", zorder=3)
    ax.plot(here["model"], rows, "D", color="#D55E00", label="speed-up, model", zorder=3)
    ax.axvline(1, color="black", linewidth=0.8)
    names = [what.removesuffix(": speed-up").replace(", QSGD", "") for what in here["what"]]
    ax.set_yticks(rows, labels=names, fontsize=6)
    ax.invert_yaxis()
    ax.set_xlabel("speed-up over 32 bit")


study = Study(
    title="Epoch times: what compressed gradients would save deep networks on up to 16 GPUs",
    questions=(
        "Where does the time go, and what does each format save?",
        "Paper against model: what agrees?",
        "What is fitted, and what is assumed?",
        "What do the discrepancies say?",
    ),
    defaults=Settings(data="spark_sample", workers=1, rounds=1, seeds=1),
    takes=(),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
