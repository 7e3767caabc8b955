"""Training from a store: what it learns does not depend on how it is run."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import Dataset
from lightning_noise import NOISE
from local import manifest_path, read_manifest
from shards import flip_chunk, shards
from train_once import BACKBONE, Record, train

from ocr import train as command
from ocr.command import main
from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import Performance, progress_lines
from ocr.lightning_modules.callbacks.performance import FILE_NAME
from ocr.lightning_modules.callbacks.predictions import as_words
from ocr.models.checkpoint import read_checkpoint
from ocr.predict import load
from ocr_precompute.errors import StoreError
from ocr_precompute.format.keys import data_hash
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings, Source, load_settings

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "train.yaml"
EXPERIMENTS = sorted((ROOT / "configs" / "experiment").glob("*.yaml"))
VARIED = {"crop": 48, "flip": 0.5, "rotation": 10, "scale": 0.3, "colour": 0.2}

pytestmark = [
    *NOISE,
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """23 pages: an odd number, so that two processes cannot share them evenly."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=23)
    made.document["images"]["page_004.jpg"]["words"] = {}
    made.document["images"]["page_003.jpg"]["words"]["0001"]["ignore"] = True
    made.save()
    return made


@pytest.fixture(scope="module")
def sources(dataset: Dataset) -> dict[str, Source]:
    """Where the splits come from: train has 22 of the pages, which is no multiple of a batch."""
    few = {"images": dict(list(dataset.document["images"].items())[:22])}
    path = dataset.annotations.with_name("train.json")
    path.write_text(json.dumps(few))
    return {"train": Source(images=dataset.images, annotations=path), "val": dataset.source}


@pytest.fixture(scope="module")
def store(sources: dict[str, Source], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The pages as splits train and val, at 64 px."""
    settings = Settings(
        store=tmp_path_factory.mktemp("store") / "s", size=64, shard_length=8, backend="sequential"
    )
    for split, source in sources.items():
        build(split, source, settings)
    return str(settings.store)


@pytest.fixture(scope="module")
def live(sources: dict[str, Source], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration of the compiler for the same splits."""
    splits = {split: source.model_dump(mode="json") for split, source in sources.items()}
    path = tmp_path_factory.mktemp("config") / "precompute.yaml"
    path.write_text(yaml.safe_dump({"size": 64, "splits": splits}))
    return str(path)


def flat(lists: Iterable[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(lists))


def data(store: str, **changes: Any) -> dict[str, Any]:
    return {"store": store, "batch_size": 4, "threads": 2, "augmentation": VARIED, **changes}


def test_steps_are_the_same_from_the_store_and_live(store: str, live: str, tmp_path: Path) -> None:
    loops = {"max_epochs": 3}  # of 6 steps
    stored = train(str(tmp_path / "a"), data(store), trainer=loops)
    computed = train(str(tmp_path / "b"), data("nowhere", live=live), trainer=loops)
    assert len(stored.losses) == 18
    assert stored.losses == computed.losses
    assert stored.metrics["val/hmean"] == computed.metrics["val/hmean"]


@pytest.fixture(scope="module")
def whole(store: str, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A training of 3 epochs of 6 steps that nobody interrupts."""
    return train(str(tmp_path_factory.mktemp("whole")), data(store), trainer={"max_epochs": 3})


@pytest.mark.parametrize(
    ("checkpoint", "stop"), [(14, 16), (12, 13)], ids=["in an epoch", "at its end"]
)
def test_an_interrupted_training_goes_on_with_the_batches_that_were_left(
    checkpoint: int, stop: int, whole: Record, store: str, tmp_path: Path
) -> None:
    loops, out = {"max_epochs": 3}, str(tmp_path)
    cut = train(out, data(store), trainer=loops, stop_after=stop, checkpoint_every=checkpoint)
    assert cut.losses == whole.losses[:stop]
    again = train(out, data(store), trainer=loops, ckpt_path=f"{out}/step{checkpoint}.ckpt")
    assert again.losses == whole.losses[checkpoint:]
    assert again.rates == whole.rates[checkpoint:]
    assert again.metrics["val/hmean"] == whole.metrics["val/hmean"]
    samples = len(flat(again.images))
    assert 0 < again.metrics["time/train_sample"] * samples / 1000 < again.seconds


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ({"max_epochs": 1}, 6),
        ({"max_steps": 8, "max_epochs": -1}, 8),
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, 18),
    ],
    ids=["an epoch", "in an epoch", "not validated"],
)
def test_the_last_checkpoint_is_the_last_state(
    limits: dict[str, int], steps: int, store: str, tmp_path: Path
) -> None:
    # The rate does not depend on how long the training is to be.
    constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
    model, out = {"lr_scheduler": constant}, str(tmp_path / "out")
    whole = train(str(tmp_path / "whole"), data(store), model, {"max_epochs": 4})
    first = train(out, data(store), model, limits, last=True)
    assert first.losses == whole.losses[:steps]
    state = read_checkpoint(tmp_path / "out" / "last.ckpt")
    assert state["global_step"] == steps
    again = train(out, data(store), model, {"max_epochs": 4}, ckpt_path=f"{out}/last.ckpt")
    assert again.losses == whole.losses[steps:]


@pytest.mark.parametrize("checkpoint", [4, 6, 8])
def test_a_training_goes_on_with_another_batch_size(
    checkpoint: int, store: str, tmp_path: Path
) -> None:
    loops, out = {"max_epochs": 4}, str(tmp_path)
    plain = {"augmentation": {}}  # so that an image can be told in any epoch
    whole = train(out, data(store, **plain), trainer=loops, checkpoint_every=checkpoint)
    path = f"{out}/step{checkpoint}.ckpt"
    again = train(out, data(store, batch_size=7, **plain), trainer=loops, ckpt_path=path)
    seen = flat(whole.images[:checkpoint])
    assert seen + flat(again.images) == flat(whole.images)
    sizes = [min(7, 22 - len(seen) % 22 - start) for start in range(0, 22 - len(seen) % 22, 7)]
    assert [len(step) for step in again.images[: len(sizes)]] == sizes
    # the learning rate goes on from where it was, and is nearly zero at the end, not before
    assert again.rates[0] == whole.rates[checkpoint]
    assert again.rates == sorted(again.rates, reverse=True)
    assert 0 < again.rates[-1] < 2 * whole.rates[-1]


@pytest.mark.time
def test_a_training_goes_on_in_another_number_of_processes(store: str, tmp_path: Path) -> None:
    plain, loops = {"augmentation": {}}, {"max_epochs": 2}
    whole = train(str(tmp_path), data(store, **plain), trainer=loops, checkpoint_every=4)
    two = in_processes(
        tmp_path / "two",
        2,
        data=data(store, batch_size=3, **plain),
        trainer=loops,
        ckpt_path=str(tmp_path / "step4.ckpt"),
    )
    assert len(two[0]["images"]) == len(two[1]["images"]) == 1 + 4
    together = [flat(step) for step in zip(*(rank["images"] for rank in two), strict=True)]
    assert flat(together) == flat(whole.images[4:])


def test_the_best_so_far_is_known_in_another_folder(store: str, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    train(str(first), data(store), last=True)
    checkpoints = {"best.ckpt", "last.ckpt"}
    assert {path.name for path in first.glob("*.ckpt")} == checkpoints
    loops = {"max_epochs": 2, "limit_val_batches": 1}
    more = {"trainer": loops, "last": True, "ckpt_path": str(first / "last.ckpt")}
    train(str(second), data(store), **more)  # so small a network finds nothing, and is no better
    assert {path.name for path in second.glob("*.ckpt")} == {"last.ckpt"}
    (first / "best.ckpt").unlink()
    train(str(third), data(store), **more)
    assert {path.name for path in third.glob("*.ckpt")} == checkpoints


def test_a_training_goes_on_in_the_same_order_alone(store: str, tmp_path: Path) -> None:
    out = str(tmp_path)
    train(out, data(store), trainer={"limit_train_batches": 1}, last=True)
    with pytest.raises(StoreError, match=r"with seed 0, but data\.seed is 1, which gives another"):
        train(out, data(store, seed=1), ckpt_path=f"{out}/last.ckpt")
    with pytest.raises(StoreError, match="split 'val' is not what the checkpoint was trained on"):
        train(out, data(store, train="val"), ckpt_path=f"{out}/last.ckpt")


def in_processes(out: Path, count: int, **arguments: Any) -> list[dict[str, Any]]:
    """What each of several processes saw of a training."""
    loops = {"devices": count, "strategy": "ddp" if count > 1 else "auto"}
    loops |= arguments.pop("trainer", {})
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("train_once.py")),
            json.dumps({"out": str(out), "trainer": loops, **arguments}),
        ],
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(count)]


def test_two_processes_do_what_one_does(store: str, dataset: Dataset, tmp_path: Path) -> None:
    loops, model = {"max_epochs": 1}, {"norm": "group"}
    (one,) = in_processes(
        tmp_path / "one", 1, data=data(store, batch_size=4), model=model, trainer=loops
    )
    two = in_processes(
        tmp_path / "two", 2, data=data(store, batch_size=2), model=model, trainer=loops
    )
    together = np.mean([rank["losses"] for rank in two], axis=0)
    assert together.shape == (6,)
    assert np.allclose(together, one["losses"], atol=1e-5, rtol=0)
    # every sample of validation exactly once, however unevenly they are shared
    names = sorted(dataset.document["images"])
    counts = [len(rank["names"]) for rank in two]
    assert counts[0] != counts[1]
    assert sorted(two[0]["names"] + two[1]["names"]) == sorted(one["names"]) == names
    metrics = [{k: v for k, v in r["metrics"].items() if k.startswith("val/")} for r in (one, *two)]
    assert metrics[0] == metrics[1] == metrics[2]
    assert two[0]["metrics"]["time/sync"] > 0


@pytest.mark.time
def test_a_process_without_any_validation_sample(
    store: str, dataset: Dataset, tmp_path: Path
) -> None:
    one = Dataset(tmp_path / "one", count=1, seed=5)
    build("single", one.source, Settings(store=store, size=64, backend="sequential"))
    ranks = in_processes(
        tmp_path / "out", 2, data=data(store, batch_size=2, val="single"), trainer={"max_epochs": 1}
    )
    assert [len(rank["names"]) for rank in ranks] == [1, 0]
    assert ranks[0]["metrics"]["val/recall"] == ranks[1]["metrics"]["val/recall"]


@pytest.mark.time
def test_checkpointed_activations_change_no_loss(store: str, tmp_path: Path) -> None:
    losses = [
        train(
            str(tmp_path / str(number)),
            data(store),
            model={"activation_checkpointing": mode, **more},
        ).losses
        for number, (mode, more) in enumerate(
            [
                ("none", {}),
                ("selective", {}),
                ("full", {}),
                ({"stage1": "full", "neck": "selective"}, {}),
                ("auto", {"memory_budget": 0.0001}),
            ]
        )
    ]
    assert all(other == losses[0] for other in losses[1:])


def test_offloaded_activations_change_no_loss(store: str, tmp_path: Path) -> None:
    plain = train(str(tmp_path / "a"), data(store))
    offloaded = train(str(tmp_path / "b"), data(store), model={"offload_activations": True})
    assert offloaded.losses == plain.losses


def test_bf16_follows_full_precision(store: str, tmp_path: Path) -> None:
    full = train(str(tmp_path / "a"), data(store))
    half = train(str(tmp_path / "b"), data(store), trainer={"precision": "bf16-mixed"})
    assert np.isfinite(half.losses).all()
    assert np.allclose(half.losses, full.losses, rtol=0.1)
    assert half.losses != full.losses


# -------------------------------------------------------------------------------- the command


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["ocr-train", *map(str, arguments)])
    command.main()


def quick(store: str, out: Path) -> list[str]:
    """Arguments for a training of seconds."""
    return [
        *("--config", str(CONFIG)),
        *("--data.store", store, "--data.batch_size", "4", "--data.augmentation.crop", "48"),
        *("--model.backbone", str(BACKBONE), "--model.channels", "16"),
        *("--trainer.default_root_dir", str(out), "--trainer.logger.init_args.save_dir", str(out)),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
        *("--trainer.accelerator", "cpu"),
    ]


@pytest.fixture(scope="module")
def trained(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of checkpoints of a short training by the command."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        run(
            patch,
            "fit",
            *quick(store, out),
            "--trainer.max_epochs",
            2,
            "--trainer.check_val_every_n_epoch",
            1,
        )
    return next(out.rglob("checkpoints"))


def test_fit_writes_the_best_and_the_last(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {"best.ckpt", "last.ckpt"}
    checkpoint = read_checkpoint(trained / "last.ckpt")
    architecture = {"backbone": str(BACKBONE), "channels": 16, "norm": "batch"}
    config = checkpoint["text_detector"].pop("backbone_config")
    assert checkpoint["text_detector"] == architecture
    assert config["depths"] == [1, 1, 1, 1]
    assert "_name_or_path" not in config  # a checkpoint may be given away
    metrics = (trained.parent / "metrics.csv").read_text()
    for name in ("train/loss", "val/hmean", "val/precision", "time/loader_wait", "time/val_sample"):
        assert name in metrics.splitlines()[0]
    for name in ("time/samples_per_second", "stage/forward/p50", "wait/loader/max"):
        assert name in metrics.splitlines()[0]


def test_each_epoch_says_where_its_time_and_memory_went(trained: Path) -> None:
    lines = (trained.parent / "performance.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert [first["epoch"], second["epoch"]] == [0, 1]
    for line in (first, second):
        steps = line["stages"]["forward"]["count"]
        assert steps == second["step"] - first["step"] == first["step"]
        assert {line["stages"][name]["count"] for name in ("backward", "optimiser")} == {steps}
        assert line["waits"]["loader"]["count"] > steps  # those of the validation too
        assert line["stages"]["postprocess"]["count"] == line["samples"]["val"] > 0
        assert line["stages"]["match"]["count"] == line["samples"]["val"]
        assert line["stages"]["checkpoint"]["count"] >= 1
        assert line["seconds"]["train"] > line["stages"]["backward"]["seconds"] > 0
        assert line["memory"] > 10**7
        assert line["device_memory"] is None
        assert line["figures"]["samples_per_second"] * line["seconds"]["train"] == pytest.approx(
            line["samples"]["train"]
        )


def test_tensorboard_gets_the_same_figures(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*quick(store, tmp_path), "--trainer.max_epochs", 1]
    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", tmp_path]
    run(monkeypatch, "fit", *arguments, *logger)
    events = next(tmp_path.rglob("events.out.tfevents.*"))
    assert events.with_name("performance.jsonl").exists()
    for name in (b"train/loss", b"time/loader_wait", b"stage/forward/p50", b"wait/loader/max"):
        assert name in events.read_bytes()


def test_a_training_goes_on_where_its_figures_cannot_be_written(tmp_path: Path) -> None:
    performance = Performance()
    performance._file = tmp_path / FILE_NAME
    performance._file.mkdir()
    with pytest.warns(UserWarning, match=r"performance\.jsonl: cannot be written \(Is a directory"):
        performance._write({"epoch": 0})
    performance._write({"epoch": 1})


@pytest.mark.parametrize("subcommand", ["validate", "test"])
def test_validate_and_test(
    subcommand: str,
    store: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(monkeypatch, subcommand, *quick(store, tmp_path), "--ckpt_path", trained / "best.ckpt")
    assert "hmean" in capsys.readouterr().out


def test_what_predict_writes_can_be_built_and_evaluated(
    store: str,
    dataset: Dataset,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "found"
    arguments = [*quick(store, tmp_path), "--ckpt_path", trained / "last.ckpt"]
    arguments += ["--predictions.out", out, "--data.images", dataset.images]
    arguments += ["--model.postprocess.min_score", 0, "--model.postprocess.threshold", 0.01]
    run(monkeypatch, "predict", *arguments)
    document = json.loads((out / "predictions.json").read_text())
    assert list(document["images"]) == sorted(dataset.document["images"])
    words = [w for entry in document["images"].values() for w in entry["words"].values()]
    assert words
    assert all(0 <= word["score"] <= 1 and len(word["points"]) >= 4 for word in words)
    points = np.array([point for word in words for point in word["points"]])
    assert points.max() > 64  # original pixels, not canonical ones
    assert points.min() >= 0
    assert (points <= [80, 96]).all()
    assert len(list((out / "overlays").glob("*.png"))) == len(document["images"])
    source = {"images": dataset.images, "annotations": out / "predictions.json"}
    settings = Settings(
        store=tmp_path / "again", size=64, backend="sequential", splits={"p": source}
    )
    assert build("p", settings.source("p"), settings).samples == len(document["images"])
    files = ["--images", dataset.images, "--annotations", dataset.annotations]
    files += ["--predictions", out / "predictions.json"]
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["ocr-train", "evaluate", *map(str, files), "--json"])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["unpredicted"]) == (len(document["images"]), [])
    assert 0 < found["metrics"]["icdar"]["detected"] <= len(words)


@pytest.fixture
def photos(dataset: Dataset, tmp_path: Path) -> Path:
    """A folder of eight images, one of them damaged, with files beside them that are none."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for number, path in enumerate(sorted(dataset.images.iterdir())[:8]):
        (folder / ("deeper" if number == 3 else ".") / path.name).write_bytes(path.read_bytes())
    (folder / "page_005.jpg").write_bytes(b"no image")
    for name in ("._page_001.jpg", ".hidden/page_001.jpg", "notes.txt"):
        (folder / name).write_bytes(b"Mac OS X")
    return folder


def test_predict_takes_a_checkpoint_and_images_alone(
    photos: Path,
    spoilt: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(photos.parent)
    gone = {"backbone": "a/folder/that/is/gone"}
    fetched = {"pretrained": True, "backbone_weights": "another"}  # not for a checkpoint to say
    checkpoint = spoilt(lambda c: c["text_detector"].update(gone | fetched))
    arguments = ("predict", "--ckpt_path", checkpoint, "--data.images", "photos")
    said = failure(monkeypatch, capsys, *arguments)
    assert "photos/page_005.jpg: is not a JPEG" in said
    run(monkeypatch, *arguments, "--data.skip_bad", "true", "--data.batch_size", 3)
    assert "left out: photos/page_005.jpg: is not a JPEG" in capsys.readouterr().err
    assert "in 7 images; left out, for they cannot be read: 1" in caplog.text
    assert {path.name for path in photos.parent.iterdir()} >= {"photos", "predictions"}
    assert {path.name for path in Path("predictions").iterdir()} == {"predictions.json", "overlays"}
    assert not Path("lightning_logs").exists()
    found = json.loads(Path("predictions/predictions.json").read_text())["images"]
    names = [f"page_{number:03d}.jpg" for number in (0, 1, 2, 4, 6, 7)]
    assert list(found) == ["deeper/page_003.jpg", *names]
    picture = cv2.imread("predictions/overlays/page_000.jpg.png")
    assert picture.shape == (64, 53, 3)  # as large as the training saw its own, without padding
    run(monkeypatch, *arguments, "--data.skip_bad", "true", "--data.size", 96)
    assert cv2.imread("predictions/overlays/page_000.jpg.png").shape == (96, 80, 3)


def test_predict_and_python_find_the_same(
    photos: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by tiles, which a long page has by itself."""
    page = cv2.imread(str(photos / "page_000.jpg"))
    assert cv2.imwrite(str(photos / "long.png"), np.tile(page, (8, 1, 1)))
    monkeypatch.chdir(photos.parent)
    run(
        monkeypatch,
        *("predict", "--ckpt_path", trained / "best.ckpt", "--data.images", "photos"),
        *("--data.batch_size", 1, "--data.skip_bad", "true", "--predictions.overlays", "false"),
        *("--model.postprocess.min_score", 0, "--model.postprocess.threshold", 0.02),
    )
    found = json.loads(Path("predictions/predictions.json").read_text())["images"]
    loaded = load(trained / "best.ckpt")
    detector = replace(loaded, postprocess=PostProcess(min_score=0, threshold=0.02))
    here = {name: as_words(detector(photos / name)) for name in found}
    assert {name: entry["words"] for name, entry in found.items()} == here
    assert len(here) == 8
    assert here["long.png"] != as_words(detector(photos / "long.png", tile=None))
    told = loaded.description
    assert (told.size, told.decode, list(told.metrics)) == ((64, 64), "exact", ["val/hmean"])
    assert len(told.data_hash) == 64


def test_what_was_predicted_when_it_is_stopped_can_be_built(
    photos: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_step = TextDetector.predict_step

    def stopped(module: TextDetector, batch: dict[str, Any], index: int) -> Any:
        if index == 2:
            raise KeyboardInterrupt
        return predict_step(module, batch, index)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TextDetector, "predict_step", stopped)
    (photos / "page_005.jpg").unlink()
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as caught:
            run(
                monkeypatch,
                *("predict", "--ckpt_path", trained / "last.ckpt", "--data.images", photos),
                *("--data.batch_size", 2, "--predictions.overlays", "false"),
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught.value.code == 130
    part = tmp_path / "predictions" / "predictions.part.json"
    assert list(tmp_path.joinpath("predictions").iterdir()) == [part]
    settings = Settings(store=tmp_path / "again", size=64, backend="sequential")
    assert build("p", Source(images=photos, annotations=part), settings).samples == 4


def failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    """The one line that a failing command says."""
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *arguments)
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1, lines
    return lines[0]


FAULTS = [
    (["--data.size", "128"], "split 'train' is of size 64x64, but data.size is 128x128; correct"),
    (
        ["--data.recipe", "seed"],
        "split 'train' has labels of recipe dbnet, but data.recipe is seed",
    ),
    (["--data.train", "trian"], "no split 'trian' in this store; splits: empty, "),
    (["--data.train", "empty"], "split 'empty' holds no samples; annotate some images"),
    (["--data.val", "empty"], "split 'empty' holds no samples"),
    (["--data.store", "nowhere"], "nowhere: there is no store here; `ocr-precompute build` makes"),
    (["--data.batch_size", "0"], "batch_size is 0; it must be at least 1"),
    (["--data.augmentation.flip", "3"], "flip is 3.0; it must be from 0 to 1"),
    (["--model.backbone", "./nothing"], "backbone './nothing' cannot be loaded"),
    (["--model.activation_checkpointing", "auto"], "auto needs memory_budget, in GB"),
    (["--model.activation_checkpointing", "{stage7: full}"], "no stage 'stage7'; one of stem"),
    (["--model.weights", "none.ckpt"], "none.ckpt: cannot be read: No such file"),
    (["--model.chanels", "16"], "chanels"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), FAULTS, ids=[f"{a[0]} {a[1]}" for a, _ in FAULTS]
)
def test_faults_are_one_clear_line(
    arguments: list[str],
    message: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = read_manifest(Path(store), "val")
    assert manifest is not None
    empty = replace(manifest, split="empty", parts=(), shards=(), data_hash=data_hash([]))
    manifest_path(Path(store), "empty").write_bytes(empty.to_bytes())
    assert message in failure(monkeypatch, capsys, "fit", *quick(store, tmp_path), *arguments)


def test_a_checkpoint_of_another_model(
    store: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    best = trained / "best.ckpt"
    wrong = [*quick(store, tmp_path), "--model.channels", 32]
    said = failure(monkeypatch, capsys, "validate", *wrong, "--ckpt_path", best)
    assert "of another model: its channels is 16, and model.channels is 32; correct" in said
    said = failure(monkeypatch, capsys, "fit", *wrong, "--model.weights", best)
    assert f"{best} is of another model" in said
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.0.0"}, foreign)
    said = failure(monkeypatch, capsys, "fit", *quick(store, tmp_path), "--model.weights", foreign)
    assert "holds no text detector" in said


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_only_a_trained_model_is_evaluated(
    subcommand: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = failure(monkeypatch, capsys, subcommand, *quick(store, tmp_path))
    assert f"{subcommand} needs a trained model; name one with --ckpt_path" in said


@pytest.fixture
def spoilt(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a checkpoint that something was done to."""

    def make(change: Callable[[dict[str, Any]], Any]) -> Path:
        checkpoint = torch.load(trained / "last.ckpt", weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, tmp_path / "spoilt.ckpt")
        return tmp_path / "spoilt.ckpt"

    return make


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (lambda c: c["state_dict"].pop(_first(c)), "lacks the model's model."),
    "unknown": (lambda c: c["state_dict"].update(x=torch.ones(1)), "'x', which the model lacks"),
    "shape": (lambda c: c["state_dict"].update({_first(c): torch.ones(3)}), "is of shape (3,), n"),
    "nan": (lambda c: c["state_dict"][_first(c)].fill_(float("nan")), "are no finite numbers"),
    "no tensor": (lambda c: c["state_dict"].update({_first(c): 3}), "is of shape None, not"),
    "no weights": (lambda c: c.update(state_dict=[]), "holds no model"),
}


def _first(checkpoint: dict[str, Any]) -> str:
    return str(next(iter(checkpoint["state_dict"])))


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_checkpoint(
    kind: str,
    spoilt: Callable[..., Path],
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change, message = SPOILT[kind]
    path, arguments = spoilt(change), quick(store, tmp_path)
    assert message in failure(monkeypatch, capsys, "validate", *arguments, "--ckpt_path", path)
    assert message in failure(monkeypatch, capsys, "fit", *arguments, "--model.weights", path)


RESNET = {"model_type": "resnet", "hidden_sizes": [8] * 4, "out_indices": [1, 2, 3, 4]}
NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "wide": ({"channels": 2**18}, "is of shape"),  # some terabytes of weights
    "immense": ({"channels": 2**33}, "a number in it is above"),
    "deep": ({"backbone_config": {**RESNET, "depths": [10**6] * 4}}, "parameters"),
    "negative": ({"channels": -8}, "cannot be made"),
    "no number": ({"channels": "many"}, "cannot be made"),
    "unknown": ({"backbone": "../nowhere", "backbone_config": None}, "cannot be made"),
    "odd": ({"backbone_config": {"model_type": "nothing"}}, "cannot be made"),
    "no dict": ({"backbone_config": [1]}, "cannot be made"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_checkpoint_that_lies_about_its_network(
    kind: str,
    spoilt: Callable[..., Path],
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, message = NETWORKS[kind]
    path = spoilt(lambda c: c["text_detector"].update(network))
    arguments = ("predict", "--ckpt_path", path, "--data.store", store)
    assert message in failure(monkeypatch, capsys, *arguments, "--data.val", "val")


def test_a_checkpoint_that_no_training_can_go_on_from(
    spoilt: Callable[..., Path],
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("fit", *quick(store, tmp_path), "--ckpt_path")
    path = spoilt(lambda c: c.pop("optimizer_states"))
    assert "holds no optimizer_states, so a training" in failure(
        monkeypatch, capsys, *arguments, path
    )
    path = spoilt(lambda c: c["optimizer_states"][0]["state"][0]["exp_avg"].fill_(float("inf")))
    assert "its optimiser state holds values" in failure(monkeypatch, capsys, *arguments, path)


NOTHING = {
    "endless": (["--trainer.max_epochs", "-1"], "this one has none; set trainer.max_epochs"),
    "no epoch": (["--trainer.max_epochs", "0"], "nothing was trained, for the settings allow no"),
    "no batch": (["--trainer.limit_train_batches", "0"], "nothing was trained"),
    "no text": (["--data.train", "untold"], "split 'untold' holds no text to learn: there is none"),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_nothing_to_train(
    kind: str,
    store: str,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    untold = tmp_path / "untold.json"
    untold.write_text(json.dumps({"images": {"page_001.jpg": {"words": {}}}}))
    source = Source(images=dataset.images, annotations=untold)
    build("untold", source, Settings(store=store, size=64, backend="sequential"))
    arguments, message = NOTHING[kind]
    said = failure(monkeypatch, capsys, "fit", *quick(store, tmp_path), *arguments)
    assert message in said


def test_nothing_is_left_to_train(
    store: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = ("--trainer.max_epochs", 2, "--ckpt_path", trained / "last.ckpt")
    said = failure(monkeypatch, capsys, "fit", *quick(store, tmp_path), *more)
    assert "nothing was left to train" in said
    assert "has done 2 epochs and 12 steps; to go on, raise --trainer.max_epochs" in said


@pytest.mark.time
@pytest.mark.parametrize("kind", ["too few samples", "a damaged sample"])
def test_of_two_processes_one_says_what_is_wrong(
    kind: str, store: str, dataset: Dataset, tmp_path: Path
) -> None:
    own = tmp_path / "store"
    few = {"images": dict(list(dataset.document["images"].items())[: 1 if "few" in kind else 23])}
    (tmp_path / "few.json").write_text(json.dumps(few))
    source = Source(images=dataset.images, annotations=tmp_path / "few.json")
    settings = Settings(store=own, size=64, backend="sequential")
    for split in ("train", "val"):
        build(split, source, settings)
    if "damaged" in kind:
        for shard in shards(own):
            flip_chunk(shard, "image")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ocr.train", "fit", *quick(str(own), tmp_path)),
            *("--trainer.devices", "2", "--trainer.strategy", "ddp"),
        ],
        cwd=tmp_path,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert errors == done.stderr.splitlines()[-1:]
    wrong = "holds too few samples (1) for 2 processes" if "few" in kind else "error: sample 'page_"
    assert wrong in errors[0]


def test_a_log_shows_how_far_a_training_is(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress_lines, "_EVERY", 0.0)
    arguments = [*quick(store, tmp_path), "--trainer.max_epochs", 2, "--data.batch_size", 11]
    run(monkeypatch, "fit", *arguments, "--trainer.check_val_every_n_epoch", 2)
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line[:5] in ("epoch", "valid")
    ]
    step = r"epoch {} of 2, step {} of 2, loss [\d.]+, 0:00:\d\d left"
    expected = [step.format(epoch, number) for epoch in (1, 2) for number in (1, 2)]
    expected += ["validation: batch 1 of 3", "validation: batch 2 of 3", "validation: batch 3 of 3"]
    expected += [step.format(2, 2).replace(", 0:00", r", H-mean [\d.]+, 0:00")]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), line
    assert lines[-1].endswith("0:00:00 left")


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("kind", ["code", "garbage", "empty"])
def test_a_hostile_or_damaged_checkpoint(
    kind: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, touched = tmp_path / "bad.ckpt", tmp_path / "touched"
    if kind == "code":
        torch.save({"state_dict": {}, "x": Payload(touched)}, path)
    else:
        path.write_bytes(b"" if kind == "empty" else os.urandom(999))
    for flag in ("--ckpt_path", "--model.weights"):
        said = failure(monkeypatch, capsys, "fit", *quick(store, tmp_path), flag, path)
        assert "is no checkpoint of weights and plain data, or is damaged" in said
    assert not touched.exists()


def test_a_store_that_changed_since_the_checkpoint(
    dataset: Dataset,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Dataset(tmp_path / "other", count=12, seed=9)
    settings = Settings(store=tmp_path / "changed", size=64, backend="sequential")
    for split in ("train", "val"):
        build(split, other.source, settings)
    changed = quick(str(settings.store), tmp_path)
    last = trained / "last.ckpt"
    said = failure(monkeypatch, capsys, "fit", *changed, "--ckpt_path", last)
    assert "split 'train' is not what the checkpoint was trained on (data hash " in said
    # its weights may be used all the same, and it may be validated on anything
    run(monkeypatch, "validate", *changed, "--ckpt_path", last)
    run(monkeypatch, "fit", *changed, "--model.weights", last, "--trainer.fast_dev_run", "true")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_is_a_small_override_that_loads(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "fit", "--config", CONFIG, "--config", path, "--print_config")
    assert caught.value.code == 0
    merged = yaml.safe_load(capsys.readouterr().out)

    def check(part: Any, whole: Any) -> None:
        for key, value in part.items():
            if key.endswith("+"):
                assert all(
                    any(v["class_path"] == w["class_path"] for w in whole[key[:-1]]) for v in value
                )
            elif isinstance(value, dict):
                check(value, whole[key])
            else:
                assert whole[key] == value

    check(yaml.safe_load(path.read_text()), merged)


DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "training.md", ROOT / "scripts" / "quickstart"]
LINES = sorted(
    {
        " ".join(line.replace("\\\n", " ").split())
        for path in DOCUMENTS
        for line in re.findall(r"ocr-train ((?:[^\n\\]|\\\n)*)", path.read_text())
        if line.startswith(("fit -", "validate -", "test -", "predict -"))
    }
)


@pytest.mark.parametrize("line", LINES)
def test_commands_in_the_documents_are_real(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    # a checkpoint that a document names is there only after a training
    monkeypatch.setattr(command, "read_checkpoint", lambda path: {})
    monkeypatch.setattr(command, "check_resumable", lambda checkpoint, path: None)
    tuned = tmp_path / "tuned.yaml"  # what a document has another command write first
    tuned.write_text("model: {postprocess: {threshold: 0.4}}\n")
    line = line.split("`")[0].replace("...", "some.ckpt").replace("tuned.yaml", str(tuned))
    arguments = shlex.split(line, comments=True)
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *arguments, "--print_config")
    assert caught.value.code == 0, capsys.readouterr().err


def test_the_configuration_fits_the_store_of_the_quickstart() -> None:
    settings = yaml.safe_load(CONFIG.read_text())
    compiled = load_settings(ROOT / "configs" / "precompute.yaml", {})
    assert settings["data"]["store"] == str(compiled.store)
    assert {settings["data"]["train"], settings["data"]["val"]} <= set(compiled.splits)
