"""A run on Ray, on the cluster that RAY_ADDRESS names, else on one that is started here and ends with the run.

    RAY_ADDRESS=auto python examples/ray_cluster.py

The numbers are those of one machine.
"""

import qsim

run = qsim.Run(
    "spark_sample",
    objective=qsim.LogisticRegression(l2=0.01),
    method=qsim.DIANA(),
    compressor=qsim.QSGD(levels=4),
    workers=8,
    rounds=50,
)
trace = qsim.simulate(run, engine=qsim.engines.Ray())
print(trace)
print("the same bits as on one machine:", trace.weights.tobytes() == qsim.simulate(run).weights.tobytes())
