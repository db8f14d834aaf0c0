"""Save within an epoch: by time, and when a signal asks the training to stop."""

import signal
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_info

from csa_inpaint.cli.job import in_torchrun
from csa_inpaint.training.module import Inpainter

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the caller is invited to try again
# The last signal that came to any process decides; a signal further down outweighs the others.
SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()),
)
_NOTHING, _DUE = 0, 1  # what a process votes for; a signal's vote follows


class Preempted(SystemExit):
    """A training was saved and ended because of SIGTERM or SIGUSR1.

    Args:
        number: of the signal.
        rank: of this process. Lightning kills rank 0, which may not have finished, when a process
            that it started ends with an error; so these processes end without one.
    """

    def __init__(self, number: int, rank: int) -> None:
        super().__init__(EXIT_CODE if rank == 0 or in_torchrun() else 0)
        self.signal = signal.Signals(number)


class SaveWithinEpoch(Checkpoint):
    """Save everything every few minutes, and before the end that a signal asks for.

    The callback saves after the updates of an accumulation window: within a window the processes
    hold gradients of their own, and a checkpoint has room for one set. After the last batch of an
    epoch the callback waits for the end of the epoch, validation included: a run that is resumed
    before the validation would skip it and the step of the schedule. As a ``Checkpoint`` it runs
    after all other hooks.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR1 end the training after it was saved. One process that gets
    the signal is enough. A second Ctrl-C stops at once; the checkpoints that were written before
    stay. The training ends with ``Preempted`` after SIGTERM and SIGUSR1.

    Args:
        path: of the checkpoint that is written.
        resume_command: the command that continues the training; it is printed unchanged.
        every_minutes: minutes of training between two checkpoints; None saves for signals only.

    Raises:
        ValueError: for ``every_minutes`` that is not above 0.
    """

    def __init__(
        self, path: str | Path, resume_command: str, every_minutes: float | None = None
    ) -> None:
        if every_minutes is not None and every_minutes <= 0:
            raise ValueError(f"every_minutes={every_minutes}, expected more than 0, or null")
        self.path = Path(path)
        self.resume_command = resume_command
        self.every_minutes = every_minutes
        self._received: set[int] = set()
        self._leaving: int | None = None  # the signal, after the training was saved
        self._previous: dict[int, Any] = {}
        self._mark = 0.0

    # --- signals ---------------------------------------------------------------------------------

    def listen(self) -> None:
        """Note the signals from now on; ``setup`` calls this method too."""
        for number in SIGNALS:
            previous = signal.signal(number, self._on_signal)
            self._previous.setdefault(number, previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in self._received:
            raise KeyboardInterrupt
        if not self._received:
            again = " (Ctrl-C again stops at once)" if number == signal.SIGINT else ""
            rank_zero_info(f"\nStopping after this update{again} …")
        self._received.add(number)

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}
        self._received = set()

    # --- saving ----------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Lightning has set handlers of its own meanwhile. One of them starts a collective operation
        # within another, the other saves within a step.
        if stage == "fit":
            self.listen()
            self._leaving = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = monotonic()

    def on_train_batch_end(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, *args: Any, **kwargs: Any
    ) -> None:
        if not trainer.is_last_batch and not pl_module.window.batches:
            vote = self._vote(trainer)
            if vote != _NOTHING:
                # Lightning logs a batch after the hooks at its end. A process that ends in between
                # would lose the row: the resumed training does not take this batch again.
                trainer._logger_connector.update_train_step_metrics()
                self._save(trainer, vote)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        vote = self._vote(trainer)
        self._mark = monotonic()  # `callbacks.last` has saved
        if vote > _DUE:
            self._save(trainer, vote)

    def _vote(self, trainer: pl.Trainer) -> int:
        """What any process wants, the same on all of them."""
        # A signal reaches the processes between different batches; they must agree on one. The
        # clock of rank 0 is the clock of all.
        own = max((_DUE + 1 + SIGNALS.index(n) for n in self._received), default=_NOTHING)
        if own == _NOTHING and trainer.is_global_zero and self.every_minutes is not None:
            own = int(monotonic() - self._mark >= 60 * self.every_minutes)
        if trainer.world_size == 1:  # a GPU need not wait for its work
            return own
        votes = torch.tensor(own, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(votes, reduce_op="max"))

    def _save(self, trainer: pl.Trainer, vote: int) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        self._mark = monotonic()
        if vote > _DUE:
            self._leaving = SIGNALS[vote - _DUE - 1]
            if self._leaving == signal.SIGINT:
                raise KeyboardInterrupt
            raise Preempted(self._leaving, trainer.global_rank)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training after it was saved."""
        return self._leaving == signal.SIGINT

    # --- the end ---------------------------------------------------------------------------------

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if self._leaving in (None, signal.SIGINT):  # else nothing may cut the end short
            self._restore()
        if self._leaving is not None:
            # The progress bar, which would draw over the message, is gone.
            rank_zero_info(f"Saved {self.path}. Continue with:\n  {self.resume_command}")
