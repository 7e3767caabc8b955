"""New images that others read: the same scan, and nothing read here but what went wrong there."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import Dataset

from ocr_precompute.errors import InputError
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.digesting import DigestResult, DigestTask, digest_images
from ocr_precompute.pipeline.scan import Looking, Scan, scan
from ocr_precompute.settings import Rules, Source
from ocr_precompute.storage.digests import DigestCache

PARAMETERS = Parameters(size=(64, 64))


class Elsewhere:
    """A worker; what it reads is read in no other process, but counted apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks: list[DigestTask] = []
        self.read_here: list[str] = []
        read_bytes = Path.read_bytes

        def counted(path: Path) -> bytes:
            self.read_here.append(path.name)
            return read_bytes(path)

        monkeypatch.setattr(Path, "read_bytes", counted)
        monkeypatch.setattr("ocr_precompute.pipeline.scan._WORTH_OTHERS", 5)
        monkeypatch.setattr("ocr_precompute.pipeline.scan._SCAN_PART", 4)
        monkeypatch.setattr(DigestCache, "_SETTLED_NS", -1)

    def __call__(self, tasks: Sequence[DigestTask]) -> Iterator[DigestResult]:
        for task in reversed(tasks):  # results come in any order
            self.tasks.append(task)
            result = digest_images(pickle.loads(pickle.dumps(task)))
            del self.read_here[-len(task.names) :]
            yield pickle.loads(pickle.dumps(result))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    return Elsewhere(monkeypatch)


def scanned(dataset: Dataset, looking: Looking, skip: str = "no") -> Scan:
    source = Source(images=dataset.images, annotations=dataset.annotations)
    source = source.ruled(Rules(), PARAMETERS.recipe)
    source = source.skipping("polygon") if skip == "polygon" else source
    with DigestCache(dataset.images.parent / f"cache of {looking.elsewhere}") as cache:
        return scan(source, PARAMETERS, 2**20, cache, looking=looking)


def test_what_others_read_is_not_read_here(dataset: Dataset, elsewhere: Elsewhere) -> None:
    expected = list(scanned(dataset, Looking()).samples)
    elsewhere.read_here.clear()
    found = list(scanned(dataset, Looking(elsewhere=elsewhere)).samples)
    assert [(s.name, s.image) for s in found] == [(s.name, s.image) for s in expected]
    assert sorted(name for task in elsewhere.tasks for name in task.names) == sorted(
        dataset.document["images"]
    )
    assert all(task.folder.is_absolute() and len(task.names) <= 4 for task in elsewhere.tasks)
    assert elsewhere.read_here == []
    elsewhere.tasks.clear()
    assert len(scanned(dataset, Looking(elsewhere=elsewhere)).samples) == 24
    assert (elsewhere.tasks, elsewhere.read_here) == ([], [])


def test_few_new_images_are_read_here(dataset: Dataset, elsewhere: Elsewhere) -> None:
    scanned(dataset, Looking(elsewhere=elsewhere))
    elsewhere.tasks.clear()
    for number in range(4):
        dataset.add(f"new_{number}.jpg")
    dataset.save()
    assert len(scanned(dataset, Looking(elsewhere=elsewhere)).samples) == 28
    assert elsewhere.tasks == []
    assert sorted(elsewhere.read_here) == [f"new_{number}.jpg" for number in range(4)]


def test_what_is_wrong_there_is_said_as_ever(dataset: Dataset, elsewhere: Elsewhere) -> None:
    (dataset.images / "page_003.jpg").write_bytes(b"no image")
    (dataset.images / "page_004.jpg").unlink()
    with pytest.raises(InputError) as expected:
        scanned(dataset, Looking())
    with pytest.raises(InputError) as found:
        scanned(dataset, Looking(elsewhere=elsewhere))
    assert str(found.value) == str(expected.value)
    assert "page_003.jpg: is not a JPEG" in str(found.value)
    assert "page_004.jpg: is missing" in str(found.value)
    left = scanned(dataset, Looking(elsewhere=elsewhere), skip="polygon")
    assert len(left.samples) == 22
    assert left.dropped == {"page_003.jpg", "page_004.jpg"}
