"""Files of a folder over HTTP as S3 gives them, each late; counts requests and bytes."""

from __future__ import annotations

import http.server
import json
import re
import sys
import threading
import time
from functools import partial
from pathlib import Path

LATENCY = 0.03  # seconds


class Handler(http.server.SimpleHTTPRequestHandler):
    """Gives files of a folder and parts of them, late, as S3 does; /counts says what it gave."""

    # A connection a request: MosaicML's workers inherit one from the process that forks them, and
    # would mix up what comes through it.
    protocol_version = "HTTP/1.0"
    counts: dict[str, int] = {"requests": 0, "bytes": 0}  # noqa: RUF012
    lock = threading.Lock()

    def do_GET(self) -> None:
        """Send an object, or the part that is asked for."""
        if self.path == "/counts":
            self._send(200, json.dumps(self.counts).encode())
            self.counts.update(requests=0, bytes=0)
            return
        time.sleep(LATENCY)
        path = Path(self.translate_path(self.path.partition("?")[0]))
        with self.lock:
            self.counts["requests"] += 1
        if not path.is_file():
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start = 0 if asked is None else int(asked[1] or max(0, size - int(asked[2])))
        stop = int(asked[2]) + 1 if asked and asked[1] and asked[2] else size
        with path.open("rb") as file:
            file.seek(start)
            part = file.read(stop - start)
        given = f"bytes {start}-{start + len(part) - 1}/{size}" if asked else ""
        self._send(206 if asked else 200, part, given)

    do_HEAD = do_GET

    def _send(self, status: int, data: bytes, given: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        if given:
            self.send_header("Content-Range", given)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
            with self.lock:
                self.counts["bytes"] += len(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Takes many connections at once; who hangs up says why."""

    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


def serve(folder: Path) -> None:
    """Serve a folder, and print the port."""
    handler = partial(Handler, directory=str(folder))
    server = Server(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
