"""`ocr-train tune`: one pass of the network over a split, then a search over its maps."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import Callback, Trainer

from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules.detector import TextDetector
from ocr.train import TrainCLI
from ocr.train import main as train
from ocr.tuning.maps import KeptMaps
from ocr.tuning.result import Tuned, check_configuration, configuration, summary, tuned
from ocr_precompute.errors import PrecomputeError, error_lines, printable
from ocr_precompute.files import json_bytes, replace_file, writing
from ocr_precompute.settings import check_local

_DESCRIPTION = """\
Find the settings of post-processing with which a checkpoint finds most texts of a validation split:
threshold, min_score, unclip_ratio and min_size. The network runs once over the split; settings are
then tried on its probability maps, and those of the configuration or the checkpoint are among them,
so H-mean never falls. Nothing is written unless --out or --yaml is given.
"""
_EPILOG = """\
Whatever else is given goes to `ocr-train validate`: --config, --data.val, --data.store and all
others, so settings that are not searched, such as model.postprocess.mode, are given as there.

examples:
  ocr-train tune --ckpt_path best.ckpt --data.store data/store --yaml tuned.yaml
  ocr-train validate --ckpt_path best.ckpt --config tuned.yaml --data.val test
  ocr-train export --ckpt_path best.ckpt --config tuned.yaml --out model.onnx

Exit status: 0 done, 2 bad input or usage.
"""
# Nothing but the network's pass: no run's folder, no page, no alerts.
_ALONE = (
    *("--report=false", "--monitor=false", "--metrics_port=null", "--baseline=null"),
    *("--fail_on_alert=false", "--trainer.logger=false", "--verbose=false"),
)


class Keep(lightning.Callback):
    """Has the maps of a validation kept, and knows how they were read."""

    def __init__(self, maps: KeptMaps) -> None:
        self._maps = maps
        self.base = PostProcess()
        self.split = ""

    def on_validation_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Begin."""
        if isinstance(module, TextDetector):
            module.kept, self.base = self._maps, module.postprocess

    def on_validation_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """End."""
        if isinstance(module, TextDetector):
            module.kept = None


class KeepingCLI(TrainCLI):
    """A validation whose maps are kept, and that leaves nothing behind."""

    name = "tune"
    keeps = False

    def __init__(self, *args: Any, keep: Keep, **kwargs: Any) -> None:
        self._keep = keep
        super().__init__(*args, **kwargs)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """As it is, for one process, which keeps all maps. Raises PrecomputeError for more."""
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size > 1:
            raise PrecomputeError(
                f"tune has all maps in one process, not {trainer.world_size}; give "
                "--trainer.devices 1 --trainer.num_nodes 1"
            )
        callbacks: list[Callback] = vars(trainer)["callbacks"]
        callbacks.append(self._keep)
        data = self.config[self.subcommand or ""].data
        self._keep.split = f"{data.live or data.store}: split {data.val!r}"
        return trainer


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit status: 0 done, 2 bad input or usage."""
    chosen, settings = _parser().parse_known_args(arguments)
    if chosen.ckpt_path is not None:
        settings += ["--ckpt_path", str(chosen.ckpt_path)]
    try:
        for name in ("out", "yaml", "ckpt_path"):
            check_local(getattr(chosen, name) or Path(), f"--{name}")
        check_configuration(chosen.yaml)
        # Lightning wonders why they are not those of the command line, which are.
        warnings.filterwarnings("ignore", ".*LightningCLI's args parameter is intended.*")
        with KeptMaps() as maps:
            keep = Keep(maps)
            train(["validate", *settings, *_ALONE], partial(KeepingCLI, keep=keep))
            found = tuned(maps, keep.base, keep.split)
        print(summary(found))
        for line in found.warnings:
            print(f"warning: {line}", file=sys.stderr)
        _write(found, chosen.out, chosen.yaml, str(chosen.ckpt_path or "the weights at hand"))
    except PrecomputeError as error:
        print(error_lines(error), file=sys.stderr)
        return 2
    return 0


def _write(found: Tuned, out: Path | None, yaml: Path | None, checkpoint: str) -> None:
    if out is not None:
        with writing(out, "give another --out"):
            replace_file(out, json_bytes({"checkpoint": checkpoint, **found.as_dict()}))
    if yaml is not None:
        with writing(yaml, "give another --yaml"):
            replace_file(yaml, configuration(found, checkpoint).encode())
    for path in filter(None, (out, yaml)):
        print(printable(str(path)), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ocr-train tune",
        usage="ocr-train tune --ckpt_path FILE [--out FILE] [--yaml FILE] [settings]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        *("--ckpt_path", "--ckpt-path"), type=Path, metavar="FILE", help="checkpoint of ocr-train"
    )
    parser.add_argument(
        *("--out",), type=Path, metavar="FILE", help="write all that was found as JSON"
    )
    parser.add_argument(
        *("--yaml",), type=Path, metavar="FILE", help="write the settings, as --config takes them"
    )
    return parser
