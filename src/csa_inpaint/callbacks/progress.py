"""A progress bar with room for the losses."""

from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
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


def _short(name: str) -> str:
    side, _, term = name.rpartition("/")
    return f"D_{term}" if side == "discriminator" else term
