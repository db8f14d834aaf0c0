"""The schedule of the learning rate, and the optimizers' settings of a resumed run."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch.distributed as dist
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class LinearDecay:
    """Factor of the learning rate: 1 for ``constant`` units, then linear to 0 in ``decay`` units.

    Args:
        constant: units at the full rate.
        decay: units of decay; 0 keeps the full rate for ever.
        unit: ``"epoch"`` or ``"step"`` (an update of the generator).
        by_processes: True multiplies the factor by the number of processes (Goyal et al., 2017,
            "Accurate, Large Minibatch SGD"), whose batches together make an update.

    Raises:
        ValueError: for another unit, and for negative numbers.
    """

    def __init__(
        self,
        constant: int = 20,
        decay: int = 100,
        unit: str = "epoch",
        by_processes: bool = False,
    ) -> None:
        if unit not in ("epoch", "step"):
            raise ValueError(f"schedule.unit={unit!r}, expected epoch or step")
        if constant < 0 or decay < 0:
            raise ValueError(f"schedule: constant={constant}, decay={decay}, expected no negatives")
        self.constant = constant
        self.decay = decay
        self.unit = unit
        self.by_processes = by_processes

    def __call__(self, units: int) -> float:
        largest = _processes() if self.by_processes else 1.0
        if not self.decay:
            return largest
        return largest * min(1.0, max(0.0, (self.constant + self.decay - units) / self.decay))


class Rates:
    """The optimizers' settings of this run, and the schedule that runs over their learning rates.

    A checkpoint holds the settings of the run that wrote it. A resumed run keeps the moments of the
    optimizers and the number of units that have passed, and goes on with its own settings.

    Args:
        schedule: factor of the learning rate.
        optimizers: as this run's configuration made them.
    """

    def __init__(self, schedule: LinearDecay, optimizers: Sequence[Optimizer]) -> None:
        self.schedule = schedule
        self.optimizers = optimizers
        # PyTorch saves and restores the attributes of a callable object, but not of a function.
        self.schedulers = [LambdaLR(o, lambda units: schedule(units)) for o in optimizers]
        self._settings = [[_settings(group) for group in o.param_groups] for o in optimizers]

    def step(self, unit: str) -> None:
        """Advance the schedule by one unit, if the schedule counts this unit."""
        if unit == self.schedule.unit:
            for scheduler in self.schedulers:
                scheduler.step()

    def renew(self, units: int) -> Iterator[str]:
        """Apply this run's settings after a checkpoint was restored.

        Args:
            units: number of units of this run's schedule that have passed.

        Yields:
            A line for each setting that differs from the checkpoint's.
        """
        for optimizer, scheduler, groups in zip(
            self.optimizers, self.schedulers, self._settings, strict=True
        ):
            for group, own in zip(optimizer.param_groups, groups, strict=True):
                where = group.get("name", "generator")
                for key in own.keys() & group.keys() - {"lr", "fused", "foreach", "name"}:
                    if _plain(group[key]) != _plain(own[key]):
                        name = "learning rate" if key == "initial_lr" else key
                        yield f"{where}: {name} {own[key]} (checkpoint: {group[key]})"
                group.update(own)
                group["lr"] = own["initial_lr"] * self.schedule(units)
            scheduler.last_epoch = units
            scheduler.base_lrs = [own["initial_lr"] for own in groups]
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def _processes() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
