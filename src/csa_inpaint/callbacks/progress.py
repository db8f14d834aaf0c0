"""Progress of a training: a bar in a terminal, lines elsewhere."""

from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import pytorch_lightning as pl
import rich
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar
from rich.progress import BarColumn


class LossProgressBar(RichProgressBar):
    """Lightning's progress bar with a shorter bar and shorter names, which fit into 80 columns.

    ``generator/l1_rough`` is shown as ``l1_rough`` and ``discriminator/patch`` as ``D_patch``.

    Args:
        bar_width: width of the bar itself, in characters.
        options: arguments of Lightning's ``RichProgressBar``, such as ``leave``.
    """

    def __init__(self, bar_width: int = 10, **options: Any) -> None:
        super().__init__(**options)
        self.bar_width = bar_width
        # A copy: Lightning's bars share their default theme.
        self.theme = replace(self.theme, metrics_text_delimiter=" ", metrics_format=".3g")

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        columns = super().configure_columns(trainer)
        for column in columns:
            if isinstance(column, BarColumn):
                column.bar_width = self.bar_width
        return columns

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        return {_short(name): value for name, value in metrics.items() if name != "v_num"}


class ProgressLines(ProgressBar):
    """Prints the progress as lines of plain text, for outputs that no one watches.

    The first batch, then one batch every so many steps or seconds, and the end of every epoch get a
    line: time, epoch, step of all steps, losses or scores, images per second of all processes since
    the line before, and the time left at the speed of this process so far, validations included.
    A step is a batch.

    Args:
        every_n_steps: batches between two lines; None for no such lines.
        every_seconds: seconds between two lines; None for no such lines.

    Raises:
        ValueError: for values that are not above 0.
    """

    def __init__(
        self, every_n_steps: int | None = None, every_seconds: float | None = 60.0
    ) -> None:
        super().__init__()
        for name, value in (("every_n_steps", every_n_steps), ("every_seconds", every_seconds)):
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value}, expected more than 0, or null")
        self.every_n_steps = every_n_steps
        self.every_seconds = every_seconds
        self._enabled = True
        self._start = self._line = 0.0  # times of the training's start and of the last line
        self._done_before = 0.0  # share of the training that was done at its start
        self._images = 0  # of this process, since the last line
        self._first = True

    def disable(self) -> None:
        """Print nothing; Lightning calls this method on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = self._line = monotonic()
        self._done_before = _share_done(trainer)
        self._images = 0
        self._first = True

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._images += len(batch[0])
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        now = monotonic()
        by_step = self.every_n_steps is not None and done % self.every_n_steps == 0
        by_time = self.every_seconds is not None and now - self._line >= self.every_seconds
        first, self._first = self._first, False  # of this start
        if first or by_step or by_time:
            self._print(trainer, pl_module, self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        values: dict[str, Any] = self.get_metrics(trainer, pl_module)
        values.update((key, metrics[key]) for key in ("val/psnr", "val/ssim") if key in metrics)
        self._print(trainer, pl_module, values, end="epoch ends")

    def _print(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        values: dict[str, Any],
        end: str = "",
    ) -> None:
        now = monotonic()
        rate = self._images * trainer.world_size / max(now - self._line, 1e-9)
        self._images, self._line = 0, now
        if not self._enabled:
            return
        epochs = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        steps = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        total = _batches(trainer)
        shown = [f"{_short(k)} {float(v):.4g}" for k, v in values.items() if k != "v_num"]
        parts = [
            f"{datetime.now():%Y-%m-%d %H:%M:%S}",
            f"epoch {trainer.current_epoch + 1}{epochs}",
            f"step {steps}{'' if total is None else f'/{total}'}",
            *([end] if end else []),
            " ".join(shown),
            f"{rate:.3g} images/s",
            *self._left(trainer, now),
        ]
        print(" | ".join(parts), flush=True)

    def _left(self, trainer: pl.Trainer, now: float) -> list[str]:
        done = _share_done(trainer)
        if done <= self._done_before:
            return []
        seconds = (now - self._start) * (1 - done) / (done - self._done_before)
        return [f"{timedelta(seconds=round(seconds))} left"]


def progress_display(
    bar_width: int = 10,
    leave: bool = False,
    every_n_steps: int | None = None,
    every_seconds: float | None = 60.0,
) -> ProgressBar:
    """A progress bar where the output is a terminal or a notebook, lines elsewhere.

    Args:
        bar_width: of ``LossProgressBar``, in characters.
        leave: keep the bar of each epoch on the screen.
        every_n_steps: see ``ProgressLines``.
        every_seconds: see ``ProgressLines``.
    """
    console = rich.get_console()
    if console.is_terminal or console.is_jupyter:
        return LossProgressBar(bar_width, leave=leave)
    return ProgressLines(every_n_steps, every_seconds)


def _batches(trainer: pl.Trainer) -> int | None:
    """Batches of the whole training, where the number of epochs limits it."""
    if trainer.max_epochs in (None, -1) or trainer.num_training_batches == float("inf"):
        return None
    return int(trainer.max_epochs * trainer.num_training_batches)


def _share_done(trainer: pl.Trainer) -> float:
    """The share of a training that is done, by the limit that it reaches first; 0 without one."""
    shares = [0.0]
    if total := _batches(trainer):
        shares.append(trainer.fit_loop.epoch_loop.batch_progress.total.ready / total)
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    return max(shares)


def _short(name: str) -> str:
    side, _, term = name.rpartition("/")
    return f"D_{term}" if side == "discriminator" else term
