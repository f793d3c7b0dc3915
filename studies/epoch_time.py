"""Epoch times of deep networks on up to 16 GPUs, modelled on what is reported of the QSGD paper's experiments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import qsim
from qsim.batch import Vectors
from qsim.codecs import Codec, FixedWidth
from qsim.compressors import QSGD, Bucketed, Compressor, Identity, OneBit
from qsim.network import Link, Machines, ParameterServer, rehearse
from qsim.study import Cell, Results, Settings, Study, legend_below, letters, listed, sheet, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GPUS = (2, 4, 8, 16)
ENTRIES = 10**6  # of the Gaussian vectors whose encoded bytes are counted
BUCKET = 512
FULL, ONE = "32 bit", "1-bit SGD"
WAYS: dict[str, tuple[Compressor, Codec | None]] = {
    FULL: (Identity(), None),
    "QSGD, 8 bit": (Bucketed(QSGD(127, norm="max"), BUCKET), FixedWidth()),
    "QSGD, 4 bit": (Bucketed(QSGD(7, norm="max"), BUCKET), FixedWidth()),
    "QSGD, 2 bit": (Bucketed(QSGD(1, norm="max"), BUCKET), FixedWidth()),
    ONE: (OneBit(), None),
}
SHORT = ("32", "8", "4", "2", "1")
PARTS = {"compute": "0.75", "encode": "#E69F00", "communicate": "#0072B2"}


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
    """Return samples a second if the K80 did as many multiply-adds a second as in ResNet50."""
    return RESNET50_RATE * RESNET50_WORK / work


DEEP = {
    "AlexNet": Deep(62_378_344, IMAGENET, 256, 684.0, "rate measured; batch assumed"),
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
        "rate by multiply-adds (one a parameter and frame), assumed; batch of CNTK's example, 16 frames of 16",
    ),
}


ABSTRACT = "abstract, read"
SECOND_HAND = "secondary source, not checked against the paper"
"""Where a published number is from. Of the paper its abstract alone could be read; the rest are notes on its Figure 2,
Table 1 and text, which others made."""


@dataclass(frozen=True)
class Readings:
    """Hours of an epoch of ResNet152 on 8 GPUs, as notes on Figure 2 of the paper have them (`SECOND_HAND`)."""

    total: float = 4.8
    communication: float = 2.3
    four_bit: float = 2.9
    one_bit: float = 8.6
    name: str = "ResNet152"
    gpus: int = 8


READ = Readings()


@dataclass(frozen=True)
class Constants:
    """What is fitted: speed: of the GPUs, over the published rates; link; encode: seconds an entry, by way."""

    speed: float
    link: Link
    encode: dict[str, float]


def message(deep: Deep, way: str) -> float:
    """Return the bytes of a message: those of an encoded Gaussian vector, scaled to the parameters."""
    return deep.parameters * encoded(way) / 8


@cache
def encoded(way: str, seed: int = 0) -> float:
    """Return the bits an entry of an encoded Gaussian vector."""
    channel = qsim.Channel(*WAYS[way])
    vector = qsim.Key(seed).generator().standard_normal((1, ENTRIES)).astype(np.float32)
    _, packets = channel.pack(Vectors.dense(vector), qsim.Key(seed).words(0, 1))
    return float(np.sum(packets.bits)) / ENTRIES


def epoch(deep: Deep, gpus: int, way: str, constants: Constants) -> dict[str, float]:
    """Return the hours of an epoch by part. One exchange is rehearsed: every message, up and down."""
    kept = (gpus - 1) / gpus  # the share of a message that leaves its GPU
    size = message(deep, way) * kept
    machines = Machines(base=deep.batch / gpus / (deep.rate * constants.speed), encode_per_entry=constants.encode[way])
    network = qsim.Network(ParameterServer(servers=gpus), constants.link, machines)
    entries = deep.parameters * (1 + 1 / gpus)  # and its share of the sum
    (row,) = rehearse(network, sizes=[size], entries=[entries], down=size, workers=gpus, rounds=1).to_dict("records")
    hours = deep.iterations / 3600
    return {
        "compute": float(row["compute"]) * hours,
        "encode": float(row["encode"]) * hours,
        "communicate": float(row["uplink"] + row["downlink"]) * hours,
    }


def total(name: str, gpus: int, way: str, constants: Constants) -> float:
    """Return the hours of an epoch."""
    return sum(epoch(DEEP[name], gpus, way, constants).values())


def fit(read: Readings = READ) -> Constants:
    """Return the constants with which the model gives the four reported hours: four numbers, four constants."""
    deep, gpus = DEEP[read.name], read.gpus
    seconds = 3600 / deep.iterations  # of an exchange, for each hour of an epoch
    speed = deep.batch / gpus / deep.rate / ((read.total - read.communication) * seconds)
    moved = 2 * (gpus - 1) / gpus * 8 * message(deep, FULL)
    link = Link(bandwidth=moved / (read.communication * seconds), latency=0.0)
    found = Constants(speed, link, dict.fromkeys(WAYS, 0.0))
    for way, hours in (("QSGD, 4 bit", read.four_bit), (ONE, read.one_bit)):
        left = hours - sum(epoch(deep, gpus, way, found).values())
        found.encode[way] = left * seconds / (deep.parameters * (1 + 1 / gpus))
    alike = found.encode["QSGD, 4 bit"]
    return replace(found, encode=found.encode | {"QSGD, 8 bit": alike, "QSGD, 2 bit": alike})


@dataclass(frozen=True)
class Claim:
    """A number reported of the paper: where it is said to stand, who read it, how it is used, and the model's."""

    what: str
    paper: float
    where: str
    model: Callable[[Constants], float]
    fitted: bool = False
    speedup: tuple[str, int, str] | None = None
    """The network, GPUs and way whose speed-up over 32 bit it is."""
    least: bool = False
    """It is reported as "over" so much."""
    read: str = SECOND_HAND


def _gain(name: str, gpus: int, way: str, paper: float, where: str, read: str = SECOND_HAND) -> Claim:
    def model(c: Constants) -> float:
        return total(name, gpus, FULL, c) / total(name, gpus, way, c)

    return Claim(f"{name}, {gpus} GPUs, {way}: speed-up", paper, where, model, speedup=(name, gpus, way), read=read)


def _share(c: Constants) -> float:
    parts = epoch(DEEP["AlexNet"], 16, FULL, c)
    return parts["communicate"] / sum(parts.values())


def _read(way: str, paper: float) -> Claim:
    def model(c: Constants) -> float:
        return total(READ.name, READ.gpus, way, c)

    return Claim(f"{READ.name}, {READ.gpus} GPUs, {way}: hours", paper, "Figure 2", model, fitted=True)


CLAIMS = (
    _read(FULL, READ.total),
    Claim(
        f"{READ.name}, {READ.gpus} GPUs, {FULL}: hours of it communicating",
        READ.communication,
        "Figure 2",
        lambda c: epoch(DEEP[READ.name], READ.gpus, FULL, c)["communicate"],
        fitted=True,
    ),
    _read("QSGD, 4 bit", READ.four_bit),
    _read(ONE, READ.one_bit),
    Claim("AlexNet, 16 GPUs, 32 bit: share communicating", 0.8, "text: over 80%", _share, least=True),
    Claim(
        "AlexNet, 16 GPUs: speed-up if 4 times less is communicated",
        2.5,
        "text",
        lambda c: 1 / (1 - 0.75 * _share(c)),
    ),
    _gain("AlexNet", 8, "QSGD, 4 bit", 2.05, "Table 1; GPUs and bits assumed"),
    _gain("ResNet152", 8, "QSGD, 8 bit", 1.56, "Table 1; GPUs and bits assumed"),
    _gain("ResNet152", 16, "QSGD, 8 bit", 1.8, "abstract; bits assumed", ABSTRACT),
    _gain("ResNet50", 8, "QSGD, 4 bit", 1.26, "Table 1"),
    _gain("ResNet110", 2, "QSGD, 4 bit", 1.10, "Table 1; GPUs and bits assumed"),
)


def needed(claim: Claim, constants: Constants) -> float | None:
    """Return the bits a second with which the model has the reported speed-up; None: with none it has.

    S = (c + x u) / (c + e + x v), with c the compute, e the encoding, and u and v the communication at the fitted
    bandwidth: x = (S (c + e) - c) / (u - S v) is how many times as long it takes.
    """
    assert claim.speedup is not None
    name, gpus, way = claim.speedup
    full, short = (epoch(DEEP[name], gpus, each, constants) for each in (FULL, way))
    above = claim.paper * (short["compute"] + short["encode"]) - full["compute"]
    below = full["communicate"] - claim.paper * short["communicate"]
    return constants.link.bandwidth * below / above if above > 0 and below > 0 else None


def compared(results: Results) -> pd.DataFrame:
    """Return the reported numbers, the model's, and their ratio."""
    import pandas as pd

    constants = fit()
    return pd.DataFrame(
        {"what": c.what, "paper": c.paper, "where": c.where, "read": c.read, "fitted": c.fitted, "least": c.least}
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
        " one machine of NVIDIA K80s. Of that paper its abstract alone could be read here (1.8 times on 16 GPUs, for"
        " ResNet152); every other number called the paper's is from a secondary source, not checked against it. No"
        " network is trained and no GPU is used: an exchange is rehearsed by `qsim.network` (size-only mode). Bars:"
        " hours (minutes) of an epoch, from below compute, encode and decode, communicate, for 32 bit, QSGD of 8, 4"
        " and 2 bit, 1-bit SGD (32, 8, 4, 2, 1), none of it overlapping (assumed); bars beyond the axis have their"
        " height written in them. Crosses, in the panel of ResNet152: the reported hours, to which the model is"
        " fitted. (h): speed-ups over 32 bit, as reported (the abstract's one filled) and the model's, which are"
        f" predictions. Messages: bytes of encoded Gaussian vectors of {ENTRIES:,} entries, scaled to the number of"
        f" parameters; bits an entry: {bits}. QSGD: s = 127, 7 and 1, the max norm of buckets of {BUCKET}, fixed width;"
        " 1-bit: two means for the whole vector (Seide et al. 2014 have two for each column of a matrix). An epoch has"
        " samples / minibatch exchanges; the minibatch is shared by all GPUs (assumed). Each of the W GPUs owns 1/W of"
        " the parameters, gets the others' shares of it, and sends the sum back in the same format, as in Seide et al."
        " 2014: (W - 1)/W m bytes there and as many back, n (1 + 1/W) entries encoded. Nothing is random but the"
        " vectors; their lengths are the same for every draw, so there are no bands. The options data, workers, rounds"
        " and seeds change nothing."
    )


def answers(results: Results) -> list[str]:
    shown, constants, found = results.once(numbers), fit(), results.once(compared)
    hours = {}
    for name in DEEP:
        at8 = shown[(shown["network"] == name) & (shown["GPUs"] == READ.gpus)].set_index("way")
        full = shown[(shown["network"] == name) & (shown["way"] == FULL)].set_index("GPUs")
        share = full["communicate"] / full["hours"]
        hours[name] = [
            *(f"{100 * share[gpus]:.0f}%" for gpus in (GPUS[0], GPUS[-1])),
            *(f"{at8.loc[way, 'hours']:.3g}" for way in WAYS),
            f"{at8['speed-up'].idxmax()}, {at8['speed-up'].max():.2f} times",
        ]
    columns = [f"32 bit communicates, {gpus} GPUs" for gpus in (GPUS[0], GPUS[-1])]
    columns += [f"{way}, hours on {READ.gpus}" for way in WAYS] + ["fastest"]
    rows = {row["what"]: _compared(row) for _, row in found.iterrows()}
    against = table(["reported", "where", "who read it", "model", "model / reported", "", "bandwidth needed"], rows)
    tests = found[~found["fitted"] & ~found["least"]]
    worst = tests.loc[np.abs(np.log(tests["ratio"])).idxmax()]
    within = tests.loc[np.abs(np.log(tests["ratio"])) <= np.log(1.1), "what"]
    asked = tests.dropna(subset=["needed"])
    spread = asked["needed"].agg(["min", "max"]) / 1e9
    return [
        f"By the model:{table(columns, hours)}",
        f"Of {len(tests)} numbers that were not fitted {len(within)} are within 10%"
        f" ({'; '.join(within) if len(within) else 'none'}); the furthest is {worst['what']}, {worst['ratio']:.3g}"
        " times the reported. The abstract's speed-up is of a whole training, the model's are of an epoch. Since all"
        " but the abstract's number are second-hand, what does not agree may be the report, the reading of it or the"
        " model."
        f"{against}",
        f"Four numbers are fitted to four reported hours (second-hand), all of {READ.name} on {READ.gpus} GPUs:"
        + listed(_constants(constants))
        + f"\n\nNo source was at hand for what is called assumed. By source:{listed(_sources())}",
        f"The reported speed-ups would need {spread['min']:.3g} to {spread['max']:.3g} Gbit/s where"
        f" {constants.link.bandwidth / 1e9:.3g} were fitted to {READ.name}. So one bandwidth for all networks is wrong,"
        " or the assumed minibatches, GPUs and bits are, or the reported numbers, and the model says only what bars"
        f" would be if {READ.name}'s held for all. One reason could be that {READ.name} sends hundreds of short"
        " messages, one a layer, whose start-up is in its bandwidth here, and AlexNet a few long ones; nothing here"
        " tests it. 1-bit SGD has one cost an entry for all networks as well, assumed. All minibatches times a"
        " factor change no hours, only the fitted bandwidth and encoding.",
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
    return [paper, row["where"], row["read"], f"{row['model']:.3g}", f"{row['ratio']:.3g}", kind, bandwidth]


def _constants(constants: Constants) -> list[str]:
    encode = constants.encode
    return [
        f"speed of the GPUs: {constants.speed:.3g} of the published rates, for all networks",
        f"bandwidth of a GPU's link: {constants.link.bandwidth / 1e9:.3g} Gbit/s each way, latency 0 (in it)",
        f"QSGD encodes and decodes in {1e9 * encode['QSGD, 4 bit']:.3g} ns an entry (8 and 2 bit as 4 bit: assumed)",
        f"1-bit SGD in {1e9 * encode[ONE]:.3g} ns an entry",
    ]


def _sources() -> list[str]:
    lines = [
        f"{name}: {deep.parameters:,} parameters; {deep.samples:,} samples an epoch, {deep.batch} a minibatch;"
        f" {deep.rate:.3g} a second on one K80 ({deep.words})"
        for name, deep in DEEP.items()
    ]
    return [
        *lines,
        "measured rates: reported of TensorFlow's benchmarks of May 2017, one K80 of an Amazon EC2 p2.8xlarge,"
        " synthetic"
        " data; second-hand, as are the tables that follow",
        "parameters and multiply-adds: the tables of imgclsmob; VGG19: parameters by Keras, multiply-adds (and"
        " VGG16's) by MMClassification",
        "LSTM: counted from CNTK's AN4 example (lstmp-3layer-opt.ndl), whose list of utterances has the frames; that"
        " the paper trained this one is assumed",
        "images: ILSVRC 2012 and CIFAR-10; minibatches: He et al. 2016, Simonyan and Zisserman 2015, where named",
    ]


def figure(results: Results) -> Figure:
    shown = results.once(numbers)
    with sheet(4, 2, height=8.4) as (found, axes):
        for ax, name in zip(axes.flat, DEEP, strict=False):
            _bars(ax, shown[shown["network"] == name], name)
        _gains(axes[3, 1], results.once(compared))
        letters(axes.flat, [*(f"{name}: time of an epoch" for name in DEEP), "speed-ups, reported and model"])
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
        label = "encode, decode" if part == "encode" else part
        ax.bar(at, tall, 0.85, bottom=below, color=colour, label=label, zorder=2)
        below += tall
    if name == READ.name:
        read = {FULL: READ.total, "QSGD, 4 bit": READ.four_bit, ONE: READ.one_bit}
        crosses = [places[READ.gpus, way] for way in read]
        ax.plot(crosses, list(read.values()), "kx", markersize=4, label="reported (second-hand)", zorder=3)
    limit = 1.2 * per * here.loc[here["way"] != ONE, "hours"].max()
    for x, tall in zip(at, below, strict=True):
        if tall > limit:
            ax.text(x, 0.98 * limit, f"{tall:.3g}", rotation=90, ha="center", va="top", fontsize=5.5)
    ax.set_ylim(0, limit)
    ax.xaxis.remove_overlapping_locs = False
    ax.set_xticks(list(places.values()), labels=SHORT * len(GPUS), minor=True, fontsize=5.5)
    middles = [places[gpus, "QSGD, 4 bit"] for gpus in GPUS]
    ax.set_xticks(middles, labels=[f"{gpus} GPUs" for gpus in GPUS])
    ax.tick_params(axis="x", which="both", length=0)
    ax.tick_params(axis="x", which="minor", pad=1)
    ax.tick_params(axis="x", which="major", pad=9)
    ax.grid(visible=False, axis="x")
    ax.set_ylabel(f"{unit} an epoch")


def _gains(ax: Axes, found: pd.DataFrame) -> None:
    """Draw the reported speed-ups and the model's, one below the other."""
    here = found[found["what"].str.endswith(": speed-up")]
    rows = np.arange(len(here))
    for row, paper, model in zip(rows, here["paper"], here["model"], strict=True):
        ax.plot([paper, model], [row, row], color="0.6", linewidth=0.8)
    own = (here["read"] == ABSTRACT).to_numpy()
    ax.plot(here["paper"][own], rows[own], "ko", label="speed-up, paper's abstract", zorder=3)
    ax.plot(here["paper"][~own], rows[~own], "ko", markerfacecolor="white", label="speed-up, second-hand", zorder=3)
    ax.plot(here["model"], rows, "D", color="#D55E00", label="speed-up, model", zorder=3)
    ax.axvline(1, color="black", linewidth=0.8)
    names = [what.removesuffix(": speed-up").replace(", QSGD", "").replace(", ", "\n", 1) for what in here["what"]]
    ax.set_yticks(rows, labels=names)
    ax.invert_yaxis()
    ax.set_xlabel("speed-up over 32 bit")


study = Study(
    title="Epoch times: what compressed gradients would save deep networks on up to 16 GPUs",
    questions=(
        "Where does the time go, and what does each format save?",
        "Reported against model: what agrees, and who read it?",
        "What is fitted, and what is assumed?",
        "What do the discrepancies say?",
    ),
    defaults=Settings(data="spark_sample", workers=1, rounds=1, seeds=1),
    cells=cells,
    setting=setting,
    answers=answers,
    draw=figure,
    numbers=numbers,
)
