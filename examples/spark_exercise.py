"""An exercise on Spark: SGD without and with a quantizer of s levels, whose messages hold the non-zeros alone.

    python examples/spark_exercise.py
    spark-submit --master spark://host:7077 examples/spark_exercise.py --seeds 5

Logistic regression on 16 features, 32 workers with a row each in every step. The numbers are those of `qsim study
seminar`, which runs the same on one machine: means over seeds at the end.
"""

import argparse

import numpy as np

import qsim

DENSE, SPARSE_SUM = qsim.downlinks.DenseWeights(), qsim.downlinks.SparseSum()
COLUMNS = ("loss", "train_error", "nonzeros", "bits_up", "bits_down")


def run(compressor, codec, downlink, seed, options):
    """Return one run of the exercise, as the study has it."""
    return qsim.Run(
        "spark_sample",
        objective=qsim.LogisticRegression(l2=0.0),
        method=qsim.SGD(step=0.2, batch=1),
        compressor=compressor,
        codec=codec,
        downlink=downlink,
        workers=options.workers,
        partition=qsim.datasets.Contiguous(),
        weighting="workers",
        rounds=options.rounds,
        evaluate_every=options.rounds,
        start=qsim.starts.Uniform(1.0),
        seed=seed,
        optimum=False,
    )


parser = argparse.ArgumentParser(description="Quantized SGD on Spark.")
for name, default in (("workers", 32), ("rounds", 150), ("seeds", 40)):
    parser.add_argument(f"--{name}", type=int, default=default)
options = parser.parse_args()

# Without a quantizer all numbers are sent, as float32.
ways = {"uncompressed": (qsim.Identity(), None, DENSE)}

# QSGD with s levels: a message is its norm and, for each non-zero, the gap to the one before, the sign and the level.
for s in (1, 2, 3, 4):
    ways[f"s = {s}"] = (qsim.QSGD(levels=s), qsim.codecs.Varint(), DENSE)

# Sparse messages both ways: the server answers with the non-zeros of the sum, and workers keep the weights.
ways["s = 1; sparse sum"] = (qsim.QSGD(levels=1), qsim.codecs.Varint(), SPARSE_SUM)

engine = qsim.engines.Spark()
print(f"{'':20}{'loss':>12}{'error':>12}{'non-zeros':>12}{'bits up':>14}{'bits down':>14}")
with engine.started():  # one session for all runs
    for name, way in ways.items():
        traces = [qsim.simulate(run(*way, seed, options), engine=engine) for seed in range(options.seeds)]
        loss, error, *counts = (np.mean([trace.axis(column)[-1] for trace in traces]) for column in COLUMNS)
        print(f"{name:20}{loss:12.5f}{error:12.5f}{counts[0]:12,.0f}{counts[1]:14,.0f}{counts[2]:14,.0f}")
