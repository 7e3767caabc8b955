"""Every script of scripts/bench measures something, of the smallest data that make sense.

What comes out is looked at, as data; how fast anything is is not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import Dataset

from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings, Source

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "scripts" / "bench"
IMAGES = "--images {images} --annotations {annotations}"
SAMPLES = f"{IMAGES} --scratch {{scratch}} --samples"
TARGETS = (
    f"{SAMPLES} 4 --val-images {{images}} --val-annotations {{few}} --rounds 1"
    " --many 4 --seconds 0.01 --backbone {backbone} --channels 16 --batch-size 2 --crop 64"
)


class Case(NamedTuple):
    """How a script is called, and what its first table has: heads, and its first column."""

    flags: str
    heads: str
    rows: str
    tables: int = 1
    ratios: int = 0


CASES = {
    "annotations": Case(
        "--words 60 --megabytes 1 --scratch {scratch}",
        "form | file, MB | images | words | problems | processor, s | memory, MB",
        "coco | words | hiertext",
    ),
    "augmented": Case(
        f"{SAMPLES} 4 --size 128 --crop 64 --batch-size 2 --rounds 1 --seconds 0.01",
        "contender | best setting | samples/s | ours is faster by",
        "ours | ours, live",
        tables=2,
    ),
    "building": Case(
        f"{SAMPLES} 4",
        "what | s | ms/sample",
        "bare work | build, 1 job | build, 2 jobs (loky) | build, 2 jobs (threading)"
        " | large images, exact | large images, reduced | large images, exact, lz4"
        " | large images, reduced, lz4",
        ratios=5,
    ),
    "compression": Case(
        "{store}:val --samples 2 --rounds 1",
        "codec | kB/sample | pack, ms/sample | unpack, ms/sample",
        "lz4 1 | lz4 5 | lz4 9 | lz4hc 2 | lz4hc 3 | lz4hc 5 | lz4hc 9 | zstd 1 | zstd 3 | zstd 5",
        tables=9,
    ),
    "crops": Case(
        f"{IMAGES} --crops 3 --size 128",
        "crops | without text to learn, % | texts cut per crop",
        "640 px, the release's rule | 640 px, ours | 320 px, the release's rule | 320 px, ours",
    ),
    "epochs": Case(
        f"{SAMPLES} 4 --epochs 2 --threads 1",
        "threads | store, samples/s | live, samples/s | factor | memory after epoch 1, MB"
        " | after epoch 2, MB | most less least, MB",
        "1",
    ),
    "labels": Case(
        f"{IMAGES} --samples 1 --rounds 1",
        "maps | numpy, cosines, ms/image | numpy, cross product, ms/image | ours, ms/image"
        " | cosines / ours | cross product / ours | largest difference in thresh",
        "640 px, seed | 640 px, dbnet | 1024 px, seed | 1024 px, dbnet",
    ),
    "large": Case(
        f"{SAMPLES} 2 --many 4 --rounds 1 --threads 1",
        "maps | threads | 2 samples, samples/s | 4 samples, samples/s | ratio"
        " | lowest of a round | highest",
        "3 | 5",
    ),
    "layouts": Case(
        f"{IMAGES} --scratch {{scratch}}/layouts --counts 16 --turns 2",
        "layout | files per shard | inodes per shard | MB"
        " | files, or ranges, to read 3 maps of a sample | 16 samples, 3 maps, samples/s"
        " | files, or ranges, to read 5 maps of a sample | 16 samples, 5 maps, samples/s",
        "folder | sharding codec | ZIP",
    ),
    "millions": Case(
        "--entries 40 --words 2 --scratch {scratch}/millions",
        "what | s | per million, s | peak memory, MB",
        "scan | plan | publish | build, nothing to do, parts remembered"
        " | build, nothing to do, parts read | one image changed, dry run | open"
        " | open and first batch of 16 | a name in the middle",
    ),
    "nothing_to_do": Case(
        "--samples 4 --words 2 --rounds 1 --scratch {scratch}/nothing",
        "what | s | entries/s | peak memory, MB | of it for this, MB",
        "first build | no-op build, in process | no-op build, as a command"
        " | json.loads of the annotations | the same, garbage collector off"
        " | os.stat of every image",
        ratios=2,
    ),
    "peers": Case(
        f"{SAMPLES} 4 --only ours,FFCV --threads 1 --batch-size 2 --rounds 1 --seconds 0.01",
        "contender | best setting | samples/s | ratio to ours | on disk, MB | memory, MB",
        "ours",
        ratios=1,
    ),
    "processes": Case(
        f"{SAMPLES} 4 --rounds 1 --model.backbone={{backbone}} --model.channels=16"
        " --data.batch_size=2 --data.augmentation.crop=64",
        "training | samples/s | of twice one | lowest of a round, samples/s | highest, samples/s",
        "one process | two processes | two trainings",
    ),
    "reading": Case(
        f"{SAMPLES} 4 --reads 4",
        "reader | ms/sample | times the floor",
        "floor: Blosc alone | ours, into arrays | ours, new arrays | tensorstore | zarr-python"
        " | zarr-python with zarrs",
        ratios=4,
    ),
    "remote": Case(
        f"{SAMPLES} 4 --rounds 1 --seconds 0.01 --settings 1",
        "contender | cold, samples/s | requests | given, MB | warm, samples/s | requests, warm",
        "ours",
        tables=2,
    ),
    "results": Case(
        f"{TARGETS} --only validation memory",
        "what is compared | target | figure | unit | reached | measured by"
        " | why it falls short, and what was tried",
        "a page's image and labels from the store, against decoded and drawn live: reading alone"
        " | all of a validation from the store, against images decoded and labels drawn live"
        " | annotations: all that an opened split holds, against lists of an array per polygon"
        " | images and maps: a loader of 4 samples, against their arrays in memory"
        " | weights and statistics of a network in use, in bfloat16, against float32",
    ),
    "scale": Case(
        "--samples 100 --changed 2 --words 2 --scratch {scratch}/scale",
        "what | figure | unit | peak memory, MB | of it for this, MB",
        "open the split | look up a random sample | plan an update"
        " | which builds, of the split's shards | in which it copies | and computes",
    ),
    "sizes": Case(
        "--train {images} {annotations} --val {images} {annotations} --sizes 64 96 --seeds 0"
        " --epochs 1 --batch-size 4 --trim 32 --small --accelerator cpu --scratch {scratch}/sizes",
        "size, px | words that train, % | store of both splits, MB | of training, ms/sample"
        " | H-mean, seed 0",
        "64 | 96",
    ),
    "stages": Case(
        f"{SAMPLES} 2 --only read --rounds 2",
        "run | stage | planted | it grew, ms | most of another, ms | which is"
        " | and differs by chance by, ms | most of a wait, ms | right",
        "read | read | read | read | read | read | read | read",
        tables=2,
    ),
    "training": Case(
        "--only data.threads=1 --rounds 1 --steps 1 --warmup 1 --side 64 --channels 16"
        " --data.store={store} --model.backbone={backbone} --model.channels=16"
        " --data.batch_size=2 --data.augmentation.crop=64",
        "setting | samples/s | ratio | lowest of a round | highest | waited, % | most memory, MB",
        "as configured | data.threads=1",
        tables=2,
    ),
    "trimming": Case(
        "val --store {store} --trims 0 32",
        "split | samples | trim, px | content, % | batches of 8, in order, %"
        " | batches of 8, shuffled, % | batches of 16, in order, % | batches of 16, shuffled, %",
        "val",
    ),
    "tuning": Case(
        f"{SAMPLES} 24 --batch-size 1 --crop 32 --rounds 1 --only nothing",
        "the training | began with 1 thread | began with 16 threads",
        "does nothing with its batches",
        tables=2,
    ),
    "verdicts": Case(
        f"{SAMPLES} 4 --runs 1 --only build-disk",
        "a build bound by | named | of | else",
        "disk",
    ),
    "watching": Case(
        "--store {store} --backbone {backbone} --batch-size 2 --crop 64 --channels 16 --before 1"
        " --profiled 1 --steps 2 --between 3 --rounds 1 --validation-batches 1",
        "what | everything off, ms | everything on, ms | cost, % | from, % | to, %",
        "step | profiled step, the trace written | validation"
        " | of a step, what watched (from and to: all rounds)",
    ),
    "workers": Case(
        f"{SAMPLES} 4 --rounds 1",
        "workers | samples/s | of twice one",
        "1 process | 2 processes | 2 builds at once | Dask, 1 worker | Dask, 2 workers",
    ),
}
HERE = {"annotations", "millions", "nothing_to_do", "scale"}
"""What measures in processes of its own, each of which would load all there is, only for memory."""


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few pages, one of them large; the first two; and a store of two small splits."""
    folder = tmp_path_factory.mktemp("bench")
    dataset = Dataset(folder / "data", 5)
    dataset.add("large.jpg", (1300, 1280))
    dataset.save()
    few = json.loads(dataset.annotations.read_text())
    few["images"] = dict(list(few["images"].items())[:2])
    (folder / "few.json").write_text(json.dumps(few))
    settings = Settings(store=folder / "store", size=(64, 64), backend="sequential")
    for split in ("train", "val"):
        build(split, dataset.source, settings)
    return {
        "images": dataset.images,
        "annotations": dataset.annotations,
        "few": folder / "few.json",
        "scratch": folder / "scratch",
        "store": folder / "store",
        "backbone": ROOT / "tests" / "backbone",
    }


def result_of(name: str, flags: str, places: dict[str, Path]) -> Any:
    """What a script finds."""
    from measuring.command import parsed

    module = import_module(name)
    words = [word.format_map(places) for word in flags.split()]
    return module.measure(parsed(module.parser(), words))


@pytest.mark.filterwarnings("ignore")  # of Lightning and PyTorch, which scripts let pass
@pytest.mark.time
@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_measures(
    name: str, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from measuring.results import read_result

    case = CASES[name]
    if name in HERE:
        monkeypatch.setattr(f"{name}.apart", lambda function, *given: function(*given))
    monkeypatch.setattr("nothing_to_do.SETTLE", 0.0)
    result = result_of(name, case.flags, places)
    (tmp_path / "result.json").write_bytes(result.as_json())
    assert read_result(tmp_path / "result.json") == result  # whose figures are finite
    assert result.name == name
    assert result.question.endswith("?")
    assert result.environment.versions["Python"]
    first = result.tables[0]
    assert " | ".join(column.head for column in first.columns) == case.heads
    found = [str(row[0]) for row in first.rows]
    installed = [name for name in case.rows.split(" | ") if name not in result.absent]
    assert (sorted(found) if name == "reading" else found) == installed
    assert len(result.tables) == case.tables
    assert len(result.ratios) == case.ratios
    for table in result.tables:
        assert table.rows
        for number, column in enumerate(table.columns):
            if column.unit in ("s", "samples/s", "ms/sample", "MB", "kB/sample"):
                assert all(row[number] is None or row[number] >= 0 for row in table.rows)


@pytest.mark.time
@pytest.mark.filterwarnings("ignore")
def test_every_target_has_a_figure_and_its_command(
    places: dict[str, Path],
) -> None:
    (table,) = result_of("results", TARGETS, places).tables
    scripts = [str(table.cell(str(row[0]), "measured by")).split()[0] for row in table.rows]
    assert list(dict.fromkeys(scripts)) == [
        *("`epochs.py", "`results.py", "`workers.py", "`tuning.py", "`augmented.py"),
        *("`training.py", "`processes.py"),
    ]
    for what, target, figure, _, reached, _, why in table.rows:
        assert isinstance(figure, float), what
        assert reached in (("yes", "no") if target else ("",)), what
        assert not why or reached != "yes", what


def test_every_script_is_tried_and_short() -> None:
    assert set(CASES) == {path.stem for path in BENCH.glob("*.py")}
    for path in BENCH.rglob("*.py"):
        assert len(path.read_text().splitlines()) < 250, path
        assert path.parent != BENCH or path.stat().st_mode & 0o111, path


@pytest.mark.parametrize("name", ["peers", "remote"])
def test_an_unknown_argument_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from measuring.command import parsed

    with pytest.raises(SystemExit):
        parsed(import_module(name).parser(), ["--sample", "4", "--nothing"])
    assert "unrecognized arguments: --nothing" in capsys.readouterr().err


def test_too_few_samples_for_a_search_are_refused(places: dict[str, Path]) -> None:
    with pytest.raises(SystemExit, match=r"23 samples are too few .* --samples 24, 24 batches"):
        result_of("tuning", f"{SAMPLES} 23 --batch-size 1", places)


def test_a_process_apart_is_ended_with_what_went_wrong() -> None:
    from measuring.apart import Failed, apart

    with pytest.raises(Failed, match="ValueError: invalid literal"):
        apart(int, "a")
    with pytest.raises(Failed, match="ended with status 3"):
        apart(os._exit, 3)
    with pytest.raises(Failed, match=r"took more than 0\.01 s"):
        apart(signal.pause, seconds=0.01)


@pytest.mark.filterwarnings("ignore")  # of arrays that cannot be written to, for one
@pytest.mark.parametrize("name", ["numpy memmap", "compressed npz", "store, zarr-python"])
def test_a_contender_gives_what_is_stored(
    name: str, places: dict[str, Path], tmp_path: Path
) -> None:
    """In one process; as a benchmark runs it, it would be one of its own."""
    from contenders import rounds
    from measuring.samples import SPLIT

    from ocr_precompute import open_store

    source = Settings(store=tmp_path / "store", size=(64, 64), backend="sequential")
    given = Source(images=places["images"], annotations=places["annotations"])
    build(SPLIT, given, source)
    split = open_store(tmp_path / "store")[SPLIT]
    (tmp_path / "digests.json").write_text(json.dumps(rounds.expected_digests(split)))
    rounds.prepare(name, tmp_path)
    setting = {"workers": 0, "read": "one by one", "codecs": "zarr-python"}
    threads = torch.get_num_threads()
    rate, _ = rounds.measured(name, setting, tmp_path, 4, 0.01)
    torch.set_num_threads(threads)
    assert rate > 0
    assert rounds.bytes_on_disk(rounds.named(name), split, tmp_path) > 0
