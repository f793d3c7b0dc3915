"""The studies of virtual time: their arithmetic against closed forms, and that their findings are computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import qsim
from helpers.studies import load
from qsim.identity import identify
from qsim.study import Results, Settings, Store

A, B = 1e-4, 8 / 1e8  # of the study's links: seconds, and seconds per byte


@pytest.fixture(scope="module")
def scaled() -> tuple[Results, pd.DataFrame]:
    """Runs of up to 10 workers, the rest rehearsed."""
    study, module = load("scaling")
    settings = Settings("spark_sample", 10, 2, 2)
    cells = study.cells(settings)
    results = Results(settings, cells, [qsim.simulate(cell.run) for cell in cells])
    return results, module.numbers(results).set_index(["scaling", "way", "workers"]).sort_index()


def by_hand(way: str, p: int, m: float) -> float:
    """Return seconds of the collective, without computing, encoding and decoding, for messages of m bytes."""
    depth = int(np.ceil(np.log2(p)))
    return {
        "ring, 32 bit": 2 * (p - 1) * (A + B * m / p),
        "tree, 32 bit": 2 * depth * (A + B * m),
        "server, 32 bit": A + p * m * B,
    }[way]


@pytest.mark.parametrize("way", ["ring, 32 bit", "tree, 32 bit"])
@pytest.mark.parametrize("workers", [2, 5, 10, 20, 100_000])
def test_scaling_has_the_closed_form_of_the_topology(way: str, workers: int, scaled) -> None:
    results, table = scaled
    row = table.loc[("weak", way, workers)]
    m = 4 * results.settings.load().features
    assert row["source"] == ("run" if workers <= 10 else "rehearsal")
    assert row["uplink"] == pytest.approx(by_hand(way, workers, m), rel=1e-9)
    assert row["downlink"] == 0
    assert 0 < row["encode"] <= 1e-8 * m / 4 * (1 + 1e-9)  # of the coordinates that its rows have
    parts = row[list(qsim.network.PARTS)].sum()
    assert row["seconds"] == pytest.approx(parts, rel=1e-9)


@pytest.mark.parametrize("workers", [1000, 100_000])
def test_the_server_is_the_bottleneck_both_ways(workers: int, scaled) -> None:
    results, table = scaled
    m = 4 * results.settings.load().features
    row = table.loc[("strong", "server, 32 bit", workers)]
    assert row["downlink"] == pytest.approx(by_hand("server, 32 bit", workers, m), rel=1e-9)
    assert row["uplink"] == pytest.approx(by_hand("server, 32 bit", workers, m), rel=0.05)  # the last waits less


def test_speed_up_is_the_work_of_one_machine_over_the_round(scaled) -> None:
    results, table = scaled
    data = results.settings.load()
    alone = data.nonzeros * 1e-6
    strong = table.loc[("strong", "all-gather, QSGD", 5)]
    assert strong["speed-up"] == pytest.approx(alone / strong["seconds"], rel=1e-3)
    assert table.loc[("strong", "tree, Rand-k", 1), "compute"] == pytest.approx(alone)
    weak = table.loc["weak"]
    np.testing.assert_allclose(weak["efficiency"], weak["speed-up"] / weak.index.get_level_values("workers"))
    first = weak.xs(1, level="workers")["compute"].mean()
    row = weak.loc[("ring, 32 bit", 100_000)]
    assert row["speed-up"] == pytest.approx(100_000 * first / row["seconds"], rel=0.05)


def test_rehearsals_share_the_work_of_strong_scaling_and_never_call_themselves_runs(scaled) -> None:
    _, table = scaled
    compute = table.loc[("strong", "ring, 32 bit"), "compute"]
    assert compute[100_000] == pytest.approx(compute[10] / 10_000, rel=0.02)
    beyond = table[table.index.get_level_values("workers") > 10]
    assert (beyond["source"] == "rehearsal").all()
    assert beyond["curve"].str.endswith("rehearsed").all()
    assert (table.loc["strong, delays"]["source"] == "rehearsal").all()
    late = table.loc[("strong, delays", "tree, 32 bit", 100_000), ["compute", "wait"]].sum()
    assert late == pytest.approx(1e-3 * (np.log(100_000) + 0.5772), rel=0.3)  # H_p times the mean, 4 draws


def test_a_stored_run_keeps_what_rehearsals_draw_from(scaled, tmp_path: Path) -> None:
    results, _ = scaled
    trace = results.traces["weak, ring, 32 bit, W = 5"][0]
    store, known = Store(tmp_path), identify(results.cells[0].run)
    store.save(known, trace)
    found = store.load(known.key).schedule
    assert set(found) == set(trace.schedule) != set()
    for name, column in trace.schedule.items():
        np.testing.assert_array_equal(found[name], column)


def test_the_best_number_of_workers_is_that_of_the_table(scaled) -> None:
    results, table = scaled
    study, _ = load("scaling")
    answer = study.answers(results)[0]
    for way in ("server, 32 bit", "tree, 32 bit"):
        gains = table.loc[("strong", way), "speed-up"]
        assert f"| {way} | {gains.max():.3g} at W = {gains.idxmax():,} " in answer


def test_the_fit_gives_the_fitted_speed_up() -> None:
    """By hand: 8 GPUs move 7/4 of a message each, of 32 or 8 + 32/512 bits per entry; ratio 1.56."""
    _, module = load("epoch_time")
    n, computing = 60_192_808, 256 / 8 / 19.7
    full, short = 7 / 4 * 32 * n, 7 / 4 * (8 + 32 / 512) * n
    bandwidth = (full - 1.56 * short) / (0.56 * computing)
    assert module.fit().link.bandwidth == pytest.approx(bandwidth, rel=1e-4)  # the last bucket is short
    assert module.FITTED.model(module.fit()) == pytest.approx(1.56, rel=1e-9)
    other = replace(module.FITTED, paper=2.0)
    assert other.model(module.fit(other)) == pytest.approx(2.0, rel=1e-9)


def test_an_epoch_by_hand() -> None:
    _, module = load("epoch_time")
    constants = module.Constants(qsim.network.Link(bandwidth=8e9, latency=0.0))
    deep = module.Deep(parameters=10**6, samples=36_000, batch=10, rate=200.0, words="")
    parts = module.epoch(deep, 4, "32 bit", constants)
    assert parts["compute"] == pytest.approx(10 / 4 / 200, rel=1e-12)  # an hour an exchange-second: 3,600 of them
    assert parts["communicate"] == pytest.approx(2 * 0.75 * 4e6 / 1e9, rel=1e-12)


def test_messages_are_encoded_ones_of_the_stated_width() -> None:
    _, module = load("epoch_time")
    for way, bits, bucket in zip(module.WAYS, (32, 8, 4, 2), (None, 512, 512, 128), strict=True):
        found = {module.encoded(way, seed) for seed in (0, 1)}
        assert len(found) == 1  # for every draw
        assert found.pop() - bits == pytest.approx(32 / bucket if bucket else 0, abs=5e-5)


def test_the_bandwidth_that_a_speed_up_would_need_gives_it() -> None:
    _, module = load("epoch_time")
    constants = module.fit()
    claims = [claim for claim in module.CLAIMS if claim.speedup]
    assert len(claims) == 9
    for claim in claims:
        needed = module.needed(claim, constants)
        link = qsim.network.Link(bandwidth=needed, latency=0.0)
        assert claim.model(module.Constants(link)) == pytest.approx(claim.paper, rel=1e-9)
    assert module.needed(replace(claims[0], paper=1000.0), constants) is None


def test_minibatches_times_a_factor_change_no_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    _, module = load("epoch_time")
    before = module.numbers(None)["hours"]
    twice = {name: replace(deep, batch=2 * deep.batch) for name, deep in module.DEEP.items()}
    monkeypatch.setattr(module, "DEEP", twice)
    np.testing.assert_allclose(module.numbers(None)["hours"], before, rtol=1e-9)


def test_discrepancies_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number of the paper changes the table and the words."""
    study, module = load("epoch_time")
    results = Results(Settings("spark_sample", 1, 1, 1), [], [])
    before = study.answers(results)
    table = module.compared(results)
    np.testing.assert_allclose(table.loc[table["fitted"], "ratio"], 1, rtol=1e-9)
    assert table["fitted"].sum() == 1
    claims = tuple(replace(c, paper=c.model(module.fit())) if c.speedup else c for c in module.CLAIMS)
    monkeypatch.setattr(module, "CLAIMS", claims)
    after = study.answers(Results(results.settings, [], []))
    assert "Of 9 numbers that were not fitted 8 are within 10%" in after[1]
    assert "fitted 8 are" not in before[1]
    row = table.set_index("what").loc["AlexNet, 8 GPUs, QSGD, 4 bit: speed-up"]
    assert f"| {row['model']:.3g} | {row['model'] / 2.05:.3g} | predicted |" in before[1]


def test_the_lstm_is_counted_layer_by_layer() -> None:
    _, module = load("epoch_time")
    layers = [4096 * n + 4096 * 512 + 4096 + 3 * 1024 + 512 * 1024 for n in (363, 512, 512)]
    assert sum(layers) + 132 * 512 + 132 == module.LSTM_SIZE == 13_634_692


def test_beyond_the_crossing_all_gather_is_faster_where_an_all_reduce_folds() -> None:
    """Messages of 1/32 of 4 MB: an all-reduce is faster from p = 64 on, but not at 65, by the formulas."""
    _, module = load("topologies")
    small, whole, b = 125_004.0, 4e6, 8 / 1e10
    assert module.crossing(small, whole) == 64
    found = module.later(small, whole, 64)
    for p in (64, 65, 90, 91, 128):
        q, k = 1 << (p.bit_length() - 1), p.bit_length() - 1
        halving = 2 * k * 5e-5 + 2 * (q - 1) / q * whole * b + (p > q) * 2 * (5e-5 + whole * b)
        ring = 2 * (p - 1) * (5e-5 + whole * b / p)
        assert (p in found) == ((p - 1) * (5e-5 + small * b) <= min(halving, ring))
    assert 65 in found
    assert max(found) == 90
