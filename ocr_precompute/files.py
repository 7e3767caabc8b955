"""Files that are complete or absent: flushed to disk, then renamed into place."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def safe_name(name: str) -> str:
    """A sample's name as part of a file's name: it chooses no folder, and is not too long."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[-80:]


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as JSON, the same bytes every time."""
    return (json.dumps(document, indent=1) + "\n").encode()


def replace_file(path: Path, data: bytes) -> None:
    """Write data beside path, flush it, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        beside.write_bytes(data)
        flush(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    flush(path.parent)


def flush(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
