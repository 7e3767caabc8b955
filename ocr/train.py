"""The command line of training: `ocr-train fit --config configs/train.yaml`."""

from __future__ import annotations

import logging
import signal
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse.typing import ClosedUnitInterval, PositiveFloat
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    LRSchedulerCallable,
    OptimizerCallable,
)
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ocr.baselines import RATE
from ocr.baselines.measuring import measuring
from ocr.datasets import SampleError
from ocr.datasets.data_module import DetectionData
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import (
    FailureRelay,
    Performance,
    PredictionWriter,
    Profile,
    ProgressLines,
    ResourceMonitor,
    Resume,
    RunReport,
    ValidationRecord,
)
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO, check_resumable
from ocr.models.checkpoint import read_checkpoint, saved_settings
from ocr_precompute.baselines.baseline import check_comparable, read_baseline
from ocr_precompute.errors import PrecomputeError
from ocr_precompute.monitoring.monitor import INTERVAL
from ocr_precompute.monitoring.rules import rules_of_a_training

# As TextDetector has them by itself, in the form that a configuration overrides.
_OPTIMIZER = {
    "class_path": "torch.optim.AdamW",
    "init_args": {"lr": 1e-3, "weight_decay": 1e-4},
}
_LR_SCHEDULER = {"class_path": "ocr.lightning_modules.schedule.WarmupPolynomialLR"}

MONITORING: tuple[tuple[str, Any, Any, str], ...] = (
    ("monitor", bool, True, "Look at what the run uses of its machine, and raise alerts."),
    ("monitor_interval", PositiveFloat, INTERVAL, "Seconds between two looks."),
    (
        *("metrics_port", int | None, None),
        "Show Prometheus metrics at http://127.0.0.1:PORT/metrics; process N of the machine takes "
        "PORT + N.",
    ),
    (
        *("baseline", str | None, None),
        "What `ocr-train baseline save` wrote: raise an alert if this training is slower by "
        "max_regression.",
    ),
    ("max_regression", ClosedUnitInterval, 0.3, "Share of the speed that may be lost before that."),
    ("fail_on_alert", bool, False, "End with status 1 if an alert was raised."),
    ("profile", bool, False, "Profile some steps of fit, and say what the training is bound by."),
    (
        *("report", bool, True),
        "Keep what validations find, and write report.html into the run's folder at the end.",
    ),
)

rank_zero_log = logging.getLogger("lightning.pytorch.utilities.rank_zero")

_FAILURES = (PrecomputeError, SampleError, MisconfigurationException, OSError)
_EVALUATIONS = ("validate", "test", "predict")
_NO_FILES = ("best", "last", "hpc", "registry")  # what else Lightning takes for a checkpoint's path


class TrainCLI(LightningCLI):
    """LightningCLI for a TextDetector and DetectionData.

    Clocks, lines of progress and the writer of predictions are always there; all else is in the
    configuration. To evaluate a checkpoint takes no configuration: what it says of its model is the
    default.
    """

    name = ""  # of the command, where it is not that of the subcommand
    keeps = True  # the configuration, in the run's folder

    def __init__(
        self, args: ArgsType = None, *, run: bool = True, relay: FailureRelay | None = None
    ) -> None:
        words = sys.argv[1:] if args is None else args
        self._word = words[0] if isinstance(words, list) and words else ""
        self._times, self._relay = Performance(), relay
        self._resources: ResourceMonitor | None = None
        callbacks: list[Callback] = [self._times, Resume(), ProgressLines()]
        super().__init__(
            TextDetector,
            DetectionData,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "prog": "ocr-train",
                "description": "Train a DBNet text detector from a store. `ocr-train init` writes "
                "configurations to start from, `tune` finds settings of post-processing, `export` "
                "writes a checkpoint as ONNX, `evaluate` compares predictions with annotations, "
                "`report RUN_DIR` writes a page about a training, and `baseline` says whether one "
                "has become slower; each has a --help of its own.",
            },
            trainer_defaults={"callbacks": callbacks + ([relay] if relay is not None else [])},
            args=args,
            run=run,
            auto_configure_optimizers=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """That which is asked for, or all: to gather the settings of each takes its time."""
        every = LightningCLI.subcommands()
        return {self._word: every[self._word]} if self._word in every else every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the writer of predictions, and optimiser and schedule, which the model needs."""
        for name, kind, default, text in (
            ("optimizer", OptimizerCallable, _OPTIMIZER, "A torch optimiser by its class."),
            ("lr_scheduler", LRSchedulerCallable, _LR_SCHEDULER, "A scheduler by its class."),
        ):
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
            parser.link_arguments(name, f"model.{name}")
        for name, given, start, text in MONITORING:
            parser.add_argument(f"--{name}", type=given, default=start, help=text)
        parser.add_lightning_class_args(PredictionWriter, "predictions")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and look at the checkpoint, if one is named, before anything else is done."""
        super().parse_arguments(parser, args)
        subcommand = self.config.get("subcommand") or ""
        path = self.config.get(subcommand, {}).get("ckpt_path")
        if subcommand == "predict":  # it logs nothing, and its output is no run of a training
            quiet = {"trainer.logger": False, "seed_everything": False}
            self._parser(subcommand).set_defaults(quiet)
        if subcommand == "predict" or not self.keeps:
            self.save_config_callback = None
        if path and path not in _NO_FILES:
            checkpoint = read_checkpoint(Path(path))
            if subcommand == "fit":
                check_resumable(checkpoint, Path(path))
            else:
                known = saved_settings(checkpoint, path).items()
                self._parser(subcommand).set_defaults({f"model.{k}": v for k, v in known})
                super().parse_arguments(parser, args)
        chosen = self.config.get(subcommand, {})
        if subcommand in _EVALUATIONS and not (path or chosen.model.weights):
            name = self.name or subcommand
            raise PrecomputeError(f"{name} needs a trained model; name one with --ckpt_path")
        _check_monitoring(chosen)
        if "ckpt_path" in chosen:
            chosen["weights_only"] = True  # a checkpoint holds plain data and runs no code
        if subcommand == "predict":
            chosen["return_predictions"] = False  # they are written as they come
        if "trainer" in chosen and chosen.trainer.enable_progress_bar is None:
            chosen.trainer.enable_progress_bar = sys.stdout.isatty()

    def after_fit(self) -> None:
        """Raises PrecomputeError if not one step was done."""
        if self._times.trained:
            return
        if self.trainer.ckpt_path:
            raise PrecomputeError(
                f"nothing was left to train: {self.trainer.ckpt_path} has done "
                f"{self.trainer.current_epoch} epochs and {self.trainer.global_step} steps; to go "
                "on, raise --trainer.max_epochs, or --trainer.max_steps"
            )
        raise PrecomputeError(
            "nothing was trained, for the settings allow no step; look at trainer.max_epochs, "
            "max_steps, max_time and limit_train_batches"
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, which writes whole checkpoints unless told how to write them."""
        trainer: Trainer = super().instantiate_trainer(**kwargs)
        chosen = self.config.get(self.subcommand or "", {})
        callbacks: list[Callback] = vars(trainer)["callbacks"]
        if chosen.get("report"):
            callbacks[:0] = [ValidationRecord(), RunReport()]
        if chosen.get("monitor"):
            self._resources = ResourceMonitor(
                self._times,
                interval=chosen.monitor_interval,
                metrics_port=chosen.metrics_port,
                rules=rules_of_a_training(self._expected(trainer), chosen.max_regression),
            )
            callbacks.insert(0, self._resources)  # before Performance, which writes it
        if chosen.get("profile") and self.subcommand == "fit":
            callbacks.append(Profile(self._times))
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        if self._relay is not None and trainer.world_size > 1:
            self._relay.watch()
        return trainer

    def _expected(self, trainer: Trainer) -> float | None:
        """Samples a second and process that a baseline has, if there is one.

        Raises InputError if it is not one of this training on this machine.
        """
        chosen = self.config.get(self.subcommand or "", {})
        if not chosen.get("baseline") or self.subcommand != "fit":
            return None
        path = Path(chosen.baseline)
        baseline = read_baseline(path)
        check_comparable(path, baseline, measuring(chosen, trainer))
        return statistics.median(baseline.rates[RATE]) / trainer.world_size

    @property
    def alerted(self) -> list[str]:
        """Rules whose alerts are to count, and were raised in the first process."""
        chosen = self.config.get(self.subcommand or "", {})
        if self._resources is None or not chosen.fail_on_alert or not self.trainer.is_global_zero:
            return []
        return sorted({alert.rule for alert in self._resources.alerts})

    def instantiate_classes(self) -> None:
        """Make the objects. Raises PrecomputeError for a setting that an object refuses."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise PrecomputeError(str(error)) from error


def _show_log() -> None:
    """What is decided while a training runs, on the error stream, of the first process."""
    ours = logging.getLogger("ocr")
    if not ours.handlers:
        screen = logging.StreamHandler()
        screen.addFilter(lambda _: getattr(rank_zero_only, "rank", 0) == 0)
        ours.addHandler(screen)
    ours.setLevel(logging.INFO)


def _check_monitoring(chosen: Any) -> None:
    """Raises PrecomputeError for settings of the monitor that make no sense together."""
    port = chosen.get("metrics_port")
    if port is not None and not 0 <= port <= 65535:
        raise PrecomputeError(f"metrics_port is {port}; give a port from 0 to 65535")
    asked = [] if port is None else ["metrics_port"]
    asked += [name for name in ("fail_on_alert", "baseline") if chosen.get(name)]
    if asked and not chosen.get("monitor"):
        raise PrecomputeError(f"monitor is off, which {' and '.join(asked)} cannot do without")


def main(args: ArgsType = None, make: Callable[..., TrainCLI] = TrainCLI) -> None:
    """Run the command; exit status as of `ocr.command.main`.

    args: by default those of the process. make: of a TrainCLI.
    """
    # What Lightning recommends for loaders with worker processes; ours has threads.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    rank_zero_log.addFilter(lambda record: "Tip: " not in record.getMessage())  # advertising
    # An evaluation has no need of what wrote the checkpoint.
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # of Lightning itself
    # The metric is summed over processes already; times are those of the first process.
    warnings.filterwarnings("ignore", r".*self\.log\('(val|test|time|resources)/.*sync_dist=True.*")
    # Of the one-channel layer at the end of each head, whose copy costs nothing.
    warnings.filterwarnings("ignore", "(?s).*Grad strides do not match bucket view strides.*")
    # Of a function that is named in the configuration, such as one that prunes.
    warnings.filterwarnings("ignore", "(?s).*Unable to serialize instance.*")
    _show_log()
    relay = FailureRelay(_FAILURES)
    try:
        alerted = make(args, relay=relay).alerted
    except _FAILURES as error:
        relay.end(error)
    except SIGTERMException:
        print("stopped by a signal", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except SystemExit as ended:
        if not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        # Lightning has ended the run as it should be, but with the status of an alert.
        if getattr(rank_zero_only, "rank", 0) == 0:
            print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception:
        if not relay.failed:
            raise
        relay.end()  # what was raised here follows from another process's failure
    if alerted:
        print(f"alerts were raised: {', '.join(alerted)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
