"""The check of a compressor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qsim.compressors import Compressor
from qsim.keys import Key
from qsim.options import whole
from qsim.testing import bias, certificates, messages, spread, three_points, together
from qsim.testing.compressor_under_test import CompressorUnderTest
from qsim.testing.parts import carried_out, prints_as_code
from qsim.testing.report import Finding, Report

CHECKS: dict[str, Callable[[CompressorUnderTest], Finding]] = {
    "vectors of any length": messages.lengths,
    "a pure function of vector and key": messages.pure,
    "independent for workers and rounds": messages.independent,
    "the same in any batch": messages.any_batch,
    "the same for dense and sparse input": messages.dense_and_sparse,
    "zeros stay zero": messages.zeros_stay,
    "zero, single, huge and subnormal vectors": messages.edges,
    "it compresses": certificates.compresses,
    "unbiased": bias.unbiased,
    "variance": certificates.variance,
    "contraction": certificates.contraction,
    "bias and variance": spread.bias_and_variance,
    "exact variance": certificates.exact_variance,
    "expected non-zeros": certificates.expected_nonzeros,
    "error of workers together": together.together,
    "error of three points": three_points.three_points,
    "codecs give the message back": messages.through_codecs,
    "messages can be summed": messages.summed,
    "error feedback adds up": messages.learns_delivery,
    "pickling": messages.pickles,
    "prints as the code that makes it": lambda subject: prints_as_code(subject.compressor),
}
"""The promises of a compressor, and how each is checked."""


def check_compressor(compressor: Compressor, seed: int = 0, effort: int = 1) -> Report:
    """Check that a compressor keeps the promises that all compressors make, and those that it makes itself.

    Parameters
    ----------
    compressor : Compressor
        The compressor.
    seed : int, default 0
        The seed of all randomness; one seed gives one report.
    effort : int, default 1
        The factor of the number of keys, at least 1: it multiplies the cost, and divides the bias that is found by its
        square root.

    Returns
    -------
    Report
        What was found. A promise is kept, broken, or not made (no variance is stated, say). Kept promises are reported
        with what was measured, and with what would have been seen.

    Raises
    ------
    TypeError
        If it is not a compressor.
    ValueError
        If `effort` is below 1.

    Notes
    -----
    Means over many keys are tested by bets that chance wins with probability below 1e-13 each, so that a compressor
    that keeps all promises is reported so but with probability below 1e-9 (over seeds). Errors are summed over many
    coordinates, at lengths up to 100,000; the bound on the error is tested on known hard vectors, and on those that a
    local search makes of them. The report says which bias and which excess would have been found with probability
    99.9%.

    Rows that are compressed one by one, in NumPy, take 10 to 20 seconds of processor time, whole batches a few.

    Examples
    --------
    >>> import qsim
    >>> report = qsim.testing.check_compressor(qsim.Identity())
    >>> report.good
    True
    >>> print(report.frame.query("claimed == 0 and kept == True").promise.tolist())
    ['unbiased', 'variance', 'contraction', 'exact variance', 'messages can be summed', 'error feedback adds up']
    """
    return Report(repr(compressor), dict(findings(compressor, seed, effort)))


def findings(compressor: Compressor, seed: int = 0, effort: int = 1) -> Iterator[tuple[str, Finding]]:
    """Check one promise after the other; see `check_compressor`."""
    if not isinstance(compressor, Compressor):
        raise TypeError(f"only a Compressor can be checked, such as qsim.QSGD(levels=4); found {compressor!r}")
    effort = whole("effort", effort, least=1)
    return carried_out(CHECKS, CompressorUnderTest(compressor, Key(seed), effort))
