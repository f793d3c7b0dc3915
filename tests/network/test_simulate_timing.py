"""Rehearsals: the times of more workers than data have rows; calibration."""

from __future__ import annotations

from math import sqrt

import pytest

import qsim
from qsim.network import (
    PARTS,
    Backup,
    Exponential,
    Link,
    Machines,
    Network,
    ParameterServer,
    Ring,
    simulate_timing,
)

pytestmark = pytest.mark.quick


def test_a_rehearsal_resamples_what_was_recorded() -> None:
    """One worker: its times are those of the records, each about as often (a share of 1/4, 6.5 standard deviations)."""
    network = Network(ParameterServer(), Link(8e3, 0.0), Machines(per_nonzero=1.0))
    frame = simulate_timing(
        network, sizes=[1000, 2000, 3000, 0], nonzeros=[0, 1, 2, 3], down=1000, workers=1, rounds=2000
    )
    found = {(c, u): n for (c, u), n in frame.groupby(["compute", "uplink"]).size().items()}
    assert set(found) == {(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 0.0)}
    assert all(abs(n - 500) < 6.5 * sqrt(2000 * 3 / 16) for n in found.values())
    assert (frame["downlink"] == 1.0).all()
    assert "nothing was trained" in frame.attrs["what"]
    again = simulate_timing(
        network, sizes=[1000, 2000, 3000, 0], nonzeros=[0, 1, 2, 3], down=1000, workers=1, rounds=2000
    )
    assert again.equals(frame)


def test_a_hundred_thousand_workers() -> None:
    machines = Machines(base=0.01, delay=Exponential(0.1))
    frame = simulate_timing(
        Network(ParameterServer(64), machines=machines, rule=Backup(1000)), sizes=[10, 20], workers=100_000, rounds=3
    )
    assert (frame["dropped"] == 1000).all()
    assert frame["seconds"].to_numpy() == pytest.approx(frame[list(PARTS)].sum(axis=1).to_numpy(), rel=1e-12)


@pytest.mark.usefixtures("compensated_sum")
def test_the_parts_of_a_round_are_added_in_their_order() -> None:
    machines = Machines(
        base=0.01, per_nonzero=1e-3, delay=Exponential(0.1), encode_per_entry=1e-5, decode_per_byte=1e-5
    )
    frame = simulate_timing(
        Network(machines=machines, rule=Backup(1)),
        sizes=[10, 20],
        nonzeros=3,
        entries=7,
        down=99,
        workers=5,
        rounds=200,
    )
    expected = frame[PARTS[0]]
    for part in PARTS[1:]:
        expected = expected + frame[part]
    assert frame["seconds"].tolist() == expected.tolist()


# Calibration.


def test_calibration_prints_machines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that goes a second a look: every turn of one call takes one second."""
    from qsim import calibrate

    looks = iter(range(10**6))
    monkeypatch.setattr(calibrate, "perf_counter", lambda: float(next(looks)))
    assert calibrate.main(["qsim:TopK(3)", "--data", "spark_sample"]) == 0
    found = eval(capsys.readouterr().out)
    data = qsim.datasets.load("spark_sample")
    assert isinstance(found, Machines)
    assert found.per_nonzero == float(f"{1 / data.nonzeros:.1e}")
    assert 0 < found.encode_per_entry < 1
    assert 0 < found.decode_per_byte < 1
    for words, text in (
        (["qsim:nothing"], "no 'nothing'"),
        (["qsim:Key(1)"], "not a compressor"),
        (["--data", "nix"], "nix"),
    ):
        with pytest.raises(SystemExit):
            calibrate.main(words)
        assert text in capsys.readouterr().err
    with pytest.raises(ValueError, match="seconds must be"):
        calibrate.measure_machine(data, qsim.TopK(3), seconds=0)


@pytest.mark.parametrize("bad", [{"topology": Link()}, {"link": 1e9}, {"machines": Exponential(1)}, {"rule": 0.5}])
def test_what_is_none_of_these_is_refused(bad) -> None:
    with pytest.raises(TypeError, match=r"must be .*qsim.network\..*, found"):
        Network(**bad)
    with pytest.raises(TypeError, match="delay must be a law"):
        Machines(delay=0.1)
    with pytest.raises(TypeError, match="speeds must be"):
        Machines(speeds=2.0)
    with pytest.raises(TypeError, match=r"network must be such as qsim.Network\(\), found qsim.network.Ring\(\)"):
        simulate_timing(Ring(), sizes=1, workers=2, rounds=1)
