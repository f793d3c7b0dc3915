"""A run on Spark, where its settings say: the same numbers as on one machine.

    python examples/spark_submit.py
    spark-submit --master spark://host:7077 examples/spark_submit.py

The master, the cores and the interpreter are Spark's settings; none is named here.
"""

import numpy as np

import qsim


@qsim.option
class Ternary(qsim.compressors.Compressor):
    """A compressor of one's own works on the executors as it is."""

    emits = qsim.batch.Levels

    def quantize(self, v, key):
        scale = np.abs(v).max()
        keep = key.generator().random(v.size) * scale < np.abs(v)
        return qsim.batch.Levels.single(np.sign(v) * keep, scale=scale, s=1)


run = qsim.Run(
    "spark_sample",
    objective=qsim.LogisticRegression(l2=0.01),
    method=qsim.SGD(step=0.1, batch=4),
    compressor=Ternary(),
    workers=8,
    rounds=50,
)
trace = qsim.simulate(run, engine=qsim.engines.Spark())
print(trace)
print("the same bits as on one machine:", trace.weights.tobytes() == qsim.simulate(run).weights.tobytes())
