"""The command line of training: `ocr-train fit --config configs/train.yaml`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    LRSchedulerCallable,
    OptimizerCallable,
)

from ocr.datasets import SampleError
from ocr.datasets.data_module import DetectionData
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import PredictionWriter, Resume, StepTimes
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO
from ocr.lightning_modules.detector import read_checkpoint
from ocr_precompute.errors import PrecomputeError, printable

# As TextDetector has them by itself, in the form that a configuration overrides.
_OPTIMIZER = {
    "class_path": "torch.optim.AdamW",
    "init_args": {"lr": 1e-3, "weight_decay": 1e-4},
}
_LR_SCHEDULER = {"class_path": "ocr.lightning_modules.schedule.WarmupPolynomialLR"}

rank_zero_log = logging.getLogger("lightning.pytorch.utilities.rank_zero")


class TrainCLI(LightningCLI):
    """LightningCLI for a TextDetector and DetectionData.

    Clocks and the writer of predictions are always there; all else is in the configuration.
    """

    def __init__(self, args: ArgsType = None, *, run: bool = True) -> None:
        super().__init__(
            TextDetector,
            DetectionData,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "prog": "ocr-train",
                "description": "Train a DBNet text detector from a store.",
            },
            args=args,
            run=run,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is always there, and optimiser and schedule, of which the model has need."""
        for name, kind, default, text in (
            ("optimizer", OptimizerCallable, _OPTIMIZER, "A torch optimiser by its class."),
            ("lr_scheduler", LRSchedulerCallable, _LR_SCHEDULER, "A scheduler by its class."),
        ):
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
            parser.link_arguments(name, f"model.{name}")
        parser.add_lightning_class_args(StepTimes, "step_times")
        parser.add_lightning_class_args(Resume, "resume")
        parser.add_lightning_class_args(PredictionWriter, "predictions")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and look at the checkpoint, if one is named, before anything else is done."""
        super().parse_arguments(parser, args)
        subcommand = self.config.get("subcommand") or ""
        chosen = self.config.get(subcommand, {})
        path = chosen.get("ckpt_path")
        if subcommand in ("validate", "test", "predict") and not (path or chosen.model.weights):
            raise PrecomputeError(f"{subcommand} needs a trained model; name one with --ckpt_path")
        if path and path not in ("best", "last", "hpc", "registry"):
            read_checkpoint(Path(path))
        if "ckpt_path" in chosen:
            chosen["weights_only"] = True  # a checkpoint holds plain data and runs no code
        if subcommand == "predict":
            chosen["return_predictions"] = False  # they are written as they come

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, which writes whole checkpoints unless told how to write them."""
        trainer: Trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer

    def instantiate_classes(self) -> None:
        """Make the objects. Raises PrecomputeError for a setting that an object refuses."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise PrecomputeError(str(error)) from error


def main() -> None:
    """Run the command. Exit status: 0 done, 2 bad input or usage."""
    # What Lightning recommends for loaders with worker processes; ours has threads.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    rank_zero_log.addFilter(lambda record: "litlogger" not in record.getMessage())  # advertising
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # of Lightning itself
    # The metric is summed over processes already; times are those of the first process.
    warnings.filterwarnings("ignore", r".*self\.log\('(val|test|time)/.*sync_dist=True.*")
    # Of the one-channel layer at the end of each head, whose copy costs nothing.
    warnings.filterwarnings("ignore", "(?s).*Grad strides do not match bucket view strides.*")
    # Of a function that is named in the configuration, such as one that prunes.
    warnings.filterwarnings("ignore", "(?s).*Unable to serialize instance.*")
    try:
        TrainCLI()
    except (PrecomputeError, SampleError, MisconfigurationException, OSError) as error:
        message = "\n".join(printable(line) for line in str(error).splitlines())
        print(f"error: {message}", file=sys.stderr)
        # Other processes may wait for this one: leave without waiting for them.
        sys.stderr.flush()
        os._exit(2) if int(os.environ.get("LOCAL_RANK", 0)) else sys.exit(2)


if __name__ == "__main__":
    main()
