"""What the options of a command ask for: settings, cells, compressors, and how they run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from qsim.compressors import Compressor
from qsim.engines import Engine
from qsim.network import Network
from qsim.object_loader import evaluate, split
from qsim.study import catalog
from qsim.study.catalog import RequestError
from qsim.study.cells import Cell, Settings
from qsim.study.extra_curves import with_compressors
from qsim.study.study import SETTINGS, Study

_T = TypeVar("_T")


def first_cells(study: Study, options: Namespace) -> list[Cell]:
    """Return the cells that are run first: those to choose by, or those that are shown."""
    chosen = settings(study, options)
    first = _first(study, chosen)
    return with_compressors(study, first, compressors(options, {study.title: study}))


def given(options: Namespace) -> dict[str, Any]:
    """Return the settings that the options change, by name."""
    return {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}


def settings(study: Study, options: Namespace) -> Settings:
    """Return the settings of a study as the options change them. Raises RequestError for those that make no sense."""
    changed = given(options)
    try:
        study.require(changed)
    except ValueError as error:
        raise RequestError(f"--{error}") from None
    network = None if options.network is None else _evaluated("--network", options.network, Network, "qsim:Network()")
    try:
        found = replace(study.defaults, **changed)
        if network is None:
            return found
        found = replace(found, network=network)
        _first(study, found)
    except ValueError as error:
        raise RequestError(f"--network {options.network}: {error}" if network else str(error)) from None
    return found


def _first(study: Study, settings: Settings) -> Sequence[Cell]:
    """Return the cells of a study that are run first, without those of further compressors."""
    return study.shown(settings) if study.tuning is None else study.tuning.candidates(settings)


def _evaluated(option: str, text: str, kind: type[_T], example: str) -> _T:
    """Return what an option's text stands for. Raises RequestError if it is not of a kind."""
    found = evaluate(text)
    if isinstance(found, type):
        raise RequestError(f"{option} {text} is a class: make one of it, such as {text}()")
    if not isinstance(found, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise RequestError(
            f"{option} {text} is not {article} {kind.__name__.lower()}, such as {example}; found {found!r}"
        )
    return found


def compressors(options: Namespace, studies: Mapping[str, Study]) -> dict[str, Compressor]:
    """Return the compressors of --compressor by the names of their curves. Raises RequestError for one that is none."""
    found: dict[str, Compressor] = {}
    for text in options.compressor:
        compressor: Compressor = _evaluated("--compressor", text, Compressor, "qsim:QSGD(levels=3)")
        short = split(text)[1].strip()
        found[text if short in found else short] = compressor
    for name, study in studies.items():
        if found and study.template is None:
            shipped = [name for name in catalog.names() if catalog.find(name)[1].template is not None]
            raise RequestError(
                f"--compressor is not for {name}, which has no curve that another compressor could be put into (of the"
                f" shipped studies these have: {', '.join(shipped)})"
            )
    return found


def running(options: Namespace, name: str, study: Study) -> dict[str, Any]:
    """Return the options of running a study."""
    if options.jobs is not None and options.jobs < 1:
        raise RequestError(f"--jobs must be a whole number of at least 1, found {options.jobs}")
    engine = None
    if options.engine is not None:
        kind: Any = Engine  # abstract
        engine = _evaluated("--engine", options.engine, kind, "qsim.engines:Processes(2)")
        if study.timed:
            raise RequestError(f"--engine is not for {name}, which measures time on the engines that it names")
        if not first_cells(study, options):
            raise RequestError(f"--engine is not for {name}, which trains nothing")
    return {"jobs": options.jobs, "cache": not options.no_cache, "engine": engine}


def words(options: Namespace) -> list[str]:
    """Return the options of a command that its settings and further compressors were read from."""
    found = []
    for name, value in given(options).items():
        found += [f"--{name}", str(value)]
    for text in options.compressor:
        found += ["--compressor", text]
    if options.network is not None:
        found += ["--network", options.network]
    return found
