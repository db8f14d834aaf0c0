"""Pictures of the held-out images, after every validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torchvision.utils import make_grid, save_image

from csa_inpaint.types import Batch, Inpainting

COLUMNS = ("masked", "rough", "refined", "composite", "truth")


class Preview(pl.Callback):
    """Write a grid of held-out images: masked | rough | refined | composite | truth.

    Every grid shows the same images. They are spread evenly over the held-out set, because
    neighbours in a set of video frames look alike. The grid goes to ``directory`` and to loggers
    that show pictures (Weights & Biases, TensorBoard).

    Args:
        directory: folder of the files ``epoch_<number>.png``.
        images: rows of the grid.
        every_n_epochs: validations between two grids.
    """

    def __init__(self, directory: str | Path, images: int = 10, every_n_epochs: int = 1) -> None:
        self.directory = Path(directory)
        self.images = images
        self.every_n_epochs = every_n_epochs
        self._rows: list[Tensor] = []
        self._wanted: set[int] = set()  # positions in this process's share of the set
        self._seen = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(trainer.test_dataloaders, trainer.num_test_batches)

    def _start(self, loader: Any, batches: Sequence[int | float]) -> None:
        self._rows, self._seen = [], 0
        available = min(len(loader.sampler), int(batches[0]) * loader.batch_size)
        self._wanted = set(spread(self.images, available))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        positions = range(self._seen, self._seen + len(batch.image))
        chosen = [row for row, position in enumerate(positions) if position in self._wanted]
        self._seen += len(batch.image)
        if trainer.is_global_zero and chosen:
            self._rows += list(rows(batch, outputs)[chosen].cpu())

    def on_test_batch_end(self, *arguments: Any, **options: Any) -> None:
        self.on_validation_batch_end(*arguments, **options)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.sanity_checking or not due or not self._rows:
            return
        picture = grid(torch.stack(self._rows))
        self._rows = []
        self.directory.mkdir(parents=True, exist_ok=True)
        save_image(picture, self.directory / f"epoch_{trainer.current_epoch:04d}.png")
        for logger in trainer.loggers:
            log_picture(logger, "val/preview", picture, trainer.global_step)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_validation_epoch_end(trainer, pl_module)


def spread(count: int, available: int) -> list[int]:
    """At most ``count`` of the positions 0 … available - 1, evenly spread, the ends included."""
    if available <= count:
        return list(range(available))
    if count == 1:
        return [0]
    return [round(index * (available - 1) / (count - 1)) for index in range(count)]


def rows(batch: Batch, out: Inpainting) -> Tensor:
    """The five pictures of each sample: (B, 5, 3, H, W) in [0, 1], named by ``COLUMNS``."""
    masked = torch.where(batch.mask > 0.5, torch.ones_like(batch.image), batch.image)
    columns = (masked, out.rough, out.refined, out.composite, batch.image)
    return (torch.stack([column.float() for column in columns], dim=1).clamp(-1, 1) + 1) / 2


def grid(samples: Tensor) -> Tensor:
    """Join samples (N, 5, 3, H, W) into one picture (3, height, width), one sample in each row."""
    picture: Tensor = make_grid(samples.flatten(0, 1), nrow=len(COLUMNS), pad_value=1.0)
    return picture


def log_picture(logger: Logger, name: str, picture: Tensor, step: int) -> None:
    """Send a (3, H, W) picture in [0, 1] to a logger that shows pictures; skip other loggers."""
    if isinstance(logger, WandbLogger):
        logger.log_image(key=name, images=[picture])
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step)
