"""Wrong annotations, planted among right ones, come first when predictions are beside them."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocr_precompute.pipeline.build import build
from ocr_precompute.reports.gallery import write_gallery
from ocr_precompute.settings import Settings, Source

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make_sample_data.py"
IMAGES, OF_EACH, MISSES, FALSE_ALARMS = 120, 4, 12, 4

Labels = dict[str, dict[str, dict[str, Any]]]
"""Words of each image by their keys."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "data"
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--train", "0"]
    subprocess.run([*command, "--val", str(IMAGES)], check=True, capture_output=True, timeout=300)
    return out


def true_labels(sample: Path) -> Labels:
    images = json.loads((sample / "jsons" / "val.json").read_text())["images"]
    return {name: entry.get("words", {}) for name, entry in images.items()}


def as_document(labels: Labels) -> str:
    return json.dumps({"images": {name: {"words": words} for name, words in labels.items()}})


def predicted(labels: Labels, random: np.random.Generator) -> Labels:
    """What a good detector would find: each text with slightly other corners, but for a few."""
    found: Labels = {}
    for name, words in labels.items():
        found[name] = {}
        for key, word in words.items():
            corners = np.array(word["points"])
            height = np.ptp(corners, axis=0).min()
            jitter = random.normal(0, 0.04 * height, corners.shape)
            found[name][key] = {"points": (corners + jitter).round(2).tolist(), "score": 0.9}
    texts = [(name, key) for name, words in found.items() for key in words]
    for place in random.choice(len(texts), MISSES + FALSE_ALARMS, replace=False)[:MISSES]:
        name, key = texts[place]
        del found[name][key]
    for name in random.choice(sorted(found), FALSE_ALARMS, replace=False).tolist():
        box = random.uniform(50, 400, 2) + np.array([[0, 0], [90, 0], [90, 30], [0, 30]])
        found[name]["alarm"] = {"points": box.tolist(), "score": 0.4}
    return found


def plant(labels: Labels, random: np.random.Generator) -> tuple[Labels, dict[str, str]]:
    """Labels of which some are wrong, and what is wrong in each such image."""
    wrong = copy.deepcopy(labels)
    full = [name for name, words in labels.items() if len(words) >= 6]
    names = iter(random.permutation(full).tolist())
    planted: dict[str, str] = {}

    def word(name: str) -> dict[str, Any]:
        trained = [each for each in wrong[name].values() if not each.get("ignore")]
        return trained[int(random.integers(len(trained)))]

    for kind in ["moved", "missing", "extra", "huge"] * OF_EACH:
        name = next(names)
        planted[name], chosen = kind, word(name)
        corners = np.array(chosen["points"])
        middle, size = corners.mean(axis=0), np.ptp(corners, axis=0)
        if kind == "moved":
            chosen["points"] = (corners + size * random.choice([-0.8, 0.8], 2)).tolist()
        elif kind == "missing":
            wrong[name] = {k: w for k, w in wrong[name].items() if w is not chosen}
        elif kind == "huge":
            chosen["points"] = (middle + (corners - middle) * random.uniform(2.5, 4)).tolist()
        else:
            away = size * [0, random.uniform(2, 4)]
            wrong[name]["extra"] = {"points": (corners + away).tolist()}
    for _ in range(OF_EACH // 2):
        one, other = next(names), next(names)
        wrong[one], wrong[other] = wrong[other], wrong[one]
        planted[one] = planted[other] = "swapped"
    return wrong, planted


@pytest.mark.time
def test_planted_errors_come_first(sample: Path, tmp_path: Path) -> None:
    """Of 20 wrong images among 120 at least 16 are among the 30 most suspicious."""
    random = np.random.default_rng(20)
    labels = true_labels(sample)
    wrong, planted = plant(labels, random)
    (tmp_path / "labels.json").write_text(as_document(wrong))
    (tmp_path / "predictions.json").write_text(as_document(predicted(labels, random)))
    source = Source(images=sample / "images" / "val", annotations=tmp_path / "labels.json")
    settings = Settings(store=tmp_path / "store", size=480, decode="reduced", backend="sequential")
    build("val", source, settings)
    report = write_gallery(
        settings.store,
        "val",
        tmp_path / "val.html",
        count=30,
        predictions=tmp_path / "predictions.json",
    )
    first = [each.name for each in report.suspicious[:30]]
    found = {name: kind for name, kind in planted.items() if name in first}
    assert len(planted) == 20
    assert len(found) >= 16, sorted(set(planted.items()) - set(found.items()))
    assert set(found.values()) == {"moved", "missing", "extra", "huge", "swapped"}
    swapped = {name for name, kind in planted.items() if kind == "swapped"}
    assert swapped <= set(first[:10])
    with_predictions = {"unlabelled", "unpredicted"}
    assert all(with_predictions & set(each.reasons) for each in report.suspicious[:16])
