"""Ctrl-C ends a training with a checkpoint, not with a traceback."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_info

from csa_inpaint.training.module import Inpainter


class SaveOnInterrupt(Checkpoint):
    """On Ctrl-C, finish the accumulation window, save everything and say how to resume.

    Within a window the processes hold gradients of their own, and a checkpoint has room for one
    set. After the last batch of an epoch the callback waits for the end of the epoch, validation
    included: a run that is resumed before the validation would skip it and the step of the
    schedule. As a ``Checkpoint`` it runs after all other hooks.

    A second Ctrl-C stops at once; the checkpoints that were written before stay.

    Args:
        path: of the checkpoint that is written.
        resume_command: the command that continues the training; it is printed unchanged.
    """

    def __init__(self, path: str | Path, resume_command: str) -> None:
        self.path = Path(path)
        self.resume_command = resume_command
        self._requested = False
        self._saved = False
        self._previous: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._requested = self._saved = False
        self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        rank_zero_info("\nStopping after this update (Ctrl-C again stops at once) …")

    def on_train_batch_end(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, *args: Any, **kwargs: Any
    ) -> None:
        if not trainer.is_last_batch and not pl_module.window.batches:
            self._stop_if_requested(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_if_requested(trainer)

    def _stop_if_requested(self, trainer: pl.Trainer) -> None:
        # The signal reaches the processes between different batches; they must agree on one.
        if trainer.strategy.reduce_boolean_decision(self._requested, all=False):
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved = True
            raise KeyboardInterrupt

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore()
        if self._saved:  # the progress bar, which would draw over the message, is gone
            rank_zero_info(f"Saved {self.path}. Continue with:\n  {self.resume_command}")
