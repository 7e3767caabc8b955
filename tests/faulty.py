"""An S3 service that fails as services do: moto, behind what counts and spoils requests."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

SIGNED = "AWS4-HMAC-SHA256 Credential=name/20240101/us-east-1/s3/aws4_request, Signature=0"
What = Literal["slow", "refused", "cut", "lost", "held", "swallowed"]


@dataclass
class Fault:
    """What becomes of requests.

    what: `slow` answers late, `refused` answers with a status, `cut` gives half of a body and hangs
    up, `lost` does what was asked and hangs up without an answer, `held` waits for `released`
    before anything is done, `swallowed` too, and then does nothing and hangs up. method, part: of
    the requests that it is about, part of their path and query. share: of these, which are met.
    times: at most so many. seconds: how late. met: how many there were so far.
    """

    what: What
    method: str = ""
    part: str = ""
    share: float = 1.0
    times: int = 2**30
    seconds: float = 0.0
    status: str = "503 Slow Down"
    body: bytes = b""
    met: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class FaultyService:
    """S3 on loopback, with a bucket named `bucket`; `with` starts and stops it.

    requests: (method, path, status) of all that came, in order. careless: leaves the conditions of
    writes out of account, as some services do.
    """

    def __init__(self, seed: int = 0) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self.sent = self.received = 0
        self.careless = self._stopped = False
        self._faults: list[Fault] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> FaultyService:
        self._thread.start()
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nobody any more, nor on connections that are open."""
        self._stopped = True
        self.clear()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def reset(self) -> None:
        """An empty bucket, and nothing that fails."""
        self.clear()
        self.careless = False
        for method, path in (("POST", "moto-api/reset"), ("PUT", "bucket")):
            request = urllib.request.Request(f"{self.address}/{path}", method=method)
            urllib.request.urlopen(request).close()
        self.requests.clear()
        self.sent = self.received = 0

    def clear(self) -> None:
        """Nothing fails from here on."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.released.set()

    def fail(self, what: What, method: str = "", part: str = "", **more: Any) -> Fault:
        """Have requests fail from here on."""
        fault = Fault(what, method, part, **more)
        with self._lock:
            self._faults.append(fault)
        return fault

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """What comes within, by method and folder: `PUT shards`, `LIST splits`."""
        before, found = len(self.requests), Counter[str]()
        yield found
        for method, path, _ in self.requests[before:]:
            found[f"{method} {folder_of(path)}"] += 1

    def until(self, count: int) -> None:
        """Wait until so many requests have been answered."""
        end = time.monotonic() + 60
        while len(self.requests) < count:
            assert time.monotonic() < end
            time.sleep(0.01)

    def statuses(self, method: str, part: str) -> list[int]:
        """The answers that such requests got, in order."""
        return [status for m, path, status in self.requests if m == method and part in path]

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                fits = method == (fault.method or method) and fault.part in path
                if fits and fault.met < fault.times and self._random.random() < fault.share:
                    fault.met += 1
                    return fault
        return None

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if "list-type" in environ["QUERY_STRING"]:
            prefix = environ["QUERY_STRING"].partition("prefix=")[2].partition("&")[0]
            method, path = "LIST", path.rstrip("/") + "/" + prefix.replace("%2F", "/") + "/"
        fault = self._fault(method, f"{path}?{environ['QUERY_STRING']}")
        what = fault.what if fault else None
        if fault and what in ("held", "swallowed"):
            fault.arrived.set()
            fault.released.wait(60)
        if fault and what == "slow":
            time.sleep(fault.seconds)
        if self._stopped or what == "swallowed":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if self.careless:
            environ.pop("HTTP_IF_NONE_MATCH", None)
            environ.pop("HTTP_IF_MATCH", None)
        if fault and what == "refused":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, body = fault.status, fault.body
            headers = [("Content-Length", str(len(body)))]
        else:
            status, headers, body = self._answer(environ)
        with self._lock:
            self.requests.append((method, path, int(status[:3])))
            self.received += int(environ.get("CONTENT_LENGTH") or 0)
            self.sent += 0 if method == "HEAD" else len(body)
        write = start(status, headers)
        if what in ("cut", "lost"):
            if what == "cut":
                write(body[: len(body) // 2])
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        head: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[..., Any]:
            head[:] = [status, headers]
            return lambda data: None

        body = b"".join(self._app(environ, start))
        return head[0], head[1], body


class GoogleService(FaultyService):
    """The same with the conditions of Google's service: a generation in place of an ETag."""

    def __init__(self) -> None:
        super().__init__()
        self._generations = Counter[str]()

    def _answer(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        path, asked = environ["PATH_INFO"], environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None)
        environ["HTTP_AUTHORIZATION"] = SIGNED  # it comes in another form
        for name in [name for name in environ if name.startswith("HTTP_X_GOOG_META_")]:
            environ[name.replace("GOOG", "AMZ")] = environ.pop(name)
        with self._lock:
            if asked == "0":
                environ["HTTP_IF_NONE_MATCH"] = "*"
            elif asked and int(asked) != self._generations[path]:
                return "412 Precondition Failed", [("Content-Length", "0")], b""
            status, headers, body = super()._answer(environ)
            if environ["REQUEST_METHOD"] == "PUT" and status.startswith("200"):
                self._generations[path] += 1
            generation = ("x-goog-generation", str(self._generations[path]))
        headers = [(name.replace("x-amz-meta", "x-goog-meta"), value) for name, value in headers]
        return status, [*headers, generation], body


def folder_of(path: str) -> str:
    """The folder of the store that a path is in; the name itself of what is in none."""
    return path.removeprefix("/bucket/").removeprefix("some/store/").split("/")[0]
