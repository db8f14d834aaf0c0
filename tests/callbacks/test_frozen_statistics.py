"""Fine-tuning with frozen batch statistics."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from csa_inpaint import Inpainter
from csa_inpaint.callbacks import FreezeStatistics

Make = Callable[..., Any]


def module() -> Inpainter:
    torch.manual_seed(0)
    return Inpainter(
        generator={
            "_target_": "csa_inpaint.methods.partial_conv.PartialConvGenerator",
            "width": 2,
            "depth": 3,
        },
        losses={"l1": {"_target_": "csa_inpaint.losses.Reconstruction", "image": "rough"}},
    )


def changed(model: Inpainter, before: dict[str, torch.Tensor]) -> set[tuple[str, str]]:
    """Part and kind of the batch norms' values that training changed."""
    return {
        (key.split(".")[0], key.split(".")[-1])
        for key, value in model.generator.state_dict().items()
        if ".norm." in key and not torch.equal(value, before[key])
    }


@pytest.mark.parametrize("learn_affine", [True, False])
def test_frozen_statistics_do_not_change_and_are_used(
    learn_affine: bool, make_batches: Make, make_trainer: Make
) -> None:
    model = module()
    # Statistics that no batch has: a norm that looks at its batch would give another image.
    for norm in model.generator.encoder.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.running_mean, 3.0)
    before = {key: value.clone() for key, value in model.generator.state_dict().items()}
    seen: list[torch.Tensor] = []
    deepest = model.generator.encoder[-1].norm
    deepest.register_forward_hook(
        lambda layer, given, made: seen.append(
            (made - nn.functional.batch_norm(
                given[0], layer.running_mean, layer.running_var, layer.weight, layer.bias
            )).abs().max()
        )
    )  # fmt: skip
    trainer = make_trainer([FreezeStatistics(["encoder"], learn_affine)], max_epochs=2)
    trainer.fit(model, make_batches(2), make_batches(1))
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    affine = {"weight", "bias"}
    expected = {("decoder", kind) for kind in statistics | affine}
    expected |= {("encoder", kind) for kind in affine if learn_affine}
    assert changed(model, before) == expected
    assert len(seen) == 4  # training only: validation runs the average
    assert max(seen) == 0
    assert all(layer.training for layer in model.generator.modules())


def test_freezing_says_what_it_cannot_freeze(make_batches: Make, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match="the generator has no trunk, only encoder, decoder"):
        make_trainer([FreezeStatistics(["trunk"])]).fit(module(), make_batches(1))
    model = module()
    model.generator.plain = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"parts=\['plain'\]: no batch norm"):
        make_trainer([FreezeStatistics(["plain"])]).fit(model, make_batches(1))
