"""The best state of a training, and its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn


class BestAndLast(ModelCheckpoint):
    """Writes best.ckpt after each validation that is better than all before, and last.ckpt at the
    end of each epoch, whether or not it was validated, and where the training ends within one.

    A training that goes on from a checkpoint knows the best score so far, in whatever folder it
    writes; so its folder has a best.ckpt only once it was better.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        monitor: str = "val/hmean",
        mode: Literal["min", "max"] = "max",
        every_n_train_steps: int | None = None,
    ) -> None:
        """Choose what is best.

        Args:
            dirpath: Folder of the files; checkpoints in the logger's folder by default.
            monitor: The metric that decides which is best.
            mode: max or min.
            every_n_train_steps: Steps after which to write last.ckpt within an epoch too.
        """
        if every_n_train_steps is not None and every_n_train_steps < 1:
            raise ValueError(
                f"every_n_train_steps is {every_n_train_steps}; it must be at least 1, or null"
            )
        super().__init__(
            dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._every = every_n_train_steps
        self._written_at = -1  # the step of last.ckpt

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write nothing before a step is done."""
        super().on_train_start(trainer, module)
        self._written_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, *_: Any
    ) -> None:
        """Write last.ckpt where a step is asked for, and before the training ends in an epoch.

        That of an epoch's last step is written when the epoch has been validated: who went on from
        before would not validate it.
        """
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        step = trainer.global_step
        if (self._every and step % self._every == 0) or _ends(trainer):
            self._write_last(trainer)

    def on_validation_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write best.ckpt, if it is better than all before."""
        super().on_validation_end(trainer, module)
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and _ends(trainer):
            self._write_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write last.ckpt, unless the epoch was left in the middle.

        Lightning would count it as done, and what it had left would be lost.
        """
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._written_at = -1  # the same step within the epoch is another place to go on from
            self._write_last(trainer)

    def _write_last(self, trainer: Trainer) -> None:
        quick = trainer.fast_dev_run  # type: ignore[attr-defined]
        if quick or trainer.global_step == self._written_at:
            return
        self._written_at = trainer.global_step
        path = Path(str(self.dirpath)) / f"{self.CHECKPOINT_NAME_LAST}{self.FILE_EXTENSION}"
        self.last_model_path = str(path)
        trainer.save_checkpoint(path, weights_only=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the best so far, if it is still there."""
        best = state_dict.get("best_model_path")
        if best and Path(best).is_file():
            folder, self.dirpath = self.dirpath, state_dict.get("dirpath")
            super().load_state_dict(state_dict)
            self.dirpath = folder


def _ends(trainer: Trainer) -> bool:
    return trainer.should_stop or trainer.global_step == trainer.max_steps
