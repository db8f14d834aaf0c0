"""Training in phases, in which the generator or the discriminators rest."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from csa_inpaint.adversaries import Adversary
from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.preparation import callbacks_of
from csa_inpaint.training.window import Window


class Phase(NamedTuple):
    """A stretch of the training.

    A phase lasts a number of accumulation windows, which are batches unless
    ``accumulate_batches`` is above 1; None is for ever.
    """

    windows: int | None = None
    generator: bool = True  # whether the generator learns
    discriminators: bool = True  # whether the adversaries take part


class PhasedWindow(Window):
    """An accumulation window that knows in which phase it lies.

    Args:
        size, generator_every: see ``Window``.
        phases: in their order; the last one has no end.
    """

    def __init__(self, size: int, generator_every: int, phases: Sequence[Phase]) -> None:
        super().__init__(size, generator_every)
        self.phases = phases

    def fresh(self) -> "PhasedWindow":
        return PhasedWindow(self.size, self.generator_every, self.phases)

    @property
    def number(self) -> int:
        """Number of the open window's phase, from 0."""
        end = 0
        for number, phase in enumerate(self.phases[:-1]):
            end += phase.windows or 0
            if self.closed < end:
                return number
        return len(self.phases) - 1

    @property
    def phase(self) -> Phase:
        """The open window's phase."""
        return self.phases[self.number]

    @property
    def generator_learns(self) -> bool:
        return self.phase.generator and super().generator_learns

    @property
    def updates(self) -> int:
        total, start = 0, 0
        for phase in self.phases:
            end = self.closed if phase.windows is None else min(start + phase.windows, self.closed)
            if phase.generator:
                total += end // self.generator_every - start // self.generator_every
            start = end
        return total


class Phases(pl.Callback):
    """Divide a training into phases, as GLCIC does (Iizuka et al., SIGGRAPH 2017, Alg. 1).

    Where the generator rests, only the discriminators learn; where the discriminators rest, the
    adversaries' terms are zero and cost no forward pass. A resumed training goes on in its phase.

    Args:
        phases: for each phase a mapping with ``windows``, its length in accumulation windows (a
            window is a batch unless ``accumulate_batches`` is above 1), and with ``generator`` and
            ``discriminators``, which are true or false, and true by default. The last phase has no
            ``windows``, because it lasts as long as the training.

    Raises:
        ValueError: for no phases, unknown keys, phases without a length or of a length below 1, a
            length of the last phase, and a phase in which neither side learns.
    """

    def __init__(self, phases: Sequence[Mapping[str, Any]]) -> None:
        unknown = sorted({key for phase in phases for key in phase} - set(Phase._fields))
        if unknown:
            raise ValueError(
                f"a phase has {', '.join(Phase._fields)}; {', '.join(unknown)} is unknown"
            )
        self.phases = [Phase(**phase) for phase in phases]
        for number, phase in enumerate(self.phases, 1):
            last = number == len(self.phases)
            if not (phase.windows is None if last else (phase.windows or 0) >= 1):
                raise ValueError(
                    f"phase {number} of {len(self.phases)} has windows={phase.windows}: every "
                    "phase but the last needs a number of at least 1, the last one has none"
                )
            if not phase.generator and not phase.discriminators:
                raise ValueError(f"phase {number}: neither side learns")
        if not self.phases:
            raise ValueError("phases is empty: a training needs at least one phase")
        self._announced: int | None = None

    def setup(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, stage: str
    ) -> None:
        if stage == "fit":
            window = pl_module.window
            pl_module.window = PhasedWindow(window.size, window.generator_every, self.phases)

    def on_train_batch_start(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, batch: Any, batch_idx: int
    ) -> None:
        window = cast(PhasedWindow, pl_module.window)
        for adversary in callbacks_of(trainer, Adversary):  # type: ignore[type-abstract]
            adversary.active = window.phase.discriminators
        if window.number != self._announced:
            self._announced = window.number
            rank_zero_info(f"phase {window.number + 1} of {len(self.phases)}: {window.phase}")

    def teardown(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, stage: str
    ) -> None:
        """Leave no phases behind for a later training of the same model."""
        if stage == "fit":
            pl_module.window = Window(pl_module.window.size, pl_module.window.generator_every)
        for adversary in callbacks_of(trainer, Adversary):  # type: ignore[type-abstract]
            adversary.active = True
