"""
How is an objective of one's own trained?
=========================================

A linear model takes four methods in NumPy. With the Huber loss, which grows linearly for outliers, the coefficients
come out right; least squares on the same targets, compressed in the same way, are thrown off.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim


@qsim.option
class Huber(qsim.objectives.LinearModel):
    """Squares of small errors, magnitudes of large ones."""

    l2: float
    corner: float = 1.0

    takes = ("targets",)

    def loss(self, margins, labels):
        off = np.abs(margins - labels)
        return np.where(off < self.corner, off**2 / 2, self.corner * (off - self.corner / 2))

    def slope(self, margins, labels):
        return np.clip(margins - labels, -self.corner, self.corner)

    def curvature(self, margins, labels):
        return (np.abs(margins - labels) < self.corner).astype(margins.dtype)

    def curvature_bound(self):
        return 1.0


random = np.random.default_rng(0)
true = np.linspace(-1, 1, 20)
x = random.standard_normal((400, 20))
y = x @ true + 0.1 * random.standard_normal(400)
y[:40] += 30 * random.standard_normal(40)  # a tenth of the targets are wrong
data = qsim.Dataset.from_arrays(x, y, kind="targets")

fig, ax = plt.subplots()
errors = []
for objective in (Huber(l2=1e-3), qsim.LeastSquares(l2=1e-3)):
    trace = qsim.simulate(data, objective=objective, method=qsim.DIANA(), compressor=qsim.QSGD(4), rounds=400)
    errors.append(np.abs(trace.weights - true).max())
    ax.plot(trace.weights, "o", label=f"{type(objective).__name__}: off by up to {errors[-1]:.2f}")
ax.plot(true, "k-", label="true coefficients")
ax.set(xlabel="feature", ylabel="weight")
ax.legend()
plt.show()

assert errors[0] < errors[1] / 5
