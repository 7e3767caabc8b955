"""Other stacks are given what the store holds, in their own form."""

from __future__ import annotations

import ast
import json
import pickle
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import Dataset, same
from torch.utils.data import DataLoader

from ocr.datasets import StoreDataset
from ocr.datasets.samples import ANNOTATIONS, TRAINING
from ocr.interop.doctr import DoctrDataset, DoctrSample
from ocr.interop.huggingface import iterable_dataset, samples, stretches_of
from ocr.interop.mmocr import MMOCRDataset, stored_targets
from ocr.interop.paddleocr import KEEP_KEYS, PaddleDataset, paddle_dataset
from ocr_precompute.errors import PrecomputeError, StoreError
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "interop.md").read_text()
HEIGHT, WIDTH = 48, 64
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture
def store(dataset: Dataset, tmp_path: Path) -> Path:
    """24 pages: 003 has a don't-care word, 004 none, 005 a polygon of five points, 006 one that
    leaves the page."""
    dataset.document["images"]["page_003.jpg"]["words"]["0001"]["ignore"] = True
    del dataset.document["images"]["page_004.jpg"]["words"]
    dataset.points("page_005.jpg")[:] = [[10, 20], [40, 20], [50, 30], [40, 40], [10, 40]]
    dataset.points("page_006.jpg")[:] = [[60, 20], [90, 20], [90, 40], [60, 40]]
    dataset.save()
    settings = Settings.model_validate(
        {
            "store": tmp_path / "data" / "store",
            "size": f"{HEIGHT}x{WIDTH}",
            "shard_length": 8,
            "backend": "sequential",
        }
    )
    build("train", dataset.source, settings)
    build("val", dataset.source, settings)
    return settings.store


@pytest.fixture
def stored(store: Path) -> StoreDataset:
    return StoreDataset(store, "train", (*TRAINING, *ANNOTATIONS))


# ---------------------------------------------------------------------------------------- docTR


def test_doctr_has_images_in_0_to_1_and_shares(store: Path, stored: StoreDataset) -> None:
    dataset = DoctrDataset(store, "train", use_polygons=True)
    assert len(dataset) == len(stored) == 24
    assert dataset.class_names == ["words"]
    for index, page in enumerate(stored):
        image, target = dataset[index]
        assert (image.dtype, image.shape) == (torch.float32, (3, HEIGHT, WIDTH))
        assert same((image * 255).round().byte().permute(1, 2, 0).numpy().copy(), page["image"])
        kept = [
            p for p, ignored in zip(page["polygons"], page["ignore"], strict=True) if not ignored
        ]
        assert list(target) == ["words"]
        assert (target["words"].dtype, target["words"].shape) == (np.float32, (len(kept), 4, 2))
        assert ((target["words"] >= 0) & (target["words"] <= 1)).all()
        for quad, polygon in zip(target["words"], kept, strict=True):
            if len(polygon) == 4:
                inside = polygon.clip(0, [WIDTH, HEIGHT])
                np.testing.assert_allclose(quad * [WIDTH, HEIGHT], inside, atol=1e-4)
    assert len(dataset[3].target["words"]) == 2
    assert dataset[4].target["words"].shape == (0, 4, 2)


def test_doctr_has_boxes(store: Path, stored: StoreDataset) -> None:
    dataset = DoctrDataset(store, "train")
    for index in (0, 5, 6):
        boxes = dataset[index].target["words"] * np.float32([WIDTH, HEIGHT] * 2)
        expected = [
            np.concatenate((p.min(0), p.max(0))).clip(0, [WIDTH, HEIGHT] * 2)
            for p in stored[index]["polygons"]
        ]
        np.testing.assert_allclose(boxes, expected, atol=1e-4)
    assert dataset[4].target["words"].shape == (0, 4)


def test_doctr_has_a_turned_rectangle_around_other_polygons(
    store: Path, stored: StoreDataset
) -> None:
    polygon = stored[5]["polygons"][0]
    assert len(polygon) == 5
    quad = DoctrDataset(store, "train", use_polygons=True)[5].target["words"][0] * [WIDTH, HEIGHT]
    corners = quad[np.lexsort(quad.T)]
    (left, top), (right, bottom) = polygon.min(0), polygon.max(0)
    np.testing.assert_allclose(
        corners, [[left, top], [right, top], [left, bottom], [right, bottom]], atol=1e-3
    )


def test_doctr_paints_dont_care_over_on_request(store: Path, stored: StoreDataset) -> None:
    page = stored[3]
    left, top = page["polygons"][0].min(0).round().astype(int)
    right, bottom = page["polygons"][0].max(0).round().astype(int)
    plain, blank = (DoctrDataset(store, "train", blank=b)[3].image for b in (False, True))
    changed = (plain != blank).any(0).numpy()
    assert changed.any()
    changed[top : bottom + 1, left : right + 1] = False
    assert not changed.any()
    middle = page["polygons"][0].mean(0).round().astype(int)
    area = page["image"][top : bottom + 1, left : right + 1].reshape(-1, 3)
    colour = blank[:, middle[1], middle[0]].numpy() * 255
    assert (colour >= area.min(0)).all()
    assert (colour <= area.max(0)).all()
    assert (
        blank[:, middle[1] - 1 : middle[1] + 2, middle[0]].numpy() == colour[:, None] / 255
    ).all()


def test_doctr_batches_from_workers(store: Path) -> None:
    dataset = DoctrDataset(store, "train", use_polygons=True)
    loader = DataLoader(dataset, batch_size=5, num_workers=2, collate_fn=dataset.collate_fn)
    images, targets = zip(*loader, strict=True)
    assert torch.equal(torch.cat(images), torch.stack([dataset[i].image for i in range(24)]))
    flat = [target["words"] for batch in targets for target in batch]
    assert all(same(flat[i], dataset[i].target["words"]) for i in range(24))


def test_doctr_transforms_see_what_they_know(store: Path) -> None:
    def turned(sample: Any) -> Any:
        assert sample.mask is None
        return sample.replace(image=sample.image.flip(-1), mask=sample.mask)

    plain = DoctrDataset(store, "train")[0]
    assert isinstance(plain, DoctrSample)
    changed = DoctrDataset(store, "train", sample_transforms=turned)[0]
    assert torch.equal(changed.image.flip(-1), plain.image)
    assert same(changed.target["words"], plain.target["words"])
    with pytest.raises(ValueError, match="mask"):
        plain.replace(mask=plain.image)


_declared: list[Any] = []  # what torch forgets when nobody holds it


@pytest.fixture(scope="module")
def doctr() -> Any:
    """docTR's datasets. Torchvision's operators, made for PyTorch with CUDA, do not load beside one
    without. Pages need none of them, but the import wants two by name, which are declared then."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        _declared.append(library)
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
    from doctr import datasets

    return datasets


@pytest.fixture
def doctr_labels(store: Path, stored: StoreDataset) -> Path:
    """The pages of the store as files for docTR's own dataset, in a folder with labels.json; docTR
    cannot read a page without text."""
    folder, labels = store.parent / "doctr", {}
    folder.mkdir()
    for page in stored:
        kept = [p for p, no in zip(page["polygons"], page["ignore"], strict=True) if not no]
        if kept:
            name = page["name"].replace("jpg", "png")
            assert cv2.imwrite(str(folder / name), page["image"][..., ::-1])
            quads = [p if len(p) == 4 else cv2.boxPoints(cv2.minAreaRect(p)) for p in kept]
            labels[name] = {"polygons": [quad.tolist() for quad in quads]}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.mark.doctr
@pytest.mark.parametrize("use_polygons", [False, True])
def test_doctr_reads_the_same_from_files(
    doctr: Any, doctr_labels: Path, store: Path, use_polygons: bool
) -> None:
    theirs = doctr.DetectionDataset(
        str(doctr_labels), str(doctr_labels / "labels.json"), use_polygons=use_polygons
    )
    ours = DoctrDataset(store, "train", use_polygons=use_polygons)
    assert (len(theirs), theirs.class_names) == (23, ours.class_names)
    for sample, own in zip(theirs, [ours[i] for i in range(24) if i != 4], strict=True):
        assert torch.equal(sample.image, own.image)
        assert same(sample.target["words"], own.target["words"])


@pytest.mark.doctr
@pytest.mark.parametrize("use_polygons", [False, True])
def test_doctr_trains_from_a_store(doctr: Any, store: Path, use_polygons: bool) -> None:
    """As its training of detection does: its transforms, its collate, its model and its loss."""
    from doctr import transforms as T
    from doctr.models.detection import db_mobilenet_v3_large
    from torchvision.transforms.v2 import Normalize

    resized = T.Resize((64, 64), preserve_aspect_ratio=True, symmetric_pad=True)
    placed = [
        [
            T.RandomHorizontalFlip(0.15),
            T.OneOf([T.RandomApply(T.RandomCrop(ratio=(0.6, 1.33)), 0.25), T.RandomResize()]),
            resized,
        ],
        [T.RandomRotate(90, expand=True), resized],
    ]
    coloured = [T.RandomApply(T.ColorInversion(), 0.5), T.GaussianNoise(), T.RandomShadow()]
    transforms = T.SampleCompose([*coloured, *placed[use_polygons]])
    dataset = DoctrDataset(store, "train", use_polygons=use_polygons, sample_transforms=transforms)
    torch.manual_seed(0)
    collate = doctr.DetectionDataset.collate_fn
    loader = DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True, collate_fn=collate)
    model = db_mobilenet_v3_large(
        pretrained=False, pretrained_backbone=False, assume_straight_pages=not use_polygons
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    normalised = Normalize((0.798, 0.785, 0.772), (0.264, 0.2749, 0.287))
    before = model.prob_head[0].weight.detach().clone()
    for images, targets in loader:
        assert (images.shape, images.dtype) == ((8, 3, 64, 64), torch.float32)
        assert [list(target) for target in targets] == [["words"]] * 8
        shapes = {target["words"].shape[1:] for target in targets}
        assert shapes == {(4, 2) if use_polygons else (4,)}
    loss = model(normalised(images[:2]), targets[:2])["loss"]
    assert torch.isfinite(loss)
    loss.backward()
    optimizer.step()
    assert not torch.equal(model.prob_head[0].weight, before)


# ------------------------------------------------------------------------------------ PaddleOCR


def test_paddle_has_the_maps_of_the_store(store: Path, stored: StoreDataset) -> None:
    order = ["image", "threshold_map", "threshold_mask", "shrink_map", "shrink_mask"]
    assert list(KEEP_KEYS) == order
    dataset = PaddleDataset(store, "train")
    assert len(dataset) == 24
    for index, page in enumerate(stored):
        image, *labels = dataset[index]
        assert [(label.dtype, label.shape) for label in labels] == [
            (np.float32, (HEIGHT, WIDTH)) for _ in labels
        ]
        fields = ("thresh", "thresh_mask", "prob", "prob_mask")
        for label, field in zip(labels, fields, strict=True):
            assert same(label.astype(page[field].dtype), page[field]), field
        assert (image.dtype, image.shape) == (np.float32, (3, HEIGHT, WIDTH))
        assert image.flags.c_contiguous


def test_paddle_normalises_bgr(store: Path, stored: StoreDataset) -> None:
    """By arithmetic in float64, and to the bit in the order of PaddleOCR's own operations."""
    image = PaddleDataset(store, "train")[0][0]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        values = stored[0]["image"][..., 2 - channel]
        exact = (values.astype(np.float64) / 255 - m) / s
        np.testing.assert_allclose(image[channel], exact, atol=1e-5)
        theirs = (values.astype("float32") * np.float32(1 / 255) - np.float32(m)) / np.float32(s)
        assert same(image[channel], theirs)
    other = PaddleDataset(store, "train", mean=(0, 0, 0), std=(1, 1, 1))[0][0]
    assert same(
        (other * 255).round().astype(np.uint8)[::-1].transpose(1, 2, 0).copy(), stored[0]["image"]
    )


def test_paddle_by_configuration_and_in_workers(store: Path) -> None:
    settings = {"name": "TextDetDataset", "store": str(store), "split": "train", "std": [1, 1, 1]}
    dataset = paddle_dataset({"Train": {"dataset": settings}}, "Train", None, 3)
    assert not dataset.need_reset
    plain = PaddleDataset(store, "train", std=(1, 1, 1))
    batches = list(DataLoader(dataset, batch_size=7, num_workers=2))
    for position, arrays in enumerate(zip(*batches, strict=True)):
        whole = torch.cat(arrays).numpy()
        assert same(whole, np.stack([plain[i][position] for i in range(24)]))
    assert same(pickle.loads(pickle.dumps(dataset))[5], plain[5])
    with pytest.raises(IndexError):
        dataset[24]


def test_paddle_needs_no_torch(store: Path) -> None:
    code = (
        "import sys; from ocr.interop.paddleocr import PaddleDataset;"
        f"PaddleDataset({str(store)!r}, 'train')[0]; print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


# -------------------------------------------------------------------------------- MMOCR, MMEngine


@pytest.mark.mmengine
def test_mmocr_has_the_sample_of_the_store(store: Path, stored: StoreDataset) -> None:
    from mmengine.dataset import pseudo_collate

    dataset = MMOCRDataset(store, "train")
    assert len(dataset) == 24
    loader = DataLoader(dataset, batch_size=5, num_workers=2, collate_fn=pseudo_collate)
    pages = iter(stored)
    for batch in loader:
        targets = stored_targets(batch["data_samples"])
        for position, sample in enumerate(batch["data_samples"]):
            page = next(pages)
            image = batch["inputs"][position]
            assert same(image.numpy()[::-1].transpose(1, 2, 0).copy(), page["image"])
            for field, target in zip(
                ("prob", "prob_mask", "thresh", "thresh_mask"), targets, strict=True
            ):
                assert target.dtype == torch.float32
                assert same(target[position].numpy().astype(page[field].dtype), page[field])
            instances = sample.gt_instances
            assert len(instances) == len(page["polygons"])
            assert all(
                same(flat.reshape(-1, 2), polygon)
                for flat, polygon in zip(instances.polygons, page["polygons"], strict=True)
            )
            assert same(instances.ignored.numpy(), page["ignore"])
            boxes = [(*p.min(0), *p.max(0)) for p in page["polygons"]]
            assert instances.bboxes.tolist() == [list(map(float, box)) for box in boxes]
            assert sample.img_path == page["name"]
            assert sample.img_shape == (HEIGHT, WIDTH)
            assert sample.ori_shape == tuple(page["original_size"])
    assert next(pages, None) is None


@pytest.mark.mmengine
def test_mmocr_scales_back_to_the_file(store: Path, stored: StoreDataset) -> None:
    sample = MMOCRDataset(store, "train")[0]["data_samples"]
    page = stored[0]
    scale = np.array(sample.scale_factor)
    corner = np.append(page["polygons"][0][2], 1)
    np.testing.assert_allclose(corner[:2] / scale, (page["matrix"] @ corner)[:2])


@pytest.mark.mmengine
def test_mmocr_by_configuration_with_a_pipeline(store: Path, monkeypatch: Any) -> None:
    from mmengine.registry import DATASETS, TRANSFORMS

    def shift(results: dict[str, Any]) -> dict[str, Any]:
        results["img"] = results["img"][:, ::-1]
        return results

    monkeypatch.setitem(TRANSFORMS.module_dict, "ShiftOfThisTest", lambda: shift)
    kind = {"type": "ocr.interop.mmocr.MMOCRDataset", "store": str(store), "split": "train"}
    varied = DATASETS.build({**kind, "pipeline": [{"type": "ShiftOfThisTest"}]})[2]
    plain = DATASETS.build(kind)
    assert plain.metainfo["task_name"] == "textdet"
    assert same(varied["img"].copy(), plain.get_data_info(2)["img"][:, ::-1].copy())
    assert "prob" in plain.get_data_info(2)
    assert "prob" not in varied


# -------------------------------------------------------------------------- Hugging Face datasets


@pytest.mark.parametrize("parts", [None, 1, 5, 24])
def test_parts_are_every_sample_once(stored: StoreDataset, store: Path, parts: int | None) -> None:
    stretches = stretches_of(stored, parts)
    shards = stored.split.manifest.shards
    assert len(stretches) == (parts or len(shards))
    assert len(shards) > 1
    names = [
        sample["name"]
        for stretch in reversed(stretches)  # a worker has any of them
        for sample in samples(str(store), "train", ("name",), [stretch])
    ]
    assert Counter(names) == Counter(stored.names)
    if parts is None:
        assert [stop - start for start, stop in stretches] == [shard.samples for shard in shards]


@pytest.mark.parametrize("parts", [0, 25, -1])
def test_parts_that_cannot_be(stored: StoreDataset, parts: int) -> None:
    with pytest.raises(ValueError, match=f"parts is {parts}; it must be from 1 to 24"):
        stretches_of(stored, parts)


@pytest.mark.datasets
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_has_every_sample_once(store: Path, stored: StoreDataset, workers: int) -> None:
    fields = ("name", "image", "prob", "prob_mask", "thresh", "thresh_mask")
    stream = iterable_dataset(store, "train", fields)
    loader = DataLoader(stream, batch_size=3, num_workers=workers)
    found = [
        {field: batch[field][position] for field in fields}
        for batch in loader
        for position in range(len(batch["name"]))
    ]
    assert Counter(sample["name"] for sample in found) == Counter(stored.names)
    for sample in found:
        page = stored[list(stored.names).index(sample["name"])]
        for field in fields[1:]:
            assert same(sample[field].numpy(), page[field]), field


@pytest.mark.datasets
def test_a_stream_is_shared_by_processes_and_shuffled(store: Path, stored: StoreDataset) -> None:
    from datasets.distributed import split_dataset_by_node

    stream = iterable_dataset(store, "train", ("name", "polygons"), parts=4)
    shares = [split_dataset_by_node(stream, rank=rank, world_size=2) for rank in range(2)]
    names = [[sample["name"] for sample in share] for share in shares]
    assert [len(share) for share in names] == [12, 12]
    assert Counter(names[0] + names[1]) == Counter(stored.names)
    shuffled = [sample["name"] for sample in stream.shuffle(seed=1, buffer_size=6)]
    assert Counter(shuffled) == Counter(stored.names)
    assert shuffled != list(stored.names)
    first = next(iter(stream))
    assert same(first["polygons"], stored[0]["polygons"])


# ----------------------------------------------------------------------------- what all have alike


def test_a_package_that_is_missing_is_one_line(store: Path, monkeypatch: Any) -> None:
    for name in ("datasets", "mmengine", "mmengine.dataset"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PrecomputeError, match=r"^datasets cannot .*: pip install datasets$"):
        iterable_dataset(store, "train")
    with pytest.raises(PrecomputeError, match=r"^mmengine.* cannot .*: pip install mmengine$"):
        MMOCRDataset(store, "train")


def test_a_split_that_is_missing_is_named(store: Path) -> None:
    for adapter in (DoctrDataset, PaddleDataset, MMOCRDataset, iterable_dataset):
        with pytest.raises(StoreError, match="trian"):
            adapter(store, "trian")


def code_lines(path: Path) -> int:
    """Lines that are neither empty, nor comments, nor docstrings."""
    text = path.read_text()
    strings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(bool(line) and line[0] != "#" and n not in strings for n, line in lines)


def test_adapters_stay_small() -> None:
    sizes = {path.name: code_lines(path) for path in (ROOT / "ocr" / "interop").glob("*.py")}
    assert len(sizes) == 5
    assert max(sizes.values()) < 60, sizes


SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))
NEEDED = {"MMOCR and MMEngine": "mmengine", "Hugging Face datasets": "datasets"}


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(name, marks=getattr(pytest.mark, NEEDED[name]) if name in NEEDED else ())
        for name, text in SECTIONS.items()
        if "```python" in text
    ],
)
def test_the_examples_run(section: str, store: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(store.parents[1])
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    run = [block for block in blocks if not block.startswith("# runs where")]
    assert run
    names: dict[str, Any] = {}
    for block in run:
        exec(block.replace("crop=320", "crop=32"), names)
    if section == "PyTorch":
        assert tuple(names["batch"]["image"].shape) == (4, 32, 32, 3)
        assert len(names["names"]) == 4
    if section == "PaddleOCR":
        assert same(names["shrink_mask"], names["dataset"][0][4])
    if section == "MMOCR and MMEngine":
        from mmengine.registry import DATASETS

        assert len(DATASETS.build(names["train_dataloader"]["dataset"])) == 24


def test_every_adapter_is_documented() -> None:
    assert {"PyTorch", "docTR", *NEEDED, "PaddleOCR"} <= set(SECTIONS)
    for path in (ROOT / "ocr" / "interop").glob("[!_]*.py"):
        assert f"ocr.interop.{path.stem} import" in DOCUMENT
    assert "(docs/interop.md)" in (ROOT / "README.md").read_text()
