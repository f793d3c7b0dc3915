"""All options of the package, and arguments that each can be made with."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import qsim
from qsim.options import code

PLAIN: dict[str, Any] = {  # a value for each field that has no default, by its name
    "levels": 4, "k": 3, "p": 0.5, "l2": 0.5, "threshold": 0.5, "bits": 2, "size": 64, "word": 7, "alpha": 0.5,
    "format": "float16", "smoothness": (1.0, 2.0), "mu": 0.5, "rows": 100, "features": 20, "nonzeros_per_row": 4.0,
    "beta": 0.5, "step": 0.5, "noise": 0.5, "scale": 0.5, "least": 0.5, "shape": 2.0, "median": 0.5, "sigma": 0.5,
    "values": (1.0, 2.0), "share": 0.5, "factor": 2.0, "count": 2, "seconds": 0.5, "classes": 3, "weight": 0.5,
    "bound": 0.5, "l1": 0.5, "budget": 0.5, "target": 0.5, "batch": 4, "steps": 2, "data": "spark_sample", "workers": 4,
    "momentum": 0.5, "rounds": 5, "seeds": 2, "path": "a.svm", "name": "spark_sample", "codec": qsim.codecs.Dense(),
    "compressor": qsim.Identity(),
    "multiple": 2.0, "first": qsim.compressors.RandK(3), "second": qsim.QSGD(2), "method": qsim.GradientDescent(),
    "objective": qsim.LogisticRegression(0.5), "strength": 0.5, "among": 5, "others": 2, "tables": 2,
    "cells": 8, "rank": 2, "columns": 4,
    "layers": ((3, qsim.TopK(1)), (None, qsim.Identity())), "codecs": (qsim.codecs.Varint(), qsim.codecs.Dense()),
}  # fmt: skip
OTHER: dict[str, Any] = {"shift": 0.5, "momentum": 0.5, "features": 20, "positive": 1.0, "batch": 4, "block": 2}
OTHER |= {
    "forget": 0.5,
    "strength": 0.5,
    "local_step": 0.5,
    "floor": 0.5,
    "share": 0.5,
    "mixing": 0.5,
    "learning": 0.5,
    "parts": 2,
    "steps": 2,
    "scale": 0.5,
    "processes": 2,
    "groups": 2,
    "hashed": 2,
    "classes": (1.0, 2.0),
    "heterogeneity": 2.0,
    "norm": 2.0,
    "p": 0.5,
    "timelines": (1, 2),
}
"""A number for each field whose default is none."""


def options() -> list[type]:
    """All options that a public module of the package has, found by looking at them all."""
    modules = [import_module(f"qsim.{found.name}") for found in iter_modules(qsim.__path__) if found.name[0] != "_"]
    classes = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    classes |= {getattr(qsim, name) for name in qsim.__all__ if isinstance(getattr(qsim, name), type)}
    found = [cls for cls in classes if cls.__repr__ is code and cls.__name__[0] != "_"]
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


def arguments(cls: type) -> dict[str, Any]:
    """Arguments that a class can be made with."""
    given = {f.name: PLAIN[f.name] for f in fields(cls) if f.init and str(f.default) == str(f.default_factory)}
    if cls is qsim.Run:
        given["data"] = qsim.datasets.load("spark_sample")
    if cls is qsim.compressors.Bucketed:
        given["compressor"] = qsim.QSGD(4)
    if cls is qsim.datasets.Table:
        given |= {"path": "a.csv", "classes": 3}
    if cls is qsim.datasets.TextColumns:
        given["numbers"] = ["age"]
    if cls is qsim.steps.Noisy:
        given["smoothness"] = 0.5
    return given


def made(cls: type, name: str, value: Any) -> Any:
    return cls(**(arguments(cls) | {name: value}))
