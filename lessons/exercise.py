# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Training with quantized gradients
#
# $W$ workers hold parts of a data set and train one model together. In every round each worker sends a gradient of $n$
# numbers to a server, which averages them, makes a step and sends the weights back. The messages are what limits the
# speed. In this exercise you make them shorter and find out what it costs:
#
# 1. **the simple quantizer**: every coordinate is sent as $0$ or $\pm\lVert v\rVert$, at random and without bias;
# 2. **more levels**: how does the training loss depend on their number $s$?
# 3. **sparse messages**: how many bits does a message take if only its non-zeros are sent?
#
# You write seven short functions. Each begins with `raise NotImplementedError`: put your code there. The cell below it
# checks what you wrote, and says what is wrong and why; you may change your code and check it again as often as you
# like. Keep the names of the functions, and use NumPy alone inside them.

# %%
# Where qsim is not installed, as in a hosted notebook: put the path or address of its wheel between the quotes. (A bare
# name would not do: what is called qsim on public package indexes need not be this library.)
QSIM = ""
if QSIM:
    get_ipython().run_line_magic("pip", f"install --quiet {QSIM}")

# %%
import numpy as np

import qsim
from qsim import lessons

ENGINE = qsim.engines.Serial()  # where the workers of parts 2 and 3 run: on a Spark cluster, qsim.engines.Spark()

# %% [markdown]
# ## Part 1: the simple quantizer
#
# ### The gradient
#
# The model is logistic regression without a regulariser. For rows $x_1, \dots, x_m$ with labels $y_i = \pm 1$ the loss
# is
#
# $$f(w) = \frac1m \sum_{i=1}^m \log\bigl(1 + e^{-y_i \langle x_i, w\rangle}\bigr), \qquad
# \nabla f(w) = -\frac1m \sum_{i=1}^m \frac{y_i}{1 + e^{y_i \langle x_i, w\rangle}}\; x_i .$$
#
# Write the gradient. Take care with large margins $y_i \langle x_i, w\rangle$: for $t = 1000$, `np.exp(t)` is infinite,
# and infinity over infinity is no number. (`np.tanh` never overflows, and
# $1/(1 + e^{t}) = \tfrac12 - \tfrac12\tanh(t/2)$.)


# %%
def gradient(w, X, y):
    """Return the gradient of the mean logistic loss at w, for the rows of X and labels y of -1 and 1."""
    # BEGIN SOLUTION
    margins = y * (X @ w)
    return -X.T @ (y * (0.5 - 0.5 * np.tanh(margins / 2))) / len(y)
    # END SOLUTION


# %%
lessons.check(gradient)

# %% [markdown]
# The gradient of a row is a multiple of the row, so it is zero wherever the row is. With few rows, or data such as text
# where every row has few of very many features, gradients are sparse as they are. And where they are not, most of their
# coordinates are small: the right panel has the sorted magnitudes of a full gradient.

# %%
lessons.sparse_gradients()

# %% [markdown]
# ### The quantizer
#
# The simple quantizer makes of $v \in \mathbb R^n$ a random vector
#
# $$Q(v)_i = \begin{cases} \lVert v\rVert\,\operatorname{sign}(v_i) & \text{with probability } |v_i|/\lVert v\rVert,\\
# 0 & \text{otherwise,}\end{cases}$$
#
# with the Euclidean norm $\lVert v\rVert$. Then $\mathbb E\,Q(v) = v$: it is *unbiased*. What is sent is the norm, and
# a *level* of $-1$, $0$ or $1$ for every coordinate, which stands for the level times the norm.
#
# Write it. `rng` is a generator of NumPy (`rng.random(n)` gives $n$ independent numbers, uniform in $[0, 1)$); all
# randomness must come from it. The zero vector has norm 0 and no non-zeros.


# %%
def simple(v, rng):
    """Return the norm of v, and levels of -1, 0 and 1, drawn with rng."""
    # BEGIN SOLUTION
    norm = np.sqrt(v @ v)
    keep = norm * rng.random(v.size) < np.abs(v)
    return norm, np.where(keep, np.sign(v), 0).astype(int)
    # END SOLUTION


# %%
lessons.check(simple)

# %% [markdown]
# Why at random? The alternative below sends the signs alone, and each stands for the mean of its side (*two means*).
# That is much nearer to $v$ than a single message of the simple quantizer. But its error is the same in every message,
# so it does not average out: the right panel has the error of the mean of $W$ messages.

# %%
lessons.two_means()

# %% [markdown]
# ### Its variance
#
# How far is a message from $v$? Work out $\mathbb E\,\lVert Q(v) - v\rVert^2$ on paper (the coordinates one by one:
# each is a scaled Bernoulli variable), and write it as a function of $\lVert v\rVert_1 = \sum_i |v_i|$ and $\lVert
# v\rVert$. Work out, too, how many non-zeros a message has on average.


# %%
def simple_variance(v):
    """Return E ||Q(v) - v||^2 of the simple quantizer."""
    # BEGIN SOLUTION
    norm = np.sqrt(v @ v)
    return np.abs(v).sum() * norm - norm**2
    # END SOLUTION


# %%
lessons.check(simple_variance)

# %% [markdown] tags=["solution"]
# **Solution.** With $p_i = |v_i|/\lVert v\rVert$ the variance of coordinate $i$ is $\lVert v\rVert^2 p_i(1 - p_i)$, and
# the sum is $\lVert v\rVert^2 \sum_i p_i - \lVert v\rVert^2 \sum_i p_i^2 = \lVert v\rVert_1 \lVert v\rVert - \lVert
# v\rVert^2$, since $\sum_i p_i^2 = 1$. By Cauchy and Schwarz $\lVert v\rVert_1 \le \sqrt n\,\lVert v\rVert$, so the
# variance is at most $(\sqrt n - 1)\lVert v\rVert^2$. The expected number of non-zeros is $\sum_i p_i = \lVert
# v\rVert_1 / \lVert v\rVert$, at most $\sqrt n$.

# %% [markdown]
# ### The server
#
# Write what the server does with the messages of all workers. For now $s = 1$; in part 2 a level $l$ will stand for
# $l \cdot \lVert v\rVert / s$.


# %%
def average(norms, levels, s):
    """Return the mean of the workers' vectors, from their norms (W numbers) and levels (an array of W rows)."""
    # BEGIN SOLUTION
    return (norms[:, None] * levels / s).mean(axis=0)
    # END SOLUTION


# %%
lessons.check(average)

# %% [markdown]
# ### Training
#
# Now all of it together, on a small data set in 32 parts. Every worker computes the gradient of its whole part.

# %%
data = qsim.load("spark_sample")
X, y = data.to_scipy().toarray().astype(float), np.asarray(data.labels, float)
parts = np.array_split(np.arange(len(y)), 32)
STEP = 0.2


def loss(w):
    return np.logaddexp(0, -y * (X @ w)).mean()


def train(quantized, seed, rounds=150):
    """Return the loss after every round, the non-zeros sent until then, and the last weights."""
    rng = np.random.default_rng(seed)
    w = np.random.default_rng([seed, 1]).uniform(-1, 1, X.shape[1])
    losses, sent = [loss(w)], [0]
    for _ in range(rounds):
        gradients = [gradient(w, X[part], y[part]) for part in parts]
        if quantized:
            norms, levels = map(np.array, zip(*(simple(v, rng) for v in gradients), strict=True))
            update = average(norms, levels, 1)
        else:
            levels = np.array(gradients)
            update = levels.mean(axis=0)
        w = w - STEP * update
        losses.append(loss(w))
        sent.append(sent[-1] + np.count_nonzero(levels))
    return np.array(losses), np.array(sent), w


# %%
NAMES = {"without quantization": False, "simple quantizer": True}
if lessons.written(gradient, simple, average):
    runs = {name: [train(quantized, seed) for seed in range(10)] for name, quantized in NAMES.items()}
    with qsim.study.figure_grid(1, 2, height=2.4) as (figure, axes):
        for place, (name, found) in enumerate(runs.items()):
            for seed, (losses, sent, _) in enumerate(found):
                look = {**qsim.study.look(place), "marker": "", "label": name if seed == 0 else None}
                axes[0, 0].plot(losses, **look)
                axes[0, 1].plot(sent, **look)
        for ax, label in zip(axes[0], ("training loss", "non-zeros sent"), strict=True):
            ax.set(xlabel="round", ylabel=label)
        qsim.study.legend_below(figure, axes.flat)
    display(figure)

# %% [markdown]
# **Discuss.** Ten seeds are drawn. What does the quantizer do to the training loss, and to the number of non-zeros? Is
# a difference of final losses larger than the noise between seeds? Why is it so small, although a single message is so
# far from its gradient?

# %% [markdown] tags=["exercise"]
# *Your answer:*

# %% tags=["solution"]
finals = {name: np.array([losses[-1] for losses, _, _ in found]) for name, found in runs.items()}
sent = {name: np.mean([sent[-1] for _, sent, _ in found]) for name, found in runs.items()}
without, simply = NAMES
found = qsim.study.compare({simply: finals[simply]}, finals[without], qsim.study.StudentT())[simply]
print(f"final loss {without}: {finals[without].mean():.4f}; {simply}: {finals[simply].mean():.4f}; difference {found}")
print(f"non-zeros sent: {sent[without]:,.0f} and {sent[simply]:,.0f}, a share of {sent[simply] / sent[without]:.0%}")
for when, w in {"first": np.zeros(X.shape[1]), "last": runs[without][0][-1]}.items():
    vectors = [gradient(w, X[part], y[part]) for part in parts]
    single = np.mean([simple_variance(v) / (v @ v) for v in vectors])
    V = sum(simple_variance(v) for v in vectors) / len(vectors) ** 2
    most = np.sqrt(X.shape[1]) - 1
    print(f"{when} weights: variance of a message {single:.2f} ||v||^2, at most {most:.0f} ||v||^2")
    print(f"    variance of the mean message V = {V:.3g}; step/4 V = {STEP / 4 * V:.2g}")

# %% [markdown] tags=["solution"]
# **Discussion.** A single message is far from its gradient, but the messages are unbiased: a round moves the weights in
# the right direction *on average*, and the server averages $W$ independent messages, so that the variance $V$ of the
# mean message is $1/W$ of the mean variance of one. It acts like the noise of a minibatch. On a quadratic with
# curvature $h$, with step $\gamma$ and $\gamma h \ll 1$, noise of variance $V$ in the gradient adds $\gamma V/4$ to the
# expected loss once it has settled: the last line has it, to be compared with the difference. The step is a small
# factor, and that is why the difference is small beside the fall of the loss. It does not vanish here: the parts have
# about ten rows each, so the workers' gradients differ, and do not vanish at the minimum. The difference is paired by
# seed: both runs of a seed begin at the same weights.

# %% [markdown]
# ## Part 2: more levels
#
# With $s$ levels (QSGD: Alistarh, Grubic, Li, Tomioka and Vojnović, 2017) a coordinate is rounded to a multiple of
# $\lVert v\rVert/s$. Let $x_i = s\,|v_i|/\lVert v\rVert$ and $l_i = \lfloor x_i\rfloor$. The level is
#
# $$\operatorname{sign}(v_i)\cdot\begin{cases} l_i + 1 & \text{with probability } x_i - l_i,\\ l_i &
# \text{otherwise.}\end{cases}$$
#
# Again $\mathbb E\,Q(v) = v$, and the variance is $\frac{\lVert v\rVert^2}{s^2} \sum_i (x_i - l_i)(1 - x_i + l_i)$.
# Their Lemma 3.1 bounds it for every $v$ by $\min(n/s^2, \sqrt n/s)\,\lVert v\rVert^2$. For $s = 1$ it is the simple
# quantizer.


# %%
def quantize(v, s, rng):
    """Return the norm of v, and levels from -s to s, drawn with rng."""
    # BEGIN SOLUTION
    norm = np.sqrt(v @ v)
    x = s * np.abs(v) / norm if norm > 0 else np.zeros(v.size)
    low = np.floor(x)
    return norm, (np.sign(v) * (low + (rng.random(v.size) < x - low))).astype(int)
    # END SOLUTION


# %%
lessons.check(quantize)

# %%
lessons.stochastic_quantization()

# %% [markdown]
# ### How the loss depends on $s$
#
# Your function now becomes a compressor of qsim, which trains with it on a larger data set (Adult: 32,561 rows, 121
# features), encodes every message, decodes it again at the server, and counts the bytes. All workers send the gradient
# of their whole part. Two settings: rows shuffled over 32 workers, so that all hold similar data; and rows sorted by
# label over 8 workers, so that each knows one label only.


# %%
@qsim.option
class Mine(qsim.compressors.Compressor):
    """The quantizer of this notebook."""

    levels: int
    emits = qsim.batch.Levels

    def quantize(self, v, key):
        norm, levels = quantize(np.asarray(v, float), self.levels, key.generator())
        return qsim.batch.Levels.single(levels, scale=norm, s=self.levels)


SETTINGS = {"shuffled": (32, qsim.datasets.Shuffled()), "sorted by label": (8, qsim.datasets.ByLabel())}
OBJECTIVE = qsim.LogisticRegression(l2=1e-4)
ROUNDS, SEEDS = 60, 8


def run(compressor, setting, seed):
    workers, partition = SETTINGS[setting]
    return qsim.Run(
        "adult",
        objective=OBJECTIVE,
        method=qsim.GradientDescent(step=0.6),
        compressor=compressor,
        codec=qsim.codecs.Varint() if isinstance(compressor, Mine) else None,
        workers=workers,
        partition=partition,
        rounds=ROUNDS,
        seed=seed,
        optimum=False,
    )


# %%
LEVELS = (1, 2, 4, 16)
if lessons.written(quantize):
    ways = {"uncompressed": qsim.Identity(), **{f"s = {s}": Mine(s) for s in LEVELS}}
    with ENGINE.started():  # one session of Spark for all runs
        traces = {
            setting: {
                name: [qsim.simulate(run(way, setting, seed), engine=ENGINE) for seed in range(SEEDS)]
                for name, way in ways.items()
            }
            for setting in SETTINGS
        }
    with qsim.study.figure_grid(2, 2, height=4.2) as (figure, axes):
        for column, (setting, curves) in enumerate(traces.items()):
            for place, (name, found) in enumerate(curves.items()):
                look = {**qsim.study.look(place), "markevery": (10, 10), "label": name}
                axes[0, column].plot(np.mean([trace.axis("loss") for trace in found], axis=0), **look)
                axes[1, column].plot(np.mean([trace.axis("nonzeros") for trace in found], axis=0), **look)
            axes[0, column].set(ylabel="training loss", ylim=(0.3, 0.5), title=f"rows {setting}")
            axes[1, column].set(ylabel="non-zeros sent", xlabel="round", yscale="log", ylim=(100, None))
        qsim.study.legend_below(figure, axes.flat)
    display(figure)

# %% [markdown]
# **Discuss.** How is the training loss affected by $s$? When does $s$ matter, and when not, and why? (Think of the
# variance of the mean message: it grows with the squared norms of the *workers'* gradients. What becomes of these as
# the weights come near the minimum?)

# %% [markdown] tags=["exercise"]
# *Your answer:*

# %% tags=["solution"]
from qsim.study.noise import excess, hessian, noise

for setting, curves in traces.items():
    finals = {name: np.array([trace.axis("loss")[-1] for trace in found]) for name, found in curves.items()}
    others = {name: final for name, final in finals.items() if name != "uncompressed"}
    found = qsim.study.compare(others, finals["uncompressed"], qsim.study.StudentT())
    plain = run(qsim.Identity(), setting, 0)
    end = curves["uncompressed"][0].weights
    curvature = hessian(plain, end)
    print(f"rows {setting}: the uncompressed runs end at {finals['uncompressed'].mean():.5f}")
    for s in LEVELS:
        start, last = (noise(run(qsim.QSGD(levels=s), setting, 0), w, draws=50) for w in (np.zeros(end.size), end))
        predicted = excess(curvature, last.variance, 0.6, ROUNDS)
        print(
            f"  s = {s:2}: {found[f's = {s}']}; V {start.variance.sum():.2g} at the start, {last.variance.sum():.2g} at"
            f" the end, which adds about {predicted:.1g} to the loss"
        )

# %% [markdown] tags=["solution"]
# **Discussion.** The variance of the mean message is
# $$V = \frac1{W^2} \sum_{j=1}^W \mathbb E\,\lVert Q(v_j) - v_j\rVert^2 \le \frac{\omega}{W} \cdot \frac1W \sum_{j=1}^W
# \lVert v_j\rVert^2, \qquad \omega = \min(n/s^2, \sqrt n/s),$$ (with equal shares), so it falls with $s$ and with the
# number of workers. Above, $V$ is measured at the first and at the last weights, and its effect on the loss is
# predicted from the curvature there (on a quadratic, with noise that has had $t$ rounds to settle: `qsim.study.noise`).
#
# Where rows are shuffled, every worker's gradient is near the mean gradient and vanishes at the minimum. The noise
# vanishes with it, and the loss hardly depends on $s$: the coarsest quantizer is good enough. Where rows are sorted by
# label, the workers' gradients cancel in the mean but none of them vanishes, so $V$ stays, and the loss stalls above
# the minimum by an amount that falls with $s$. The more rounds, the clearer: without noise the loss goes on falling.
# Methods such as DIANA compress differences of gradients, which vanish in both cases.

# %% [markdown]
# ## Part 3: sparse messages
#
# A message that has few non-zeros need not be $n$ numbers. On qsim's wire (its codec `Varint`) it is
#
# * the norm as a float32 in 4 bytes, the lowest byte first (`struct.pack("<f", norm)`), and
# * for every non-zero, in the order of the coordinates, one whole number in base 128.
#
# For a non-zero with level $l$, whose *gap* $g \ge 1$ is the distance from the coordinate of the non-zero before (from
# $-1$ for the first one), this number is
#
# $$u = 2\,\bigl((g - 1)\,2^b + |l| - 1\bigr) + [l < 0],$$
#
# where $b$ is the number of bits of $s - 1$ (`(s - 1).bit_length()`). In base 128 a byte holds seven bits of it, the
# lowest first, and its highest bit says whether more bytes follow: $u = 300 = 2 \cdot 128 + 44$ is sent as the bytes
# $128 + 44$ and $2$; a number below 128 is one byte.
#
# Count the bits of a message, and make its bytes.


# %%
def bits(levels, s):
    """Return the bits of a message with these levels, the norm included."""
    # BEGIN SOLUTION
    return 32 + sum(8 * max(1, -(-u.bit_length() // 7)) for u in numbers(levels, s))


def numbers(levels, s):
    """Return the number that is sent for each non-zero."""
    (places,) = np.nonzero(levels)
    gaps = np.diff(places, prepend=-1)
    width = (s - 1).bit_length()
    return [
        2 * ((int(gap) - 1 << width) + abs(int(level)) - 1) + int(level < 0)
        for gap, level in zip(gaps, levels[places], strict=True)
    ]
    # END SOLUTION


# %%
lessons.check(bits)


# %%
def encode(norm, levels, s):
    """Return the bytes of a message."""
    # BEGIN SOLUTION
    data = bytearray(np.float32(norm).astype("<f4").tobytes())
    for u in numbers(levels, s):
        while u >= 128:
            data.append(128 + u % 128)
            u //= 128
        data.append(u)
    return bytes(data)
    # END SOLUTION


# %%
lessons.check(encode)

# %% [markdown]
# The table has what the messages of part 2 took on the wire, per message and coordinate, beside a float32 for every
# coordinate, and your count for one gradient.

# %%
if lessons.written(gradient, quantize, bits):
    adult = qsim.load("adult")
    v = gradient(np.zeros(adult.features), adult.to_scipy().toarray(), adult.labels)
    counts = {s: [bits(quantize(v, s, np.random.default_rng(seed))[1], s) for seed in range(20)] for s in LEVELS}
    print(f"{'':12} bits per message   per coordinate   times fewer   by your count, of the full gradient at w = 0")
    for name, found in traces["shuffled"].items():
        sent = np.mean([trace.axis("bits_up")[-1] for trace in found]) / (ROUNDS * SETTINGS["shuffled"][0])
        counted = "" if name == "uncompressed" else f"{np.mean(counts[int(name.removeprefix('s = '))]):14.1f}"
        print(f"{name:12} {sent:16.1f} {sent / v.size:16.2f} {32 * v.size / sent:13.1f} {counted}")

# %% [markdown]
# **Discuss.** Which $s$ would you take, and what would you want to know before? How much is saved if the server sends
# the weights back as float32, and these are counted, too?

# %% [markdown] tags=["exercise"]
# *Your answer:*

# %% tags=["solution"]
from dataclasses import replace


def end(found, axis):
    return np.mean([trace.axis(axis)[-1] for trace in found])


dense = end(traces["shuffled"]["uncompressed"], "bits")
for name, found in traces["shuffled"].items():
    up, down, both = (end(found, axis) for axis in ("bits_up", "bits_down", "bits"))
    print(
        f"{name:12} up {up:10,.0f}, down {down:10,.0f}: {dense / both:.2f} times fewer; loss {end(found, 'loss'):.5f}"
    )
both_ways = replace(run(Mine(1), "shuffled", 0), downlink=qsim.downlinks.SparseSum())
sparse = qsim.simulate(both_ways, engine=ENGINE)
up, down = sparse.axis("bits_up")[-1], sparse.axis("bits_down")[-1]
print(f"s = 1, the sum of the messages sent down: up {up:,}, down {down:,}: {dense / (up + down):.2f} times fewer")

# %% [markdown] tags=["solution"]
# **Discussion.** A level costs about a byte where gaps are short, and the norm 4 bytes, so the bits are nearly
# proportional to the non-zeros. On shuffled data the loss is the same for every $s$, and $s = 1$ is the cheapest; on
# sorted data a larger $s$ buys a lower loss. What decides is the loss that is reached *with a given number of bits*, in
# the setting at hand.
#
# Dense weights on the downlink cost as much as dense gradients on the uplink, so with them nothing saves more than
# half, however short the messages: the downlink has to be compressed as well. The sum of sparse messages is less sparse
# than they are, and sending it saves little more. What does, at the price of a memory on the server, is in the study
# `s_sweep` of qsim.

# %% [markdown]
# ## Where to go on
#
# Two more figures of the lecture: lazy regularisation, which lets a step on a sparse row take a time that does not
# depend on $d$, and timeouts, by which a server stops waiting for slow workers. When do timeouts do harm?

# %%
lessons.lazy_regularisation()

# %%
lessons.timeouts()
