"""Training in phases."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from csa_inpaint.adversaries import NonSaturating, PatchAdversary
from csa_inpaint.callbacks import Phases
from csa_inpaint.callbacks.phases import Phase, PhasedWindow
from csa_inpaint.training.window import Window

Make = Callable[..., Any]
THREE = [{"windows": 2, "discriminators": False}, {"windows": 1, "generator": False}, {}]


class Watch(pl.Callback):
    """Notes after each batch which side has changed, and counts the discriminator's calls."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.calls: list[int] = []
        self.before: dict[str, torch.Tensor] = {}

    def weights(self, module: Any) -> dict[str, torch.Tensor]:
        parts = {"g": module.generator, "d": module.discriminators}
        return {k: torch.cat([p.detach().flatten().clone() for p in part.parameters()])
                for k, part in parts.items()}  # fmt: skip

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.before = self.weights(pl_module)
        pl_module.discriminators["patch"].register_forward_hook(
            lambda *_: self.calls.append(len(self.changed))
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.updates, self.number = pl_module.window.updates, pl_module.window.number

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        now = self.weights(pl_module)
        moved = [name for name in now if not torch.equal(now[name], self.before[name])]
        self.changed.append("".join(moved))
        self.before = now


def test_each_phase_teaches_its_side_alone(
    make_module: Make, make_batches: Make, make_trainer: Make
) -> None:
    watch, adversary = Watch(), PatchAdversary(NonSaturating())
    module = make_module()
    trainer = make_trainer([adversary, Phases(THREE), watch], max_epochs=2)
    trainer.fit(module, make_batches(3))
    assert watch.changed == ["g", "g", "d", "gd", "gd", "gd"]
    assert set(watch.calls) == {2, 3, 4, 5}  # none while the discriminators rest
    assert (watch.updates, watch.number) == (5, 2)
    # Nothing is left for a training without phases.
    assert adversary.active
    assert type(module.window) is Window


def test_updates_count_the_windows_in_which_the_generator_learnt() -> None:
    phases = [Phase(3, discriminators=False), Phase(4, generator=False), Phase()]
    for every in (1, 2, 3):
        window, learnt = PhasedWindow(1, every, phases), 0
        for _ in range(20):
            assert window.updates == learnt
            learnt += window.generator_learns
            window.close()
        assert type(window.fresh()) is PhasedWindow
        assert window.fresh().closed == 0


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "phases is empty"),
        ([{"batches": 3}], "windows, generator, discriminators; batches is unknown"),
        ([{}, {}], "phase 1 of 2 has windows=None"),
        ([{"windows": 0}, {}], "phase 1 of 2 has windows=0"),
        ([{"windows": 3}], "phase 1 of 1 has windows=3.*the last one has none"),
        ([{"generator": False, "discriminators": False}], "phase 1: neither side learns"),
    ],
)
def test_phases_that_make_no_sense_are_refused(phases: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phases(phases)
