"""The network, post-processing and activation checkpointing."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ocr.inference.postprocess import PostProcess
from ocr.models import DBNet
from ocr.models.checkpointing import MODES, apply_checkpointing, fitting_modes, saved_bytes
from ocr_precompute.targets.maps import make_targets

# -------------------------------------------------------------------------------------- network


@pytest.fixture(scope="module")
def network() -> DBNet:
    torch.manual_seed(0)
    return DBNet(channels=32)


def images(count: int = 2, height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [(64, 96), (50, 71), (16, 16)])
def test_logits_have_the_size_of_the_images(network: DBNet, size: tuple[int, int]) -> None:
    output = network(images(2, *size))
    assert output.prob.shape == output.thresh.shape == (2, *size)
    assert output.prob.dtype == torch.float32


def test_feature_maps_and_stages(network: DBNet) -> None:
    features = network.backbone(torch.zeros(1, 3, 64, 96)).feature_maps
    assert [tuple(f.shape[1:]) for f in features] == [
        (64, 16, 24),
        (128, 8, 12),
        (256, 4, 6),
        (512, 2, 3),
    ]
    assert network.neck(features).shape == (1, 32, 16, 24)
    names = ["stem", "stage1", "stage2", "stage3", "stage4", "neck", "prob_head", "thresh_head"]
    assert list(network.stages()) == names


def test_images_are_normalised_inside(network: DBNet) -> None:
    seen = []
    handle = network.backbone.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    network.eval()(torch.full((1, 32, 32, 3), 128, dtype=torch.uint8))
    handle.remove()
    expected = [
        (128 / 255 - m) / s
        for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    ]
    assert seen[0][0, :, 5, 5].tolist() == pytest.approx(expected, abs=1e-6)


def test_weights_in_bfloat16_give_nearly_the_same_in_float32() -> None:
    torch.manual_seed(0)
    network = DBNet("resnet-18", channels=16).eval()
    pixels = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network.probabilities(pixels)
        found = network.to(torch.bfloat16).probabilities(pixels)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() < 0.1


def test_a_backbone_from_a_folder_and_one_that_is_none(tmp_path: Path) -> None:
    DBNet("resnet-18", channels=32).backbone.config.save_pretrained(tmp_path)
    network = DBNet(str(tmp_path), channels=32)
    assert network(images(1)).prob.shape == (1, 64, 96)
    with pytest.raises(ValueError, match=r"backbone '.*nothing' cannot be loaded .*resnet-18"):
        DBNet(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="channels is 40; it must be a multiple of 16"):
        DBNet(channels=40)


def test_weights_of_a_backbone_are_loaded_from_safetensors_alone(tmp_path: Path) -> None:
    original = DBNet("resnet-18", channels=32).backbone
    original.save_pretrained(tmp_path)
    loaded = DBNet(str(tmp_path), pretrained=True, channels=32).backbone
    for name, value in original.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    (weights,) = tmp_path.glob("*.safetensors")
    torch.save(original.state_dict(), tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        DBNet(str(tmp_path), pretrained=True)


def test_group_norm_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    network = DBNet(channels=32, norm="group").train()
    batch = images(3)
    together, alone = network(batch).prob, network(batch[:1]).prob
    assert torch.allclose(together[:1], alone, atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_frozen_batch_statistics_do_not_move() -> None:
    network = DBNet(channels=32, norm="frozen").train()
    before = copy.deepcopy(dict(network.named_buffers()))
    network(images())
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name]), name


# -------------------------------------------------------------------------------- post-processing


def drawn(*polygons: list[list[float]], size: int = 200) -> np.ndarray:
    """What a perfect network says of polygons."""
    return make_targets([np.array(p, float) for p in polygons], [False] * len(polygons), size).prob


def overlap(a: np.ndarray, b: np.ndarray, size: int = 200) -> float:
    first, second = (
        cv2.fillPoly(np.zeros((size, size), np.uint8), [np.rint(p).astype(np.int32)], 1)
        for p in (a, b)
    )
    return float((first & second).sum() / (first | second).sum())


FOUND = sorted((Path(__file__).parent / "golden").glob("post_*.npz"))
BOX = [[30, 40], [150, 55], [147, 85], [27, 70]]
RIBBON = [[20, 60], [60, 30], [120, 30], [170, 60], [160, 90], [118, 62], [64, 62], [30, 90]]


@pytest.mark.parametrize(
    ("mode", "polygon", "least"),
    [("box", BOX, 0.8), ("polygon", BOX, 0.7), ("polygon", RIBBON, 0.6)],
)
def test_labels_come_back_as_polygons(mode: str, polygon: list, least: float) -> None:
    prob = drawn(polygon).astype(np.float32) * 0.9
    found = PostProcess(mode=mode)(prob)  # type: ignore[arg-type]
    assert len(found.polygons) == 1
    assert found.scores.tolist() == pytest.approx([0.9], abs=0.06)
    assert overlap(found.polygons[0], np.array(polygon)) > least
    if mode == "box":
        assert found.polygons[0].shape == (4, 2)


@pytest.mark.parametrize("mode", ["box", "polygon"])
def test_what_is_faint_or_thin_is_dropped(mode: str) -> None:
    prob = np.zeros((100, 100), np.float32)
    prob[10:30, 10:60] = 0.45  # a region, but not a sure one
    prob[50:52, 10:60] = 0.9  # sure, but thin
    assert PostProcess(mode=mode)(prob).polygons == []  # type: ignore[arg-type]
    assert len(PostProcess(min_score=0.4)(prob).polygons) == 1
    assert PostProcess()(np.full((9, 9), np.nan, np.float32)).polygons == []


def test_polygon_mode_finds_what_is_thin_until_it_is_dilated() -> None:
    prob = np.zeros((100, 100), np.float32)
    prob[50:53, 10:60] = 0.9
    assert PostProcess()(prob).polygons == []
    (polygon,) = PostProcess(mode="polygon")(prob).polygons
    assert 5 <= np.ptp(polygon[:, 1]) < 8


def test_a_score_is_that_of_the_region_or_of_its_rectangle() -> None:
    prob = np.zeros((100, 100), np.float32)
    prob[20:60, 20:30] = prob[50:60, 20:60] = 0.9  # an L: 700 of the 1600 pixels around it
    for mode in ("box", "polygon"):
        scores = {
            score: PostProcess(mode=mode, score=score, min_score=0.1)(prob).scores.tolist()  # type: ignore[arg-type]
            for score in ("region", "box")
        }
        assert scores["region"] == pytest.approx([0.9], abs=0.01)
        assert scores["box"] == pytest.approx([0.9 * 700 / 1600], abs=0.05)


def test_the_ratio_of_dilation_goes_with_the_mode() -> None:
    prob = drawn(BOX).astype(np.float32)
    for mode, ratio in (("box", 1.5), ("polygon", 2.0)):
        (default,) = PostProcess(mode=mode)(prob).polygons  # type: ignore[arg-type]
        (given,) = PostProcess(mode=mode, unclip_ratio=ratio)(prob).polygons  # type: ignore[arg-type]
        assert np.array_equal(default, given)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("kind", "postprocess"),
    [("polygon", PostProcess(mode="polygon")), ("box", PostProcess(score="box"))],
    ids=["polygon", "box"],
)
def test_what_is_found_is_as_published(path: Path, kind: str, postprocess: PostProcess) -> None:
    golden = np.load(path)
    points, ends = golden["polygons" if kind == "polygon" else "boxes"], golden[f"{kind}_lengths"]
    published = np.split(points, np.cumsum(ends)[:-1])
    found = postprocess(golden["prob"].astype(np.float32) / 255)
    assert len(found.polygons) == len(published)
    overlaps = np.array([[overlap(a, b, 320) for b in found.polygons] for a in published])
    partners = overlaps.argmax(axis=1)
    assert sorted(partners) == list(range(len(published)))
    assert overlaps.max(axis=1).min() >= 0.8
    assert np.abs(found.scores[partners] - golden[f"{kind}_scores"]).max() <= 0.02


def test_golden_detections_are_at_hand() -> None:
    assert len(FOUND) == 4


def test_an_island_in_a_hole_is_found_and_the_hole_is_not() -> None:
    prob = np.zeros((200, 200), np.float32)
    prob[10:190, 10:190] = 1
    prob[20:180, 20:180] = 0
    prob[90:110, 60:140] = 1
    found = PostProcess(min_score=0.0)(prob)
    areas = sorted(cv2.contourArea(p) for p in found.polygons)
    assert len(areas) == 2
    assert areas[0] < 8000


def test_nothing_is_looked_for_in_the_padding() -> None:
    prob = np.ones((64, 64), np.float32)
    found = PostProcess()(prob, (32, 64))
    assert len(found.polygons) == 1
    assert found.polygons[0][:, 1].max() <= 32


def test_polygons_are_mapped_to_original_pixels() -> None:
    found = PostProcess()(drawn(BOX).astype(np.float32))
    moved = found.mapped(np.diag([2.5, 2.5, 1.0]))
    assert np.allclose(moved.polygons[0], found.polygons[0] * 2.5)
    assert moved.polygons[0].dtype == np.float32


@given(st.integers(0, 2**32 - 1), st.sampled_from(["box", "polygon"]), st.floats(0.1, 5))
@settings(max_examples=60, deadline=None)
def test_no_map_makes_it_raise(seed: int, mode: str, unclip: float) -> None:
    random = np.random.default_rng(seed)
    noise = random.random((random.integers(1, 40), random.integers(1, 40)), np.float32)
    noise[random.random(noise.shape) < 0.05] = np.nan
    noise = cv2.resize(noise, None, fx=3, fy=3)
    found = PostProcess(mode=mode, unclip_ratio=unclip, min_score=0.0, min_size=1)(noise)  # type: ignore[arg-type]
    assert len(found.polygons) == len(found.scores)
    for polygon in found.polygons:
        assert np.isfinite(polygon).all()
        assert len(polygon) >= 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "circle"}, "mode is 'circle'; one of box, polygon"),
        ({"score": "mean"}, "score is 'mean'; one of region, box"),
        ({"threshold": 2}, "threshold is 2; it must be from 0 to 1"),
        ({"unclip_ratio": 0}, "unclip_ratio is 0; it must be above 0"),
    ],
)
def test_settings_of_post_processing_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PostProcess(**settings)


# ----------------------------------------------------------------------- activation checkpointing


def step(network: DBNet) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Gradients of a training step, and the running statistics after it."""
    network.train().zero_grad()
    output = network(images(2, 64, 64))
    (output.prob.square().mean() + output.thresh.mean()).backward()
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    return gradients, {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_checkpointing_changes_neither_gradients_nor_statistics(network: DBNet, mode: str) -> None:
    plain, other = copy.deepcopy(network), copy.deepcopy(network)
    apply_checkpointing(other, dict.fromkeys(other.stages(), mode))  # type: ignore[arg-type]
    assert list(other.state_dict()) == list(plain.state_dict())
    for _ in range(2):
        (gradients, statistics), (others, other_statistics) = step(plain), step(other)
        assert len(gradients) == len(others)
        assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
        assert list(statistics) == list(other_statistics)
        for name, value in statistics.items():
            assert torch.equal(value, other_statistics[name]), name


def hooked_bytes(network: DBNet) -> int:
    """What autograd saves, as its own hooks count it, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(images())
    del output
    return sum(seen.values())


def kept(network: DBNet, mode: str) -> int:
    apply_checkpointing(network, dict.fromkeys(network.stages(), mode))  # type: ignore[arg-type]
    return saved_bytes(lambda: network(images()))


def test_checkpointing_keeps_fewer_activations(network: DBNet) -> None:
    network = copy.deepcopy(network).train()
    none, selective, full = (kept(network, mode) for mode in MODES)
    assert selective < 0.7 * none
    assert full < 0.5 * selective
    # Autograd's hooks do not see what checkpointing keeps; where there is none, they must agree.
    apply_checkpointing(network, {})
    assert hooked_bytes(network) == pytest.approx(none, rel=0.05)
    apply_checkpointing(network, dict.fromkeys(network.stages(), "selective"))
    assert hooked_bytes(network) < 0.7 * none


@pytest.mark.time
def test_auto_fits_the_budget_with_as_little_as_it_can(network: DBNet) -> None:
    network = copy.deepcopy(network).train()
    none, selective, full = (kept(network, mode) for mode in MODES)
    before = copy.deepcopy(network.state_dict())
    assert set(fitting_modes(network, images(), 1.1 * none).values()) == {"none"}
    some = fitting_modes(network, images(), (none + selective) / 2)
    assert set(some.values()) == {"none", "selective"}
    apply_checkpointing(network, some)
    assert saved_bytes(lambda: network(images())) <= (none + selective) / 2
    assert set(fitting_modes(network, images(), full / 2).values()) == {"full"}
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) or "running" in name or "num_batches" in name


def test_unknown_stages_and_modes(network: DBNet) -> None:
    with pytest.raises(ValueError, match=r"no stage 'stage9'; one of stem, stage1"):
        apply_checkpointing(network, {"stage9": "full"})
    with pytest.raises(ValueError, match="stage stem: mode 'some'; one of none, selective, full"):
        apply_checkpointing(network, {"stem": "some"})  # type: ignore[dict-item]
