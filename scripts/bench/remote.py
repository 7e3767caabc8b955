"""Training from a bucket: the store through its cache, against LitData and MosaicML Streaming.

All read the same samples, all five maps of each, as shuffled batches of torch tensors, from one
server of objects on this machine, whose every answer comes 30 ms late. It counts requests and
bytes. Every run is a process of its own with an empty cache: its first epoch is cold, from opening
on; then epochs are read for some seconds, warm; one more is compared with the store, byte for byte.
Every setting of every contender takes its turn in every round; the median counts, and of each
contender its best setting. Rows of JPEG hold image files and polygons, from which each sample is
made when it is read, by the functions that `build` uses.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bucket import LATENCY
from common import (
    SPLIT,
    add_out,
    argument_parser,
    build_store,
    environment,
    markdown_table,
    megabytes,
    write_report,
)
from remote_contenders import BUCKET, CONTENDERS, convert, epochs_of, load, place

from ocr_precompute import open_store
from ocr_precompute.format.schema import MAPS
from ocr_precompute.runtime.clock import rate

KEYS = {"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "word"}
PACKAGES = ("torch", "obstore", "litdata", "mosaicml-streaming")


def measure(name: str, setting: Mapping[str, int], bucket: Path, seconds: float) -> dict[str, Any]:
    """Samples a second of a contender, cold and warm, and what the server gave meanwhile."""
    import torch

    torch.set_num_threads(1)
    load(name)
    with tempfile.TemporaryDirectory(dir=bucket, ignore_cleanup_errors=True) as cache:
        counts()
        began = time.perf_counter()
        epochs = epochs_of(name, setting, bucket, cache)
        samples = sum(len(batch["image"]) for batch in next(epochs))
        cold, cold_counts = samples / (time.perf_counter() - began), counts()
        assert sum(len(batch["image"]) for batch in next(epochs)) == samples  # compiles, too
        batches = (len(batch["image"]) for epoch in epochs for batch in epoch)
        warm = rate(batches, seconds)
        warm_counts = counts()
        found = sorted(digest for batch in next(epochs) for digest in digests(batch))
        if found != json.loads((bucket / "digests.json").read_text()):
            raise ValueError("samples are missing or differ from the store's")
    return {"cold": cold, "warm": warm, "cold_counts": cold_counts, "warm_counts": warm_counts}


def digests(batch: Mapping[str, Any]) -> Iterator[str]:
    """Of each sample's maps."""
    for row in range(len(batch["image"])):
        yield hashlib.sha256(
            b"".join(np.asarray(batch[f][row]).tobytes() for f in MAPS)
        ).hexdigest()


def counts() -> dict[str, int]:
    """What the server gave since it was last asked."""
    with urllib.request.urlopen(f"{os.environ['S3_ENDPOINT_URL']}/counts") as answer:
        found: dict[str, int] = json.load(answer)
    return found


# ------------------------------------------------------------------------------------- the rounds


def part(*arguments: object) -> str:
    """What a part of this prints last, run in a process of its own. Raises RuntimeError."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        errors = [
            line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)", line)
        ]
        raise RuntimeError((errors or ["no message"])[-1])
    return done.stdout.splitlines()[-1] if done.stdout else ""


def compare(arguments: argparse.Namespace) -> None:
    """Convert, run all rounds, report."""
    arguments.scratch = bucket = arguments.scratch.resolve() / BUCKET
    split = open_store(build_store(arguments)[0])[SPLIT]
    wanted = sorted(d for i in range(len(split)) for d in digests(split.read([i], tuple(MAPS))))
    (bucket / "digests.json").write_text(json.dumps(wanted))
    program = Path(__file__).with_name("bucket.py")
    command = [sys.executable, program, bucket.parent]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    os.environ.update(KEYS, S3_ENDPOINT_URL=address, AWS_DEFAULT_REGION="us-east-1")
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    problems: dict[str, str] = {}
    try:
        for turn, (name, settings) in itertools.product(
            range(arguments.rounds), CONTENDERS.items()
        ):
            for setting in map(json.dumps, settings):
                try:
                    if name != "ours" and not turn and setting == json.dumps(settings[0]):
                        shutil.rmtree(place(name, bucket), ignore_errors=True)
                        part("convert", name, bucket)
                    run = json.loads(part("measure", name, bucket, setting, arguments.seconds))
                    runs.setdefault((name, setting), []).append(run)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    run = problems[name] = str(error)
                print(name, setting, run, file=sys.stderr)
    finally:
        server.kill()
    write_report(report(runs, problems, len(split)), arguments.out)


def report(
    runs: Mapping[tuple[str, str], list[dict[str, Any]]], problems: Mapping[str, str], samples: int
) -> Iterator[str]:
    """Lines of Markdown: of each contender its best setting, cold and warm."""
    yield from [f"# From a bucket, {samples} samples, {1000 * LATENCY:.0f} ms", ""]
    yield from [*environment(PACKAGES), ""]
    rows = []
    for name in CONTENDERS:
        row: list[object] = [name]
        for kind in ("cold", "warm"):
            found = [
                (statistics.median(run[kind] for run in each), setting, each[0][f"{kind}_counts"])
                for (other, setting), each in runs.items()
                if other == name
            ]
            best: tuple[float, str, dict[str, int]] = max(
                found, default=(0.0, problems.get(name, ""), {}), key=lambda each: each[0]
            )
            row += [f"{best[0]:,.1f}", re.sub(r'[{}"]', "", best[1])]
            if kind == "cold":
                row += [best[2].get("requests", ""), megabytes(best[2].get("bytes"))]
            else:
                row.append(best[2].get("requests", ""))
        rows.append(row)
    head = ("contender", "cold samples/s", "setting", "requests", "bytes")
    yield markdown_table([*head, "warm samples/s", "setting", "requests, warm"], rows)


def main() -> None:
    """Command line."""
    match sys.argv[1:]:
        case ["convert", name, bucket]:
            convert(name, Path(bucket))
        case ["measure", name, bucket, setting, seconds]:
            print(json.dumps(measure(name, json.loads(setting), Path(bucket), float(seconds))))
        case _:
            parser = argument_parser(__doc__, samples=512)
            parser.add_argument("--rounds", type=int, default=2)
            parser.add_argument("--seconds", type=float, default=3.0, help="of reading warm")
            add_out(parser)
            compare(parser.parse_args())


if __name__ == "__main__":
    main()
