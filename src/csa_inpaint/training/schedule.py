"""The schedule of the learning rate."""


class LinearDecay:
    """Factor of the learning rate: 1 for ``constant`` units, then linear to 0 in ``decay`` units.

    Args:
        constant: units at the full rate.
        decay: units of decay; 0 keeps the full rate for ever.
        unit: ``"epoch"`` or ``"step"``; whoever steps the scheduler goes by it.
    """

    def __init__(self, constant: int = 20, decay: int = 100, unit: str = "epoch") -> None:
        if unit not in ("epoch", "step"):
            raise ValueError(f"schedule.unit={unit!r}, expected epoch or step")
        if constant < 0 or decay < 0:
            raise ValueError(f"schedule: constant={constant}, decay={decay}, expected no negatives")
        self.constant = constant
        self.decay = decay
        self.unit = unit

    def __call__(self, units: int) -> float:
        if not self.decay:
            return 1.0
        return min(1.0, max(0.0, (self.constant + self.decay - units) / self.decay))
