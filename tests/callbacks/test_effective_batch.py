"""What a run says about its batch and its learning rates."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl

from csa_inpaint.adversaries import FeatureAdversary, Hinge, PatchAdversary
from csa_inpaint.callbacks import EffectiveBatch, effective_batch

Make = Callable[..., Any]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(effective_batch, "rank_zero_info", lines.append)
    return lines


def loader_of(batches: Any, size: int) -> Any:
    batches.batch_size = size
    return batches


def test_effective_batch_is_said_once_with_all_rates(
    make_trainer: Make, make_module: Make, make_batches: Make, said: list[str]
) -> None:
    adversaries: list[pl.Callback] = [
        PatchAdversary(Hinge(), learning_rate=1e-4, width=4),
        FeatureAdversary(Hinge(), learning_rate=1e-4, width=8),
    ]
    trainer = make_trainer([EffectiveBatch(), *adversaries], max_epochs=2)
    module = make_module(accumulate_batches=3, learning_rate=3e-4)
    trainer.fit(module, loader_of(make_batches(2, batch=5), 5))
    assert said == [
        "Effective batch: 15 = 1 node × 1 device × batch 5 × 3 batches accumulated; "
        "learning rate: 0.0003 (generator), 0.0001 (feature, patch)"
    ]


def test_effective_batch_of_a_loader_without_a_size_is_not_said(
    make_trainer: Make, make_module: Make, make_batches: Make, said: list[str]
) -> None:
    make_trainer([EffectiveBatch()]).fit(make_module(), make_batches(1))
    assert said == []
