"""The process in which a student's functions are called: `python -m qsim.lessons.child JOB PIPE`.

JOB is a pickle of the marker's: the file, the limits, and what each function is asked. Answers go to PIPE, a file
descriptor, a line each. What this process says of itself proves nothing: it runs the student's code.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from qsim.lessons.answers import Answers, Calls, Failure, ask, encode, explained
from qsim.lessons.submission import Submission, UnusableError

READY = b"ready\n"
"""The line that comes first: everything is imported, and nothing of the student's has been run."""
_FILES = 1 << 24


@dataclass(frozen=True)
class Job:
    """A file, the functions and what they are asked, and the bytes and seconds of the processor that it may take."""

    path: Path
    calls: dict[str, list[Calls]]
    memory: int
    seconds: int


def main(job_path: str, pipe: int) -> None:
    """Answer for all functions of a job."""
    job: Job = pickle.loads(Path(job_path).read_bytes())
    if job.path.suffix == ".ipynb":
        import nbformat  # noqa: F401
    os.write(pipe, READY)
    limits = ((resource.RLIMIT_AS, job.memory), (resource.RLIMIT_CPU, job.seconds), (resource.RLIMIT_FSIZE, _FILES))
    for what, most in (*limits, (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0)):
        resource.setrlimit(what, (most, most))
    try:
        submission: Submission | Failure = Submission(job.path)
    except BaseException as error:
        submission = Failure(f"cannot be had: the file cannot be read, {explained(error).removeprefix('raises ')}")
    for name, calls in job.calls.items():
        _write(pipe, encode(_answers(submission, name, calls)))


def _answers(submission: Submission | Failure, name: str, calls: list[Calls]) -> Answers | Failure:
    if isinstance(submission, Failure):
        return submission
    try:
        return ask(submission.function(name), calls)
    except UnusableError as error:
        return Failure(str(error))


def _write(pipe: int, line: bytes) -> None:
    while line:
        line = line[os.write(pipe, line) :]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
