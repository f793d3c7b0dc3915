"""Curves of a user's own compressors, added to a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qsim.compressors import Compressor
from qsim.study.cells import Cell, Settings
from qsim.study.study import Study
from qsim.study.tuning import Tuned


class NoTemplateError(ValueError):
    """A study that has no place for a compressor, or not under this name."""


def with_compressors(study: Study, cells: Sequence[Cell], compressors: Mapping[str, Compressor]) -> list[Cell]:
    """Return cells, and behind them those of further compressors: copies of the study's template.

    compressors: by the name that its curve shall have. The runs differ from the template's in the compressor and its
    codec (the usual one) alone, so that they see the same data, batches and start. Curves that begin with the
    template's name and a comma or semicolon are copied too, to curves that begin with the new name.

    Raises NoTemplateError for a study without a template, a name that is taken, and a compressor that does not fit the
    template's run.
    """
    if compressors and study.template is None:
        raise NoTemplateError(f"{study.title!r} does not train with one compressor a curve, so none can be added to it")
    added = []
    for name, compressor in compressors.items():
        for cell in cells:
            if _is_of(study.template or "", cell.curve):
                rest = cell.curve.removeprefix(study.template or "")
                try:
                    run = replace(cell.run, compressor=compressor, codec=None)
                except ValueError as error:
                    raise NoTemplateError(f"{name} fits no run of {study.title!r}: {error}") from error
                added.append(replace(cell, curve=name + rest, run=run))
    taken = {cell.curve for cell in cells} & {cell.curve for cell in added}
    if taken:
        raise NoTemplateError(f"the study has a curve {min(taken)!r} already")
    return [*cells, *added]


def shown_cells(
    study: Study, settings: Settings, compressors: Mapping[str, Compressor], tuned: Tuned | None
) -> list[Cell]:
    """Return the cells that are shown, those of further compressors behind; each with what was chosen for itself."""
    cells = list(study.shown(settings, tuned))
    if tuned is None or not compressors:
        return with_compressors(study, cells, compressors)
    added = []
    for name, compressor in compressors.items():
        chosen = {curve: choice for curve, choice in tuned.choices.items() if _is_of(name, curve)}
        mine = {(study.template or "") + curve.removeprefix(name): choice for curve, choice in chosen.items()}
        own = replace(tuned, choices={**tuned.choices, **mine})
        found = study.shown(settings, own)
        added += with_compressors(study, found, {name: compressor})[len(found) :]
    return [*cells, *added]


def _is_of(name: str, curve: str) -> bool:
    """Tell whether a curve is that of a name, or begins with it and a comma or semicolon."""
    return curve.startswith(name) and curve.removeprefix(name)[:1] in ("", ",", ";")
