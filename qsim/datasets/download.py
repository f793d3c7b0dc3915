"""LIBSVM's public data sets of two classes: downloaded once, and checked at every use."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

from qsim.datasets.dataset import Dataset, Source
from qsim.datasets.errors import DataError
from qsim.datasets.files import File
from qsim.datasets.libsvm import LibSVM, load_as
from qsim.options import nearest, option
from qsim.storage import locked, replacing, user_cache

CHECKSUM = re.compile("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")
_URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/"


@dataclass(frozen=True)
class Remote:
    """A file of LIBSVM's page, and the checksum that others published of it, if any did: `md5:...`, `sha256:...`."""

    file: str
    checksum: str | None = None


@dataclass(frozen=True)
class Entry:
    """A data set: how many features its rows have, though a split may lack the last, and the files of its splits."""

    features: int
    train: Remote
    test: Remote | None = None


REGISTRY = {
    "a9a": Entry(
        123,
        Remote("a9a", "md5:fb3596510d780aaf76a06dc721d49662"),
        Remote("a9a.t", "md5:f0bb16cf1ee3e80ff560e9d132ee647e"),
    ),
    "cod-rna": Entry(
        8,
        Remote("cod-rna", "md5:cd14eab76f391e288e6e8e592ae658dd"),
        Remote("cod-rna.t", "md5:b876c22c86a33ef262342b12d2718655"),
    ),
    "covtype.binary": Entry(54, Remote("covtype.libsvm.binary.bz2", "md5:0d3439b314ce13e2f8b903b12bb3ea20")),
    "covtype.binary.scale": Entry(
        54, Remote("covtype.libsvm.binary.scale.bz2", "md5:d95f45e15c284005c2c7a4c82e4be102")
    ),
    "epsilon": Entry(
        2000,
        Remote("epsilon_normalized.bz2", "sha256:aff916d4f97f18d286558ca088d2a9f7e1fcee9376539a5aa6ef5b7ef9dfa978"),
        Remote("epsilon_normalized.t.bz2", "sha256:cb299295ad11e200696eaa3050f5d8cf700eaa9c65e6aa859bda959f8669458b"),
    ),
    "gisette": Entry(
        5000, Remote("gisette_scale.bz2", "md5:8a8caa1628c98dafec8d5d7bfa67c20b"), Remote("gisette_scale.t.bz2")
    ),
    "ijcnn1": Entry(
        22,
        Remote("ijcnn1.bz2", "md5:c3e9162f8e38e0b6c0e02d313a59de2b"),
        Remote("ijcnn1.t.bz2", "md5:66433ab8089acee9e56dc61ac89a2fe2"),
    ),
    "kdda": Entry(20_216_830, Remote("kdda.bz2"), Remote("kdda.t.bz2")),
    "kddb": Entry(29_890_095, Remote("kddb.bz2", "md5:bc5b630fef6989c2f201039fef497e14"), Remote("kddb.t.bz2")),
    "mushrooms": Entry(112, Remote("mushrooms", "md5:2a52251de564d72e772b25211a84f5f8")),
    "news20.binary": Entry(1_355_191, Remote("news20.binary.bz2")),
    "phishing": Entry(68, Remote("phishing")),
    "rcv1.binary": Entry(
        47_236,
        Remote("rcv1_train.binary.bz2", "md5:1aeda848408e621468c0fe6944d9382f"),
        Remote("rcv1_test.binary.bz2", "md5:d6e3ab397758fb5c036d9cced52aedae"),
    ),
    "real-sim": Entry(20_958, Remote("real-sim.bz2")),
    "url": Entry(3_231_961, Remote("url_combined.bz2", "md5:83673b8f4224c81968af2fb6022ee487")),
    "w8a": Entry(
        300,
        Remote("w8a", "md5:05cdbfad8de0af3887c0e6f42fddc32b"),
        Remote("w8a.t", "md5:938543adbdc198246247d5d2015f01e8"),
    ),
    "webspam": Entry(254, Remote("webspam_wc_normalized_unigram.svm.xz")),
}
"""Checksums are those in the code of epfml/pax (covtype, ijcnn1's test split, rcv1), openopt/copt (kddb, url),
scikit-learn_bench (epsilon), and the large-scale SVM experiments, largescalesvm.de (the rest)."""


@final
@option
class Fetched(Source):
    """A data set that `fetch` has downloaded.

    Parameters
    ----------
    name : str
        One of `downloadable()`.
    split : {"train", "test"}, default "train"
        Which part, if the data set has several.

    Raises
    ------
    DataError
        For an unknown name or split, and when loaded: if it is not downloaded, or not what it was then.

    Examples
    --------
    >>> Fetched("rcv1.binary", split="test")
    qsim.datasets.Fetched(name='rcv1.binary', split='test')
    """

    name: str
    split: str = "train"

    def __post_init__(self) -> None:
        if self.name not in REGISTRY:
            raise DataError(
                f"there is no data set {self.name!r} to download{nearest(self.name, REGISTRY)}"
                f" (there are {', '.join(downloadable())})"
            )
        splits = ("train",) if REGISTRY[self.name].test is None else ("train", "test")
        if self.split not in splits:
            raise DataError(f"{self.name!r} has no split {self.split!r}{nearest(self.split, splits)}")

    @property
    def remote(self) -> Remote:
        """The file that it comes from."""
        found = REGISTRY[self.name].test if self.split == "test" else REGISTRY[self.name].train
        assert found is not None
        return found

    @property
    def path(self) -> Path:
        """Where the file is kept; its SHA-256 lies beside it."""
        return user_cache() / "libsvm" / self.remote.file

    @property
    def recorded(self) -> str | None:
        """The SHA-256 that the file had when it was downloaded, if it was."""
        try:
            return _record(self.path).read_text(encoding="ascii").strip()
        except OSError:
            return None

    def load(self) -> Dataset:
        call = (
            f"qsim.datasets.fetch({self.name!r})" if self.split == "train" else f"{self!r}".replace("Fetched", "fetch")
        )
        if self.recorded is None or not self.path.is_file():
            raise DataError(f"{self.name!r} is not downloaded yet; say {call} once")
        file = File.at(str(self.path))
        if file.digest != self.recorded:
            raise DataError(f"{self.path} is not what was downloaded; say {call} to download it again")
        name = self.name if self.split == "train" else f"{self.name}-{self.split}"
        return load_as(self, LibSVM(self.path, REGISTRY[self.name].features), file, name)


def downloadable() -> list[str]:
    """Return the names of the data sets that `fetch` can download.

    Returns
    -------
    list of str
        The names.

    Examples
    --------
    >>> "rcv1.binary" in downloadable()
    True
    """
    return list(REGISTRY)


def fetch(name: str, split: str = "train", *, base_url: str | None = None, checksum: str | None = None) -> Dataset:
    """Download a data set of LIBSVM's page, unless it is there already, and return it.

    Parameters
    ----------
    name : str
        One of `downloadable()`.
    split : {"train", "test"}, default "train"
        Which part, if the data set has several.
    base_url : str, optional
        The folder to download from, instead of the environment variable QSIM_LIBSVM_URL and of LIBSVM's.
    checksum : str, optional
        What the file must have, as "sha256:..." or "md5:...". By default what it had when it was first downloaded here;
        at the first time, what others published, or, if nobody did, whatever it has is trusted and recorded.

    Returns
    -------
    Dataset
        The data set.

    Raises
    ------
    DataError
        For an unknown name or split, if the download fails, and if the checksum differs.
    ImportError
        Without the package pooch (the extra `data`).

    Notes
    -----
    The file stays in the folder `libsvm` of the user's cache.

    Examples
    --------
    >>> import qsim
    >>> data = qsim.datasets.fetch("rcv1.binary")  # doctest: +SKIP
    """
    if checksum is not None and not CHECKSUM.fullmatch(checksum):
        raise ValueError(f"checksum must be 'md5:' or 'sha256:' and hexadecimal digits, found {checksum!r}")
    source = Fetched(name, split)
    source.path.parent.mkdir(parents=True, exist_ok=True)
    with locked(source.path.with_name(f"{source.path.name}.lock")):
        recorded = source.recorded
        there = source.path.is_file() and recorded == File.at(str(source.path)).digest
        if not there or checksum is not None:
            known = checksum or (f"sha256:{recorded}" if recorded else source.remote.checksum)
            base = base_url or os.environ.get("QSIM_LIBSVM_URL") or _URL
            _download(f"{base.rstrip('/')}/{source.remote.file}", source.path, known)
            with replacing(_record(source.path)) as temporary:
                temporary.write_text(File.at(str(source.path)).digest, encoding="ascii")
    return source.load()


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _download(url: str, path: Path, known: str | None) -> None:
    """Download a file with a progress bar, if there is a terminal; nothing changes if that fails."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError("downloads need pooch, which is not installed: python -m pip install pooch") from error
    from tqdm import tqdm

    logger = pooch.get_logger()
    level = logger.level
    with tqdm(total=1, desc=path.name, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        try:
            logger.setLevel("ERROR")  # the bar says it
            pooch.retrieve(url, known, path.name, path.parent, downloader=pooch.HTTPDownloader(progressbar=bar))
        except OSError as error:  # among them all of requests
            raise DataError(
                f"{url} cannot be downloaded: {error}. Try again; or set QSIM_LIBSVM_URL to the address of a mirror; or"
                " get the file by other means, and load it by its path"
            ) from error
        except ValueError as error:
            raise DataError(
                f"{url} is not the file that it should be: {error} If it is the right one, say fetch(..., checksum=...)"
            ) from error
        finally:
            logger.setLevel(level)
