"""The moving average keeps its precision and starts where it is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from csa_inpaint.training.average import MovingAverage

Make = Callable[..., Any]


def test_average_of_bf16_weights_moves() -> None:
    """A step of 1/1000 is smaller than what bfloat16 can add to 1."""
    network = nn.Linear(1, 1, bias=False).bfloat16()
    with torch.no_grad():
        network.weight.fill_(1.0)
    average = MovingAverage(network, decay=0.999)
    average.update_parameters(network)  # the first copies
    average.n_averaged.fill_(10_000)
    with torch.no_grad():
        network.weight.fill_(2.0)
    average.update_parameters(network)
    torch.testing.assert_close(average.module.weight, torch.tensor([[1.001]]), atol=1e-6, rtol=0)


def test_average_keeps_float32_when_a_module_changes_type() -> None:
    holder = nn.ModuleDict(
        {"average": MovingAverage(nn.Linear(2, 2), 0.9), "other": nn.Linear(2, 2)}
    )
    before = holder["average"].module.weight.clone() + 1e-5
    with torch.no_grad():
        holder["average"].module.weight.copy_(before)
    holder.to(torch.bfloat16)
    assert holder["other"].weight.dtype == torch.bfloat16
    assert torch.equal(holder["average"].module.weight, before)
    holder.to("meta")
    assert holder["average"].module.weight.device.type == "meta"


def test_training_in_bf16_true_averages_validates_and_resumes(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    tmp_path: Path,
) -> None:
    def fit(folder: str, checkpoint: Path | None = None) -> Any:
        module = make_module(seed=5 if checkpoint else 0, ema_decay=0.99, learning_rate=1e-3)
        trainer = make_trainer([save_after(folder)], max_epochs=2, precision="bf16-true")
        trainer.fit(
            module, make_batches(2), make_batches(1), ckpt_path=checkpoint, weights_only=True
        )
        assert torch.isfinite(trainer.callback_metrics["val/psnr"])
        return module

    module = fit("whole")
    assert next(module.generator.parameters()).dtype == torch.bfloat16
    averages = list(module.ema.module.parameters())
    assert all(value.dtype == torch.float32 for value in averages)
    # the average lies between values of bfloat16
    assert any(not torch.equal(value, value.bfloat16().float()) for value in averages)
    fit("resumed", tmp_path / "whole/epoch_0.ckpt")
    assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / "resumed/end.ckpt")


def test_restarted_average_starts_from_the_network() -> None:
    network, average = nn.Linear(2, 2), MovingAverage(nn.Linear(2, 2), 0.9)
    average.update_parameters(network)
    restarted = average.restarted(network)
    assert torch.equal(restarted.module.weight, network.weight)
    assert int(restarted.n_averaged) == 0


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_average_refuses_a_decay_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"ema_decay={decay}, expected a value in \[0, 1\)"):
        MovingAverage(nn.Linear(1, 1), decay)
