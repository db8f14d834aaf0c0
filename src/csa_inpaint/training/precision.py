"""Gradient scaling with two optimizers and accumulation windows (precision 16-mixed)."""

from typing import Any

import pytorch_lightning as pl
import torch


class WindowScaler(torch.amp.GradScaler):
    """A gradient scaler whose scale changes only at the end of a window.

    Lightning updates the scale after every optimizer's step. The gradients that the other optimizer
    has accumulated until then were made with the old scale, and would be divided by the new one.

    Args:
        scaler: its settings and its device are taken over.
    """

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        super().__init__(scaler._device, enabled=scaler.is_enabled())
        self.load_state_dict(scaler.state_dict())
        self._stepped = False

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        """Take an optimizer's step, unless its gradients overflowed."""
        self._stepped = True
        return super().step(optimizer, *args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Do nothing; ``end_window`` updates the scale."""

    def end_window(self) -> None:
        """Adapt the scale to the overflows that all optimizers' steps of the window found."""
        if self._stepped:  # no side may have learnt in the window
            super().update()
        self._stepped = False


def prepare_scaler(trainer: pl.Trainer) -> None:
    """Let the scale of a training in 16-mixed change at the end of windows only."""
    plugin: Any = trainer.precision_plugin
    if type(getattr(plugin, "scaler", None)) is torch.amp.GradScaler:
        plugin.scaler = WindowScaler(plugin.scaler)


def end_window(trainer: pl.Trainer) -> None:
    """Adapt the scale in a training in 16-mixed."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if isinstance(scaler, WindowScaler):
        scaler.end_window()
