"""Image files as users bring them: read, or refused in a true line, or built and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset, published, run_apart
from local import manifest_path, read_manifest
from shards import change_record, shards

from ocr.datasets import LiveDataset
from ocr.datasets.folder import ImageFolder
from ocr_precompute.checking.verify import verify
from ocr_precompute.errors import DamagedImageWarning, InputError
from ocr_precompute.format.manifest import Damaged
from ocr_precompute.images.decoding import decode
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline import publish
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports.summary import summarise
from ocr_precompute.settings import Settings, Source

CASES = Path(__file__).with_name("cases")
WORDS = "Corrupt JPEG data: premature end of data segment"


def case(name: str) -> Source:
    folder = CASES / name
    annotations = folder / "gt.json"
    return Source(
        images=folder / "img",
        annotations=annotations if annotations.exists() else folder / "gt",
    )


@pytest.mark.parametrize("name", ["jpg_extraneous", "png_trailing"])
@pytest.mark.parametrize("decode", ["exact", "reduced"])
def test_stray_bytes_are_read(name: str, decode: str, settings: Settings) -> None:
    large = settings.model_copy(update={"decode": decode, "size": (160, 160)})
    report = build("val", case(name), large, strict=True)
    assert report.samples == 1
    assert report.damaged == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bigtiff", "is a BigTIFF, which is not supported; convert it to TIFF or PNG"),
        ("tiff_float", "is a TIFF of 32-bit floating-point numbers, which is not supported; conv"),
    ],
)
@pytest.mark.parametrize("decode", ["exact", "reduced"])
def test_other_kinds_are_truly_named(
    name: str, message: str, decode: str, settings: Settings
) -> None:
    with pytest.raises(InputError, match=message):
        build("val", case(name), settings.model_copy(update={"decode": decode}))


@pytest.mark.parametrize("decode", ["exact", "reduced"])
def test_a_damaged_jpeg_is_built_and_named(decode: str, settings: Settings) -> None:
    source = case("jpg_damaged_middle")
    settings = settings.model_copy(update={"decode": decode, "size": (160, 160)})
    report = build("val", source, settings)
    assert report.damaged == (Damaged("a.jpg", WORDS, 0.3),)
    assert summarise(settings.store).splits[0].damaged == report.damaged
    assert open_store(settings.store).split("val")[0].damage == report.damaged[0].damage
    assert verify(settings.store, sources={"val": source}, recompute=1).ok
    with pytest.raises(InputError, match=rf"a\.jpg: is damaged: {WORDS}; .* 30\.0% .*--strict"):
        build("val", source, settings, strict=True)


def damage(path: Path, share: float = 0.6) -> None:
    """Overwrite what follows that share of a file with the end marker."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)] + b"\xff\xd9")


@pytest.fixture
def damaged(dataset: Dataset) -> Dataset:
    """A data set, two of its images damaged."""
    for name in ("page_003.jpg", "page_020.jpg"):
        damage(dataset.images / name)
    return dataset


@pytest.mark.parametrize(
    "backend", ["loky", pytest.param("threading", marks=pytest.mark.time), "sequential"]
)
def test_the_command_names_each_and_the_decoder_says_nothing_by_itself(
    damaged: Dataset, tmp_path: Path, backend: str
) -> None:
    flags = [*damaged.flags(), "--store", tmp_path / "store", "--size", "64", "--jobs", 2]
    built = run_apart("build", *flags, "--backend", backend, "--json")
    assert built.returncode == 0
    named = json.loads(built.stdout)["damaged"]
    assert [each["sample"] for each in named] == ["page_003.jpg", "page_020.jpg"]
    lines = [line for line in built.stderr.splitlines() if "JPEG" in line or "damaged" in line]
    assert len(lines) == 2
    assert all(f"{each['sample']}: is damaged: {WORDS}" in built.stderr for each in named)
    if backend == "sequential":
        strict = run_apart("build", *flags, "--strict")
        assert strict.returncode == 2
        assert "page_020.jpg: is damaged" in strict.stderr
        assert "Traceback" not in strict.stderr
        shown = run_apart("inspect", "--store", tmp_path / "store")
        assert f"val: page_003.jpg: is damaged: {WORDS}" in shown.stderr


def test_live_reading_warns_with_the_name(
    damaged: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    live = LiveDataset(damaged.images, damaged.annotations, ("image",), size=64)
    folder = ImageFolder(damaged.images, Parameters(size=(64, 64)))
    for each in (live, folder):
        out = {"image": np.empty((24, 64, 64, 3), np.uint8)}
        with pytest.warns(DamagedImageWarning) as warned:
            each.fill(range(24), out)
        texts = [str(warning.message) for warning in warned]
        assert [Path(text.partition(": ")[0]).name for text in texts] == [
            "page_003.jpg",
            "page_020.jpg",
        ]
        assert all(WORDS in text for text in texts)
    assert capfd.readouterr().err == ""


def test_damage_is_the_same_after_any_history(
    damaged: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a store went through, it ends as one that is built at once."""

    class Stop(Progress):
        def encoded(self, result: object) -> None:
            raise KeyboardInterrupt

    def renamed() -> None:
        damaged.rename("page_003.jpg", "zebra.jpg")

    def mended() -> None:
        damaged.add("page_020.jpg")

    def worse() -> None:
        damage(damaged.images / "page_007.jpg", 0.5)

    def edited() -> None:
        damaged.points("zebra.jpg")[0][0] += 1

    def forgotten() -> None:
        manifest_path(settings.store, "val").unlink()

    with pytest.raises(KeyboardInterrupt):
        build("val", damaged.source, settings, progress=Stop())
    build("val", damaged.source, settings)
    changes: list[Callable[[], None]] = [renamed, mended, worse, edited, forgotten]
    for number, change in enumerate(changes):
        change()
        damaged.save()
        report = build("val", damaged.source, settings)
        fresh = settings.model_copy(update={"store": tmp_path / f"fresh_{number}"})
        assert build("val", damaged.source, fresh).damaged == report.damaged
        assert report.damaged
        ours = published(settings.store)
        assert all(ours[name] == data for name, data in published(fresh.store).items())


def test_a_build_with_nothing_to_do_reads_no_records(
    damaged: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build("val", damaged.source, settings)
    monkeypatch.setattr(publish.StoredShard, "open", lambda *_: pytest.fail("read"))
    again = build("val", damaged.source, settings)
    assert again.up_to_date
    assert again.damaged == first.damaged


def test_what_is_said_of_damage_is_verified(damaged: Dataset, settings: Settings) -> None:
    build("val", damaged.source, settings)
    path = manifest_path(settings.store, "val")
    manifest = read_manifest(settings.store, "val")
    path.write_bytes(path.read_bytes().replace(b"page_020.jpg", b"page_021.jpg"))
    assert "not those of its shards" in verify(settings.store).problems[0].detail
    path.write_bytes(manifest.to_bytes())
    for text in (b"[[0, 1, 2]]", b'[[99, "a", null]]', b"{", b'[[0, "a", 7]]', b"[" * 9999):
        copy = settings.store.with_name("copy")
        shutil.copytree(settings.store, copy, dirs_exist_ok=True)
        change_record(shards(copy)[0], "damage", lambda _, text=text: np.frombuffer(text, "u1"))
        kinds = {finding.kind for finding in verify(copy).problems}
        assert "checksum" in kinds


def test_a_receipt_that_lost_its_last_rows_builds(shared: Path, tmp_path: Path) -> None:
    """Real data: of a scan cut short, the share told is what is lost, to a row of blocks."""
    path = min((shared / "sroie").rglob("*.jpg"))
    data = path.read_bytes()
    cut = data[: int(0.97 * len(data))]
    whole, left = (decode(d, (64, 64), "exact", 10**7).pixels for d in (data, cut))
    dataset = Dataset(tmp_path / "data", 2)
    dataset.add("receipt.jpg")
    (dataset.images / "receipt.jpg").write_bytes(cut)
    dataset.save()
    settings = Settings(store=tmp_path / "store", size=64, backend="sequential")
    (found,) = build("val", dataset.source, settings).damaged
    assert found.words == "Premature end of JPEG file"
    rows = np.flatnonzero((left != whole).any(axis=(1, 2)))
    assert found.lost == pytest.approx(1 - rows[0] / len(whole), abs=17 / len(whole))
