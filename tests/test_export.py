"""Models leave the house, and find elsewhere what their checkpoint finds here."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import shapely
import torch

from ocr import command
from ocr.errors import CheckpointError, ModelError
from ocr.export import formats
from ocr.inference.postprocess import PostProcess
from ocr.models import DBNet
from ocr.models.checkpoint import NETWORK, POSTPROCESS
from ocr.predict import Detections, Detector, load
from ocr_precompute.errors import InputError, PrecomputeError

ROOT = Path(__file__).resolve().parents[1]
BACKBONE = Path(__file__).with_name("backbone")
SIZE = [192, 256]  # canonical
SEED = 21  # which gives many regions
READ = {"threshold": 0.5, "min_score": 0.5, "min_size": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.ckpt, of a network with random weights, and pictures."""
    root = tmp_path_factory.mktemp("export")
    network = DBNet(str(BACKBONE), channels=16)
    torch.manual_seed(SEED)  # weights of this test's own, whatever versions of packages begin with
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_uniform_(weight, math.sqrt(5))
    for layer in network.prob_head.layers[3::3]:  # regions of more than a pixel, and clear ones
        layer.weight.data = 4 * layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight)
    told = {"backbone": str(BACKBONE), "channels": 16, "norm": "batch"}
    checkpoint = {
        "state_dict": {f"model.{name}": value for name, value in network.state_dict().items()},
        NETWORK: {**told, "backbone_config": network.backbone_config},
        POSTPROCESS: READ,
        "DetectionData": {"data_hash": "ab" * 32, "images": {"size": SIZE, "decode": "exact"}},
        "callbacks": {"best": {"monitor": "val/hmean", "current_score": torch.tensor(0.75)}},
        "epoch": 3,
        "global_step": 40,
    }
    torch.save(checkpoint, root / "best.ckpt")
    random = np.random.default_rng(0)
    for name, size in (("a.png", (300, 400)), ("b.jpg", (300, 500)), ("c.png", (400, 550))):
        coarse = random.integers(0, 255, (size[0] // 9, size[1] // 9, 3), np.uint8)
        assert cv2.imwrite(str(root / name), cv2.resize(coarse, size[::-1]))
    turned = (root / "b.jpg").read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (root / "turned.jpg").write_bytes(turned[:2] + segment + turned[2:])
    return root


def exported(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `ocr-train export`."""
    monkeypatch.setattr(sys, "argv", ["ocr-train", "export", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """The checkpoint as ONNX."""
    with pytest.MonkeyPatch.context() as patch:
        out = folder / "model.onnx"
        given = ("--ckpt_path", folder / "best.ckpt", "--out", out, "--images", folder)
        assert exported(patch, *given) == 0
    return out


ALONE = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {"ocr", "ocr_precompute", *ALLOWED, *sys.stdlib_module_names}:
            raise ImportError(f"{name} is not here")

ALLOWED = {"numpy", "cv2", "pyclipper", "onnxruntime", "flatbuffers", "packaging"}
sys.meta_path.insert(0, Blocker())
from ocr.predict import load
detector = load(sys.argv[1])
found = [detector(path) for path in sys.argv[2:]]
print(json.dumps([[[p.tolist() for p in polygons], scores.tolist()] for polygons, scores in found]))
"""


def matched(a: Sequence[np.ndarray], b: Sequence[np.ndarray], least: float) -> int:
    """How many pairs there are, one to one, of an IoU of at least that."""
    shapes = [shapely.polygons(polygon) for polygon in b]
    left, pairs = set(range(len(b))), 0
    for polygon in map(shapely.polygons, a):
        for other in left:
            common = polygon.intersection(shapes[other]).area
            if common >= least * (polygon.area + shapes[other].area - common):
                left.remove(other)
                pairs += 1
                break
    return pairs


def test_an_exported_model_finds_the_same_without_this_environment(
    folder: Path, model: Path
) -> None:
    """Nothing can be imported there but numpy, OpenCV, pyclipper, ONNX Runtime and its own."""
    paths = [folder / name for name in ("a.png", "b.jpg", "c.png", "turned.jpg")]
    arguments = [sys.executable, "-c", ALONE, str(model), *map(str, paths)]
    shown = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    detector = load(folder / "best.ckpt")
    found = pairs = 0
    for path, (outlines, scores) in zip(paths, json.loads(shown.stdout), strict=True):
        here = detector(path)
        there = [np.array(polygon) for polygon in outlines]
        assert len(there) == len(scores)
        pairs += matched(here.polygons, there, 0.98)
        found += max(len(here.polygons), len(there))
    assert found > 200
    assert pairs >= 0.995 * found


def test_the_command_says_the_difference_and_refuses_a_large_one(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "m.safetensors"
    given = ("--ckpt_path", folder / "best.ckpt", "--format", "safetensors", "--out", out)
    assert exported(monkeypatch, *given) == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(out), str(out.with_suffix(".md"))]
    assert "probability from the checkpoint's: 0, on 5 pictures (at most 0.0001)" in said.err
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    form = formats.FORMATS["safetensors"]

    def spoilt(data: bytes, description: Any) -> Callable[[np.ndarray], np.ndarray]:
        run = form.run(data, description)
        return lambda images: run(images) + np.float32(2e-4)

    monkeypatch.setitem(formats.FORMATS, "safetensors", replace(form, run=spoilt))
    assert exported(monkeypatch, *given) == 2
    assert "m.safetensors: probabilities differ by up to 0.0002 from" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
def test_other_formats(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchscript", "safetensors"):
        given = ("--ckpt_path", folder / "best.ckpt", "--format", name, "--out", tmp_path / name)
        assert exported(monkeypatch, *given, "--images", folder) == 0
        (tmp_path / f"{name}.md").rename(tmp_path / "card.md")
    script = torch.jit.load(tmp_path / "torchscript")
    detector, same = load(folder / "best.ckpt"), load(tmp_path / "safetensors")
    images = np.random.default_rng(1).integers(0, 255, (3, 64, 96, 3), np.uint8)
    expected = detector.network(images)
    assert np.abs(script(torch.from_numpy(images)).numpy() - expected).max() < 1e-5
    assert np.array_equal(same.network(images), expected)
    assert same.description == detector.description
    with pytest.raises(CheckpointError, match="torchscript: is no checkpoint of weights"):
        load(tmp_path / "torchscript")


def test_the_card_says_what_the_model_is(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = model.with_suffix(".md").read_text()
    assert "ab" * 32 in card
    for row in ("| val/hmean | 0.7500 |", "| threshold | 0.5 |", "| saved at step | 40 |"):
        assert row in card
    assert "ONNX, opset 18" in card
    assert "on 9 pictures" in card  # five that are made, and four of the folder
    assert str(BACKBONE) not in card  # a place on this machine
    assert str(ROOT).encode() not in model.read_bytes()
    monkeypatch.chdir(folder)
    assert cv2.imwrite("page.jpg", np.zeros((40, 40, 3), np.uint8))
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        names: dict[str, Any] = {}
        exec(block, names)
        if "prob" in names:
            assert names["prob"].shape == (1, 192, 256)
    Path("page.jpg").unlink()


def test_what_the_file_says_is_how_it_is_used(folder: Path, model: Path) -> None:
    detector, checkpoint = load(model), load(folder / "best.ckpt")
    assert detector.description == checkpoint.description
    assert detector.description.size == tuple(SIZE)
    assert detector.postprocess == PostProcess(**READ)  # type: ignore[arg-type]
    assert load(model, size=64).description.size == (64, 64)
    with pytest.raises(ModelError, match=r"its size is \(7, 7\), which it cannot be"):
        load(folder / "best.ckpt", size=7)


def test_another_way_to_read_maps_goes_into_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = tmp_path / "tuned.yaml", tmp_path / "model.st"
    config.write_text("data: {val: x}\nmodel: {postprocess: {min_score: 0.62, min_size: 2.0}}\n")
    given = ("--ckpt_path", folder / "best.ckpt", "--format", "safetensors", "--out", out)
    assert exported(monkeypatch, *given, "--config", config) == 0
    before = load(folder / "best.ckpt").postprocess
    assert before.min_score != 0.62
    assert load(out).postprocess == replace(before, min_score=0.62, min_size=2.0)
    assert "| min_score | 0.62 |" in out.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("model: [", "is not valid YAML"),
        ("", "says nothing of model.postprocess; name what `ocr-train tune --yaml` wrote"),
        ("model: {postprocess: 7}", "says nothing of model.postprocess"),
        ("model: {postprocess: {min_score: 7}}", "min_score is 7; it must be from 0 to 1; correct"),
        ("model: {postprocess: {min_score: a}}", "these are no values of its settings; correct it"),
        ("model: {postprocess: {depth: 7}}", "unexpected keyword argument 'depth'; correct it"),
    ],
)
def test_what_says_nothing_of_how_to_read_maps(
    text: str | None,
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "c.yaml"
    if text is not None:
        config.write_text(text)
    given = ("--ckpt_path", folder / "best.ckpt", "--out", tmp_path / "m", "--config", config)
    assert exported(monkeypatch, *given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert str(config) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "does not say how to use it"),
        ("", "its metadata is no description"),
        ("{", "its metadata is no description"),
        ("[" * 200_000, "its metadata is no description"),
        ("[1]", "its metadata is no description"),
        ('{"version": 2}', "its description is of version 2"),
        ({"size": None}, "its size is None, which"),
        ({"size": [640, True]}, "its size is"),
        ({"size": [640, 10**9]}, "its size is"),
        ({"size": "640"}, "its size is '640'"),
        ({"decode": ["exact"]}, "its decode is"),
        ({"postprocess": 3}, "its postprocess is 3"),
        ({"postprocess": {"threshold": "high"}}, "its postprocess is"),
        ({"postprocess": {"threshold": float("nan")}}, "threshold is nan; it must be from 0 to 1"),
        ({"postprocess": {"unclip_ratio": 1e300}}, "unclip_ratio is 1e"),
        ({"postprocess": {"max_candidates": 10**18}}, "max_candidates is 1000000000000000000"),
        ({"postprocess": {"more": 1}}, "a post-processing that there is not"),
        ({"postprocess": {"mode": "\x1b[31m"}}, "a post-processing that there is not"),
        ({"network": 1}, "its network is 1"),
        ({"metrics": {"a": "b"}}, "its metrics is"),
        ({"epoch": -1}, "its epoch is -1"),
    ],
)
def test_what_a_stranger_wrote_into_a_model_is_one_line(
    metadata: str | dict[str, Any] | None, message: str, model: Path, tmp_path: Path
) -> None:
    changed = onnx.load(model)
    (entry,) = changed.metadata_props
    if metadata is None:
        del changed.metadata_props[:]
    else:
        if isinstance(metadata, dict):
            metadata = json.dumps({**json.loads(entry.value), **metadata})
        entry.value = metadata
    onnx.save(changed, tmp_path / "m.onnx")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "m.onnx")
    assert re.match(r"[^\n\x1b]*m\.onnx: [^\n\x1b]*$", str(caught.value))
    assert message in str(caught.value)


def foreign(kind: int, end: str = "prob") -> bytes:
    """A model that gives twice as many rows as it takes."""
    images = onnx.helper.make_tensor_value_info("images", kind, ["b", "h", "w", 3])
    prob = onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, ["b", "r", "w"])
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["pixels"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMax", ["pixels"], ["grey"], axes=[3], keepdims=0),
        onnx.helper.make_node("Concat", ["grey", "grey"], [end], axis=1),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [images], [prob])
    opset = onnx.helper.make_opsetid("", 13)
    made = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    made.metadata_props.add(key="ocr-precompute", value='{"version": 1, "size": [64, 64]}')
    data: bytes = made.SerializeToString()
    return data


def test_what_is_no_model_is_one_line(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for data in (b"", b"\x08", b"\x00" * 99, model.read_bytes()[:-9999], b"\x80\x02hello"):
        path.write_bytes(data)
        with pytest.raises(PrecomputeError, match=r"m\.onnx: (cannot be opened as|is no check)"):
            load(path)
    for kind, end in ((onnx.TensorProto.FLOAT, "prob"), (onnx.TensorProto.UINT8, "other")):
        path.write_bytes(foreign(kind, end))
        with pytest.raises(ModelError, match=r"m\.onnx: does not take images and give prob, as a"):
            load(path)
    path.write_bytes(foreign(onnx.TensorProto.UINT8))
    with pytest.raises(ModelError, match=r"m\.onnx: makes \(1, 128, 64\) of \(1, 64, 64\)"):
        load(path)(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read: No such file"):
        load(tmp_path / "none.onnx")


def test_a_missing_package_is_one_line(
    folder: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "m.onnx"
    for package in ("onnx", "onnxruntime", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert exported(patch, "--ckpt_path", folder / "best.ckpt", "--out", out) == 2
            said = capsys.readouterr().err
            assert re.fullmatch(
                rf"error: {package} cannot be imported \(.*\): "
                r"pip install 'ocr-precompute\[export\]'\n",
                said,
            )
            if package == "onnxruntime":
                with pytest.raises(PrecomputeError, match="onnxruntime cannot be imported"):
                    load(model)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    best = folder / "best.ckpt"
    (tmp_path / "notes.md").write_text("what I think")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for arguments, message in (
        ((tmp_path / "none.ckpt", "--out", tmp_path / "m"), "none.ckpt: cannot be read: No such"),
        ((tmp_path / "other.ckpt", "--out", tmp_path / "m"), "other.ckpt: holds no text detector"),
        ((best, "--out", tmp_path / "notes.st"), "notes.md: is not the card of notes.st; give an"),
        ((best, "--out", best), "best.ckpt: is the checkpoint itself; give another --out"),
        ((best, "--out", tmp_path / "m.md"), "m.md: is no name of a model; give another --out"),
        ((best, "--out", "."), ".: is no name of a model"),
        ((best, "--out", "s3://bucket/m"), "--out: 's3://bucket/m' looks like a URL; give a"),
        ((best, "--out", tmp_path / "file" / "m"), "m: cannot be written: "),
        ((best, "--out", tmp_path / "m", "--images", tmp_path / "empty"), "there is no image in"),
    ):
        given = ("--ckpt_path", *arguments, "--format", "safetensors")
        assert exported(monkeypatch, *given) == 2, arguments
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert message in said
    assert (tmp_path / "notes.md").read_text() == "what I think"
    assert exported(monkeypatch, "--format", "tflite") == 2
    assert "--ckpt_path" in capsys.readouterr().err


def test_the_command_has_help_and_is_in_the_readme(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    options = set(re.findall(r"(?<!-)--[a-z_]+", shown))
    assert {"--ckpt_path", "--format", "--out", "--images"} <= options
    for path in ("README.md", "docs/using.md"):
        text = (ROOT / path).read_text()
        lines = re.findall(r"ocr-train (export [^`\n|]*)", text)
        assert lines
        assert set(re.findall(r"--[a-z_]+", " ".join(lines))) <= options


# ------------------------------------------------------------------------------------ pictures


def same(a: Detections, b: Detections) -> bool:
    equal = [np.array_equal(p, q) for p, q in zip(a.polygons, b.polygons, strict=True)]
    return all(equal) and np.array_equal(a.scores, b.scores)


def test_a_picture_is_a_file_or_an_array(folder: Path) -> None:
    detector = load(folder / "best.ckpt")
    bgr = cv2.imread(str(folder / "a.png"))
    assert bgr is not None
    expected = detector(folder / "a.png")
    assert len(expected.polygons) > 30
    assert same(detector(str(folder / "a.png")), expected)
    assert same(detector(bgr[..., ::-1]), expected)
    upright = cv2.rotate(cv2.imread(str(folder / "b.jpg")), cv2.ROTATE_90_CLOCKWISE)
    assert same(detector(folder / "turned.jpg"), detector(upright[..., ::-1]))
    corners = np.concatenate(detector(folder / "turned.jpg").polygons)
    assert corners[:, 1].max() > 300  # pixels of the picture as it is displayed, 500 high
    assert (corners <= [300, 500]).all()
    outlines = replace(detector, postprocess=PostProcess(mode="polygon", threshold=0.5))
    assert any(len(polygon) > 4 for polygon in outlines(bgr).polygons)


def test_what_is_no_picture(folder: Path, tmp_path: Path) -> None:
    detector = load(folder / "best.ckpt")
    (tmp_path / "a.jpg").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"a\.jpg: is not a JPEG, PNG"):
        detector(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"none\.jpg: cannot be read: No such file"):
        detector(tmp_path / "none.jpg")
    for shape, dtype in (((4, 4), "uint8"), ((4, 4, 4), "uint8"), ((4, 4, 3), "float32")):
        with pytest.raises(ValueError, match=r"give uint8 \(height, width, 3\), in RGB"):
            detector(np.zeros(shape, dtype))
    with pytest.raises(ValueError, match="tile is 5; it must be a number of pixels, at least 32"):
        detector(folder / "a.png", tile=5)


def test_an_old_checkpoint_needs_a_size(folder: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(folder / "best.ckpt", weights_only=True)
    del checkpoint["DetectionData"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    with pytest.raises(ModelError, match="does not say at what size it was trained"):
        load(tmp_path / "old.ckpt")
    assert isinstance(load(tmp_path / "old.ckpt", size=(96, 64)), Detector)
