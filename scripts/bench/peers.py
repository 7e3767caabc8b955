"""Training from the store, against the formats and loaders people would use instead.

First what a training takes, varied samples, in the contest of augmented.py: ours, ours live, and a
usual trainer. Then plain reading: the same samples (image, prob, thresh) are converted to every
format and read back as shuffled batches of torch tensors. Every run is a process of its own. Its
first epoch is warm-up, and in it every sample is checked to be the store's, byte for byte. Then
batches are counted for some seconds. Every setting of every contender takes its turn in every
round; the median over rounds counts, and of each contender its best setting. All files lie in the
page cache, where raw formats are fastest.

Reported, too: bytes on disk after training from it, and how much memory grew while it ran, in all
its processes: private and shared, without mapped files, which the system can drop at any time.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import augmented
import numpy as np
from common import (
    FIELDS,
    SPLIT,
    argument_parser,
    build_store,
    environment,
    is_installed,
    markdown_table,
    megabytes,
)
from contenders import Contender, Setting, contenders

from ocr_precompute import open_store
from ocr_precompute.format.shard import COLUMNS, MappedFile, read_index
from ocr_precompute.reading.split import Split
from ocr_precompute.runtime.clock import rate
from ocr_precompute.storage.store import shard_name

PACKAGES = (
    "torch",
    "zarr",
    "numcodecs",
    "ffcv",
    "mosaicml-streaming",
    "litdata",
    "webdataset",
    "tensorstore",
    "zarrs",
)
AUGMENTED = "augmented"
SIDE = 640  # canonical, as `build_store` has it
CROP = 640  # of the varied samples, as in configs/experiment/published.yaml
TIME_LIMIT = 600  # seconds a run may take before it is given up


# ------------------------------------------------------------------------------ one run, measured


def sample_digests(batch: Mapping[str, Any]) -> Iterator[str]:
    """SHA-256 of every sample of a batch: dtypes, shapes and bytes of its fields."""
    arrays = [np.asarray(batch[name]) for name in FIELDS]
    for row in range(len(arrays[0])):
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(f"{array.dtype} {array.shape[1:]}".encode())
            digest.update(np.ascontiguousarray(array[row]).data)
        yield digest.hexdigest()


def expected_digests(split: Split) -> list[str]:
    """The digests of all samples of a split, sorted."""
    batches = (split.read([index], FIELDS) for index in range(len(split)))
    return sorted(digest for batch in batches for digest in sample_digests(batch))


def process_tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def used_memory() -> int | None:
    """Private and shared bytes of this process and its children; None where /proc does not tell."""
    total = 0
    for process in process_tree(os.getpid()):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        values = {line.split(":")[0]: line.split() for line in lines[1:]}
        if "Pss_Anon" in values:
            total += 1024 * sum(int(values[name][1]) for name in ("Pss_Anon", "Pss_Shmem"))
    return total or None


def peak_memory(batches: Iterator[Mapping[str, Any]]) -> int | None:
    """The most memory seen between some batches; not timed, since looking takes long."""
    seen = []
    for _ in range(5):
        collections.deque(itertools.islice(batches, 4), maxlen=0)
        seen.append(used_memory())
    return max((size for size in seen if size is not None), default=None)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one contender with one setting: samples a second, and bytes its memory grew by."""
    import torch

    warnings.simplefilter("ignore")  # about arrays that cannot be written to, for one
    contender = next(c for c in contenders([]) if c.name == arguments.contender)
    expected = json.loads((arguments.scratch / "digests.json").read_text())
    setting: Setting = json.loads(arguments.setting)
    torch.set_num_threads(setting.get("torch_threads", 1))
    before = used_memory()
    folder = place(contender, arguments.scratch)
    epochs = contender.epochs(folder, setting, arguments.batch_size)
    found = sorted(digest for batch in next(epochs) for digest in sample_digests(batch))
    if found != expected:
        missing = sum((collections.Counter(expected) - collections.Counter(found)).values())
        raise ValueError(f"{missing} samples are missing or differ; {len(found)} were given")
    batches = itertools.chain.from_iterable(epochs)
    samples_a_second = rate((len(batch["image"]) for batch in batches), arguments.seconds)
    peak = peak_memory(batches)
    growth = peak - before if peak is not None and before is not None else None
    return {"rate": samples_a_second, "memory": growth}


# ----------------------------------------------------------------------------- what is to be read


def place(contender: Contender, scratch: Path) -> Path:
    """The folder a contender reads from."""
    folder = contender.name.lower().replace(" ", "-")
    return scratch / (folder if contender.reads == "own" else contender.reads)


def prepare(contender: Contender, split: Split, scratch: Path) -> None:
    """Convert the split to the contender's format, unless that has been done before."""
    if contender.write is None:
        return
    folder, stamp = place(contender, scratch), scratch / f"{place(contender, scratch).name}.done"
    made_from = f"{split.manifest.data_hash} {FIELDS}"
    if stamp.exists() and stamp.read_text() == made_from:
        return
    print(f"converting to {contender.name}", file=sys.stderr)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    contender.write(split, folder)
    stamp.write_text(made_from)


def prepare_in_process(contender: Contender, scratch: Path) -> str:
    """As prepare, in a process of its own; returns what went wrong, empty if nothing did."""
    return run([sys.executable, __file__, "convert", contender.name, "--scratch", str(scratch)])[1]


# ------------------------------------------------------------------------------------- the rounds


@dataclass
class Result:
    """What came of one setting of one contender."""

    contender: Contender
    setting: Setting
    rates: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    problem: str = ""

    @property
    def rate(self) -> float:
        """Samples a second, the median of its rounds; 0 if a run failed."""
        return statistics.median(self.rates) if self.rates and not self.problem else 0.0


def run(command: Sequence[str]) -> tuple[str, str]:
    """Standard output of a command, and what went wrong; ends all processes it leaves behind."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return "", f"took more than {TIME_LIMIT} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    reason = (errors.strip().splitlines() or ["no message"])[-1]
    return output, f"status {process.returncode}: {reason}" if process.returncode else ""


def run_once(result: Result, arguments: argparse.Namespace) -> None:
    """One round of one setting, added to its result."""
    command = [sys.executable, __file__, "measure", result.contender.name]
    command += ["--setting", json.dumps(result.setting), "--scratch", str(arguments.scratch)]
    command += ["--batch-size", str(arguments.batch_size), "--seconds", str(arguments.seconds)]
    output, result.problem = run(command)
    if not result.problem:
        figures = json.loads(output.splitlines()[-1])
        result.rates.append(figures["rate"])
        if figures["memory"] is not None:
            result.memory.append(figures["memory"])
    told = result.problem or f"{result.rates[-1]:,.0f} samples/s"
    print(f"  {result.contender.name} ({described(result.setting)}): {told}", file=sys.stderr)


def described(setting: Setting) -> str:
    """A setting for a table."""
    texts = (
        value if isinstance(value, str) else f"{value} {name}" for name, value in setting.items()
    )
    return ", ".join(texts).replace("_", " ")


def best(results: Sequence[Result], name: str) -> Result | None:
    """The fastest setting of a contender; None if it took no part or failed."""
    found = [result for result in results if result.contender.name == name and result.rate]
    return max(found, key=lambda result: result.rate, default=None)


# ------------------------------------------------------------------------------------- the report


def report(
    results: Sequence[Result], absent: Mapping[str, str], arguments: argparse.Namespace
) -> tuple[str, dict[str, Any]]:
    """The comparison as Markdown, and as a document for JSON."""
    split = open_store(arguments.scratch / "store").split(SPLIT)
    raw = len(split) * sum(array.nbytes for array in split.read([0], FIELDS).values())
    sizes = {
        contender.name: bytes_on_disk(contender, split, arguments.scratch)
        for contender in {result.contender.name: result.contender for result in results}.values()
    }
    reference = best(results, "ours")
    rows: list[tuple[object, ...]] = []
    for name, size in sizes.items():
        result = best(results, name)
        if result is None:
            problem = next(r.problem for r in results if r.contender.name == name)
            rows.append((name, problem, "", "", megabytes(size), ""))
            continue
        ratio = f"{result.rate / reference.rate:.2f}" if reference else ""
        memory = megabytes(statistics.median(result.memory)) if result.memory else ""
        row = (name, described(result.setting), f"{result.rate:,.0f}", ratio)
        rows.append((*row, megabytes(size), memory))
    rows += [(name, reason, "", "", "", "") for name, reason in absent.items()]
    head = ("contender", "best setting", "samples/s", "ratio to ours", "on disk", "memory")
    ratios = ratios_that_matter(results, sizes, raw)
    text = "\n".join(
        [
            f"# Training from the store against its peers, {len(split)} samples",
            "",
            *environment(PACKAGES),
            "",
            markdown_table(head, rows),
            "",
            *(f"- {name}: {value:.2f}" for name, value in ratios.items()),
            "",
        ]
    )
    document = {
        "samples": len(split),
        "raw_bytes": raw,
        "bytes": sizes,
        "ratios": ratios,
        "absent": dict(absent),
        "runs": [
            {
                "contender": result.contender.name,
                "setting": dict(result.setting),
                "rates": result.rates,
                "memory": result.memory,
                "problem": result.problem,
            }
            for result in results
        ],
    }
    return text, document


def bytes_on_disk(contender: Contender, split: Split, scratch: Path) -> int:
    """Bytes of all files a contender needs; of the store only the fields that are compared."""
    if contender.reads != "store":
        files = (path for path in place(contender, scratch).rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)
    indices = [
        read_index(MappedFile(scratch / "store" / shard_name(entry.key)))
        for entry in split.manifest.shards
    ]
    columns = [COLUMNS[field] for field in FIELDS]
    return sum(int((each.stops - each.starts)[:, columns].sum()) for each in indices)


def ratios_that_matter(
    results: Sequence[Result], sizes: Mapping[str, int], raw: int
) -> dict[str, float]:
    """Ours against each peer, fastest first, and against the live path; bytes against raw bytes."""
    reference, ratios = best(results, "ours"), {}
    others = [best(results, name) for name in sizes if name != "ours"]
    for other in sorted((o for o in others if o), key=lambda o: -o.rate):
        if reference and (other.contender.reads == "own" or other.contender.name == "live path"):
            ratios[f"samples/s, ours / {other.contender.name}"] = reference.rate / other.rate
    if "ours" in sizes:
        of, size = ("FFCV", sizes["FFCV"]) if "FFCV" in sizes else ("the arrays, raw", raw)
        ratios[f"bytes, ours / {of}"] = sizes["ours"] / size
    return ratios


# ----------------------------------------------------------------------------------- command line


def numbers(text: str) -> list[int]:
    """A list of whole numbers, as in 1,2,4."""
    return [int(part) for part in text.split(",")]


def parse() -> argparse.Namespace:
    """Arguments of a comparison."""
    parser = argument_parser(__doc__, samples=400)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each run is timed")
    parser.add_argument(
        "--threads", type=numbers, default=[1, 2, 4], help="for ours; default 1,2,4"
    )
    parser.add_argument(
        "--only",
        help="contenders to compare, by name, with commas between; "
        f"{AUGMENTED} is the contest of varied samples",
    )
    parser.add_argument("--out", type=Path, help="Markdown file; default: standard output")
    parser.add_argument("--json", type=Path, help="file for every run's figures")
    return parser.parse_args()


def parse_part() -> argparse.Namespace:
    """Arguments of one part, run in a process of its own by the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("measure", "convert"))
    parser.add_argument("contender")
    parser.add_argument("--setting")
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seconds", type=float)
    return parser.parse_args()


def compare(arguments: argparse.Namespace) -> None:
    """Convert, run all rounds, report."""
    arguments.scratch = arguments.scratch.resolve()
    store, source = build_store(arguments)
    varied: list[str] = []
    if not arguments.only or AUGMENTED in arguments.only.split(","):
        rounds, seconds = arguments.rounds, arguments.seconds
        found = augmented.contest(store, source, SIDE, CROP, arguments.batch_size, rounds, seconds)
        varied = [*augmented.report(found, arguments.samples, SIDE, CROP), "", ""]
    split = open_store(store).split(SPLIT)
    (arguments.scratch / "digests.json").write_text(json.dumps(expected_digests(split)))
    results: list[Result] = []
    absent: dict[str, str] = {}
    for contender in contenders(arguments.threads):
        if arguments.only and contender.name not in arguments.only.split(","):
            continue
        if not is_installed(contender.requires):
            absent[contender.name] = "not installed"
        elif problem := prepare_in_process(contender, arguments.scratch):
            absent[contender.name] = f"cannot convert: {problem}"
        else:
            results += [Result(contender, setting) for setting in contender.settings]
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        for result in results:
            if not result.problem:
                run_once(result, arguments)
    text, document = report(results, absent, arguments)
    text = "\n".join(varied) + text
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    """Command line."""
    if sys.argv[1:2] not in (["measure"], ["convert"]):
        compare(parse())
        return
    arguments = parse_part()
    if arguments.part == "convert":
        contender = next(c for c in contenders([]) if c.name == arguments.contender)
        split = open_store(arguments.scratch / "store").split(SPLIT)
        prepare(contender, split, arguments.scratch)
    else:
        print(json.dumps(measure(arguments)), flush=True)


if __name__ == "__main__":
    main()
