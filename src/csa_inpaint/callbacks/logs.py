"""Logs of a run that is restarted: what a checkpoint is older than is written, and no row twice."""

from typing import Any

import pytorch_lightning as pl

from csa_inpaint.training.logs import AppendingCSVLogger


class KeepLogs(pl.Callback):
    """Write the logs before each checkpoint, and cut off what a resumed training logs again."""

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for logger in trainer.loggers:
            logger.save()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
        for logger in trainer.loggers:
            if isinstance(logger, AppendingCSVLogger):
                logger.cut(batches)
