"""A store behind a URL: one true line for whatever is in the way, and no waiting without an end."""

from __future__ import annotations

import http.server
import logging
import pickle
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset

from ocr_precompute.errors import StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings
from ocr_precompute.storage.faults import RemoteError
from ocr_precompute.storage.store import shard_name


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and parts of them, or answers everything with one status."""

    status = 0

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if self.status:
            self.send_error(self.status)
        elif asked is None:
            super().do_GET()
        else:
            self.send_part(asked[1], asked[2])

    def send_part(self, first: str, last: str) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        start = int(first) if first else max(0, len(data) - int(last))
        part = data[start : int(last) + 1 if first and last else len(data)]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Last-Modified", self.date_time_string())
        self.end_headers()
        self.wfile.write(part)

    def do_HEAD(self) -> None:
        self.send_error(self.status) if self.status else super().do_HEAD()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where tmp_path is served. Handler.status makes it refuse."""
    monkeypatch.setattr(Handler, "status", 0)
    served = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))
    )
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}/store"
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes every connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/store"


def refused(url: str, timeout: float = 60.0) -> str:
    with pytest.raises(StoreError) as caught:
        open_store(url, timeout=timeout)
    message = str(caught.value)
    assert message.startswith(f"{url}: ")
    assert "\n" not in message
    return message.removeprefix(f"{url}: ")


def test_a_store_is_read_over_http(
    url: str, dataset: Dataset, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ocr_precompute.storage.objects")
    build("val", dataset.source, settings)
    local, far = open_store(settings.store).split("val"), open_store(url).split("val")
    assert far.names == local.names
    out = {field: np.zeros((2, *far.shape(field)), MAPS[field][0]) for field in MAPS}
    assert far.read([0, 9], tuple(MAPS), out)["image"] is out["image"]
    asked = [line for line in caplog.messages if line.endswith(": asked")]
    first, other = (far.storage.at(shard_name(far.locate(index)[0].key)) for index in (0, 9))
    for shard in (first, other):
        assert asked.count(f"{shard}: asked") in (1, 2)  # its end, and what begins before it
    for field, array in local.read([0, 9], tuple(MAPS)).items():
        assert np.array_equal(out[field], array)
    assert pickle.loads(pickle.dumps(far)).names == far.names
    with pytest.raises(StoreError, match="plain HTTP does not say what is there; name the split"):
        _ = open_store(url).splits


def test_nothing_is_there(url: str) -> None:
    assert refused(url) == "there is no store here; `ocr-precompute build` makes one"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "access is denied; give credentials that may do this"),
        (403, "access is denied; give credentials that may do this"),
        (503, "the server fails with status 503; try again later"),
    ],
)
def test_what_the_server_answers(
    url: str, status: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "status", status)
    assert message in refused(url)


def test_a_host_that_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "cannot be reached; see to the network and the URL" in refused(
        f"http://127.0.0.1:{port}/s"
    )


def test_a_server_that_does_not_speak_so(url: str) -> None:
    assert "cannot be reached" in refused(url.replace("http:", "https:"))


def test_a_server_that_never_answers(silent: str) -> None:
    message = "gave no answer within 0.5 s; see to the network, or set a longer timeout"
    assert refused(silent, timeout=0.5) == message


def test_a_server_that_goes_away(
    url: str, dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is called damaged, or not there, that only cannot be seen."""
    build("val", dataset.source, settings)
    store = open_store(url)
    split = store.split("val")
    monkeypatch.setattr(Handler, "status", 503)
    out = {"image": np.zeros((1, *split.shape("image")), np.uint8)}
    for ask in (
        lambda: split.names,
        lambda: split[0],
        lambda: split.read([0], ["image"], out),
        lambda: store.split("val"),
    ):
        with pytest.raises(RemoteError, match="the server fails with status 503"):
            ask()
    assert not out["image"].any()
    monkeypatch.setattr(Handler, "status", 0)
    assert split[0].name == split.names[0]
