"""Downloads, from a server on the loopback address: once, checked, recorded, and refused when they are not right."""

from __future__ import annotations

import bz2
import hashlib
import sys
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import qsim
from qsim.datasets import DataError, Fetched, LibSVM, download, downloadable, fetch, libsvm, load
from qsim.kernels._jit import cache_folder

pytest.importorskip("pooch", reason="needs pooch: pip install pooch")
TEXT = b"+1 1:0.5 3:2\n-1 2:1e-3\n"


class Server:
    """Files by name, and the paths that were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.short = 0
        """So many bytes are not sent of what is promised."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                content = outer.files.get(Path(self.path).name)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - outer.short])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/binary/"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, an empty cache, and the environment that leads to both."""
    cache_folder()  # kernels stay in the usual cache
    monkeypatch.setenv("QSIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    monkeypatch.setenv("QSIM_LIBSVM_URL", server.url)
    thread = Thread(target=partial(server.http.serve_forever, poll_interval=0.01))
    thread.start()
    libsvm.load_as.cache_clear()
    yield server
    libsvm.load_as.cache_clear()
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_first_use_is_trusted_and_recorded(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """real-sim has no published checksum."""
    server.files["real-sim.bz2"] = bz2.compress(TEXT)
    with pytest.raises(
        DataError, match=r"'real-sim' is not downloaded yet; say qsim.datasets.fetch\('real-sim'\) once"
    ):
        load("real-sim")
    data = fetch("real-sim")
    assert (data.rows, data.features, data.name) == (2, 20_958, "real-sim")
    assert data.source == Fetched("real-sim")
    assert eval(repr(data.source), {"qsim": qsim}).load() is data
    assert load("real-sim") is data
    libsvm.load_as.cache_clear()
    assert fetch("real-sim") == data
    assert server.asked == ["/binary/real-sim.bz2"], "downloaded once"
    recorded = data.source.path.with_name("real-sim.bz2.sha256")
    assert f"sha256:{recorded.read_text()}" == sha(server.files["real-sim.bz2"])
    assert capsys.readouterr().err == "", "no progress bar without a terminal"


def test_a_file_that_changes_is_downloaded_again_to_what_it_was(server: Server) -> None:
    server.files["real-sim.bz2"] = bz2.compress(TEXT)
    path = fetch("real-sim").source.path
    path.write_bytes(bz2.compress(TEXT * 2))
    with pytest.raises(DataError, match=r"real-sim.bz2 is not what was downloaded; say qsim.datasets.fetch"):
        load("real-sim")
    assert fetch("real-sim").rows == 2
    path.write_bytes(b"")
    server.files["real-sim.bz2"] = bz2.compress(TEXT * 3)
    with pytest.raises(DataError, match=r"real-sim.bz2 is not the file that it should be: .*SHA256.*checksum="):
        fetch("real-sim")
    assert fetch("real-sim", checksum=sha(server.files["real-sim.bz2"])).rows == 6
    assert load("real-sim").rows == 6


def test_published_checksums_are_insisted_on(server: Server) -> None:
    server.files["a9a"] = TEXT
    with pytest.raises(
        DataError, match=r"a9a is not the file that it should be: MD5 .*fb3596510d780aaf76a06dc721d49662"
    ):
        fetch("a9a")
    assert not Fetched("a9a").path.exists()
    with pytest.raises(DataError, match="not downloaded yet"):
        load("a9a")
    assert fetch("a9a", checksum=f"md5:{hashlib.md5(TEXT).hexdigest()}").features == 123


def test_splits(server: Server) -> None:
    server.files["kdda.t.bz2"] = TEXT
    data = fetch("kdda", split="test")
    assert data.name == "kdda-test"
    assert load("kdda", split="test") is data
    with pytest.raises(DataError, match=r"say qsim.datasets.fetch\('kdda'\) once"):
        load("kdda")
    with pytest.raises(DataError, match=r"fetch\(name='gisette', split='test'\)"):
        load("gisette", split="test")
    for split in ("tst", "test"):
        with pytest.raises(DataError, match=f"'real-sim' has no split '{split}'"):
            fetch("real-sim", split=split)


def test_another_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSIM_LIBSVM_URL", "http://127.0.0.1:9/")
    server.files["phishing"] = b"1 1:1\n0 2:1\n"
    assert fetch("phishing", base_url=server.url.rstrip("/")).rows == 2


def test_failures_leave_nothing_behind(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"news20.binary.bz2 cannot be downloaded: 404.*QSIM_LIBSVM_URL.*by its path"):
        fetch("news20.binary")
    server.files["news20.binary.bz2"] = bz2.compress(TEXT)
    server.short = 5
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch("news20.binary")
    monkeypatch.setenv("QSIM_LIBSVM_URL", "http://127.0.0.1:9/")
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch("news20.binary")
    assert [path.suffix for path in Fetched("news20.binary").path.parent.iterdir()] == [".lock"]
    monkeypatch.setenv("QSIM_LIBSVM_URL", server.url)
    server.short = 0
    assert fetch("news20.binary").rows == 2


def test_rows_longer_than_the_set_is_known_for_are_refused(server: Server) -> None:
    server.files["phishing"] = b"1 69:1\n"
    with pytest.raises(DataError, match="the index 69 is above 68"):
        fetch("phishing")


def test_requests_that_make_no_sense(server: Server) -> None:
    with pytest.raises(DataError, match="no data set 'rcv1' to download; did you mean 'rcv1.binary'"):
        fetch("rcv1")
    for checksum in ("abc", "sha256:12", "crc32:1234"):
        with pytest.raises(ValueError, match="checksum must be"):
            fetch("phishing", checksum=checksum)
    assert not server.asked


def test_pooch_is_needed_for_downloads_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["phishing"] = b"1 1:1\n0 1:1\n"
    data = fetch("phishing")
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert fetch("phishing") is data
    with pytest.raises(ImportError, match="downloads need pooch"):
        fetch("real-sim")


def test_the_registry_is_sound() -> None:
    remotes = [remote for entry in download.REGISTRY.values() for remote in (entry.train, entry.test) if remote]
    assert len({remote.file for remote in remotes}) == len(remotes)
    checksums = [remote.checksum for remote in remotes if remote.checksum]
    assert len(set(checksums)) == len(checksums)
    assert all(download.CHECKSUM.fullmatch(checksum) for checksum in checksums)
    assert not set(downloadable()) & set(qsim.datasets.names())
    for name in downloadable():
        LibSVM("file", features=download.REGISTRY[name].features)


def test_the_progress_of_a_download_is_shown_on_a_terminal(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    server.files["real-sim.bz2"] = bz2.compress(TEXT)
    monkeypatch.setattr(sys, "stderr", Terminal())
    fetch("real-sim")
    assert "real-sim.bz2:" in sys.stderr.getvalue()
    assert "B/s" in sys.stderr.getvalue()
