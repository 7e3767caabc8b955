"""A bucket on this machine: moto, behind a server that counts requests and makes faults."""

from __future__ import annotations

import logging
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from ocr_precompute.storage.objects import Objects

URL = "s3://bucket/some/store"
SECRET = "word-that-nobody-sees"

Fault = Callable[[int], str]
"""What to do with the request of that number: "", "503", "cut", "short" or "stop"."""


class Bucket:
    """An S3 service with one bucket.

    latency: seconds before each answer. fault: what goes wrong with a GET of an object. cut: the
    connection ends in the middle of the body; short: half of the body comes as if it were all;
    stop: nothing comes for as long as the server runs.
    """

    def __init__(self) -> None:
        self.latency = 0.0
        self.fault: Fault = lambda number: ""
        self.gets: list[str] = []
        self.ended, self.held = threading.Event(), threading.Semaphore(0)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return self._app(environ, start)
        with self._lock:
            self.gets.append(environ["PATH_INFO"])
            number = len(self.gets)
        time.sleep(self.latency)
        fault = self.fault(number)
        if fault == "503":
            start("503 Slow Down", [("Content-Length", "0")])
            return []
        if fault == "stop":
            self.held.release()
            self.ended.wait(60)
        if fault not in ("cut", "short"):
            return self._app(environ, start)
        head: list[Any] = []
        body = b"".join(self._app(environ, lambda *given: head.extend(given)))
        half = body[: len(body) // 2]
        headers = dict(head[1])
        if fault == "short":
            headers["Content-Length"] = str(len(half))
        start(head[0], list(headers.items()))
        return [half]

    @property
    def shards(self) -> Counter[str]:
        """How often each shard was asked for."""
        names = (path.rpartition("/")[2] for path in self.gets if "/shards/" in path)
        return Counter(name.removesuffix(".zip") for name in names)

    def fill(self, store: Path, options: dict[str, str]) -> None:
        """Put a store of a folder into the bucket."""
        there = Objects(URL, 10, options)
        for path in store.rglob("*"):
            if path.is_file() and path.relative_to(store).parts[0] in KINDS:
                there.put(str(path.relative_to(store)), path.read_bytes())
        self.gets.clear()


KINDS = ("zarr.json", "shards", "parts", "splits")


@contextmanager
def serving(bucket: Bucket) -> Iterator[dict[str, str]]:
    """Serve it; gives the options that lead there."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, bucket, threaded=True)
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
    try:
        yield {"endpoint": address, "region": "us-east-1"}
    finally:
        bucket.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
