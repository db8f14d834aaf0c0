"""Keep the run's configuration in its checkpoints."""

from typing import Any

import pytorch_lightning as pl


class RunConfig(pl.Callback):
    """Write the run's configuration into every checkpoint.

    ``evaluate`` and ``predict`` read the configuration from the checkpoint.

    Args:
        config: the run's configuration, in plain dicts, lists, strings and numbers.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config
