"""The run's configuration travels in its checkpoints."""

from typing import Any

import pytorch_lightning as pl


class RunConfig(pl.Callback):
    """Write the configuration into every checkpoint, so that it says how it came about.

    ``evaluate`` and ``predict`` read it from there.

    Args:
        config: plain dicts, lists, strings and numbers.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config
