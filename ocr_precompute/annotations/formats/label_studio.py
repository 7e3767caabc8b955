"""Label Studio's JSON export: a list of tasks, each with an image and its annotations.

Coordinates are in percent of the image. What is known of one region stands in several results of
the same id: its shape, its text, its label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames, is_image_name
from ocr_precompute.annotations.gathering import Gathered
from ocr_precompute.annotations.json_files import members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, numbers, turned
from ocr_precompute.annotations.pairing import image_at
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_LISTS = ("annotations", "completions")  # as they are called now, and were
_AREAS = ("rectangle", "rectanglelabels", "polygon", "polygonlabels")
_ABOUT = frozenset(  # what tells of a region, or of the whole image, and has no shape of its own
    {"labels", "textarea", "choices", "rating", "number", "taxonomy", "datetime", "pairwise"}
    | {"ranker", "relation"}
)
_LABELS = ("rectanglelabels", "polygonlabels", "labels", "choices")
_MINIMAL = {"annotation_id", "annotator"}  # in each task of JSON-MIN
_SHOWN = 40

_SEVERAL = "tasks are annotated several times, the last annotation of each is taken"
_NONE = "tasks have no finished annotation and are left out"


def _recognise(look: Look) -> Fit:
    tasks = look.json if isinstance(look.json, list) and not look.is_folder else []
    task = tasks[0] if tasks and isinstance(tasks[0], dict) else {}
    lists = [task[key] for key in _LISTS if isinstance(task.get(key), list)]
    began = any(isinstance(each, dict) and "result" in each for found in lists for each in found)
    return Fit.YES if began or (lists and "data" in task) or task.keys() >= _MINIMAL else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    warnings: list[str] = []
    return Found(_entries(path, images, warnings), warnings=warnings)


def _entries(path: Path, images: ImageNames, warnings: list[str]) -> Iterator[Entry | Problem]:
    file, counts, skipped = str(path), Counter[str](), Counter[str]()
    for number, _, task in members(path, exact=True):
        if not isinstance(number, int) or not isinstance(task, dict):
            place = f"[{number}]" if isinstance(number, int) else ""
            reason = "must be a list of tasks; export as JSON"
            yield Problem("annotations", file, place, reason)
            return
        place = f"task {task.get('id', f'[{number}]')}"[:_SHOWN]
        finished = _finished(task)
        if finished is None:
            reason = 'has no list "annotations"; export as JSON, not as JSON-MIN'
            yield Problem("annotations", file, place, reason)
            return
        if not finished:
            counts[_NONE] += 1
            continue
        counts[_SEVERAL] += len(finished) > 1
        yield _task(file, place, task, finished[-1].get("result"), images, skipped)
    warnings += [f"{path}: {count} {what}" for what, count in counts.items() if count]
    if skipped:
        kinds = ", ".join(f"{count} of type {kind}" for kind, count in sorted(skipped.items()))
        reason = "regions are neither rectangles nor polygons and are left out"
        warnings.append(f"{path}: {skipped.total()} {reason}: {kinds}")


def _finished(task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The annotations that nobody skipped or cancelled; None if there is no list of any."""
    listed = next((task[key] for key in _LISTS if isinstance(task.get(key), list)), None)
    if listed is None:
        return None
    objects = [each for each in listed if isinstance(each, dict)]
    return [each for each in objects if not (each.get("was_cancelled") or each.get("skipped"))]


def _task(
    file: str,
    place: str,
    task: dict[str, Any],
    results: Any,
    images: ImageNames,
    skipped: Counter[str],
) -> Entry | Problem:
    name = _image(task, images)
    if not name:
        return Problem("image", file, place, 'has no image in its "data"; correct or remove it')
    where = f"{place}: {name}"
    if not isinstance(results, list):
        reason = 'its annotation has no list "result"; correct or remove it'
        return Problem("image", file, where, reason, name)
    objects = [result for result in results if isinstance(result, dict)]
    for result in objects:
        if result.get("image_rotation") not in (None, 0):
            reason = (
                "was annotated while it was turned, and coordinates are of the turned image; turn "
                "it back in Label Studio, correct the regions, and export again"
            )
            return Problem("image", file, where, reason, name)
    words = Gathered()
    regions: dict[str, list[dict[str, Any]]] = {}
    for number, result in enumerate(objects):
        regions.setdefault(str(result.get("id", f"[{number}]")), []).append(result)
    for region, about in regions.items():
        _gather(f"region {region[:_SHOWN]}", about, words, skipped)
    if len(objects) < len(results):
        words.fail("result", "must be an object; correct or remove it")
    sizes = (declared_size(r.get("original_height"), r.get("original_width")) for r in objects)
    size = next((each for each in sizes if each), None)
    return Entry(file, name, words.words, words.bad, size, place=place)


def _image(task: dict[str, Any], images: ImageNames) -> str:
    """The name of a task's image; empty if it has none.

    Data may be more than one image's address, and the key of that is any: the first that is there.
    """
    data = task.get("data")
    values = [*(data.values() if isinstance(data, dict) else ()), task.get("file_upload")]
    names = [image_at(value, images) for value in values if isinstance(value, str) and value]
    there = (name for name in names if name in images.names)
    called = (name for name in names if is_image_name(name))
    return next(there, next(called, names[0] if names else ""))


def _gather(
    label: str, about: list[dict[str, Any]], words: Gathered, skipped: Counter[str]
) -> None:
    """Take up a region, given its results."""
    kinds = [str(result.get("type"))[:_SHOWN] for result in about]
    shape = next((each for each, k in zip(about, kinds, strict=True) if k in _AREAS), None)
    if shape is None:
        others = [kind for kind in kinds if kind not in _ABOUT]
        skipped.update(others[:1])
        shape = next(filter(_has_shape, about), None)
        if others or shape is None:  # or it tells of the whole image
            return
    values = [result["value"] for result in about if isinstance(result.get("value"), dict)]
    text = next((said for value in values if (said := _joined(value.get("text")))), None)
    tags = (_joined(value.get(key)) for value in values for key in _LABELS)
    of_class = next(filter(None, tags), None)
    ignored = any(is_dont_care(each) for each in (text, of_class) if each)
    ignored |= of_class is not None and of_class.strip().lower() == "ignore"
    try:
        words.add(label, _outline(shape), ignored, text, of_class)
    except ValueError as error:
        words.fail(label, error, of_class=of_class)


def _has_shape(result: dict[str, Any]) -> bool:
    value = result.get("value")
    return isinstance(value, dict) and bool({"points", "width"} & value.keys())


def _joined(value: Any) -> str | None:
    """A text, or the texts of a list with blanks between; None if there is none."""
    listed = value if isinstance(value, list) else [value]
    return " ".join(each for each in listed if isinstance(each, str)) or None


def _outline(result: dict[str, Any]) -> list[list[float]]:
    """The points of a shape in pixels. Raises ValueError if it has none."""
    value = result.get("value")
    size = declared_size(result.get("original_height"), result.get("original_width"))
    if not isinstance(value, dict) or size is None:
        raise ValueError("has no value, original_width and original_height; correct or remove it")
    height, width = size
    if "points" in value:
        points = value["points"] if isinstance(value["points"], list) else []
        corners = [numbers(point, 2, "a point") for point in points]
        return [[x * width / 100, y * height / 100] for x, y in corners]
    keys = ("x", "y", "width", "height")
    x, y, across, down = numbers([value.get(key) for key in keys], 4, ", ".join(keys))
    (degrees,) = numbers([value.get("rotation") or 0], 1, "rotation")
    left, top = x * width / 100, y * height / 100
    corners = box(left, top, left + across * width / 100, top + down * height / 100)
    finite = abs(degrees) < float("inf")  # else the checks say so of its points
    return turned(corners, degrees, (left, top)) if degrees and finite else corners


FORMAT = AnnotationFormat(
    name="label_studio",
    summary="Label Studio's JSON export (not JSON-MIN, nor its COCO or YOLO), one file of all "
    "tasks; rectangles, also turned ones, and polygons",
    dont_care="the text `###`, the label `###` or `ignore`",
    example="""\
[{"id": 1, "data": {"ocr": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [
  {"id": "b0", "type": "rectangle", "original_width": 200, "original_height": 100,
   "image_rotation": 0, "value": {"x": 20, "y": 40, "width": 20, "height": 10, "rotation": 90}},
  {"id": "b0", "type": "textarea", "original_width": 200, "original_height": 100,
   "image_rotation": 0, "value": {"text": ["Ada"]}}]}]}]""",
    recognise=_recognise,
    read=_read,
    aliases=("labelstudio", "label-studio"),
)
