"""Closed forms of every loss, and the released vectors."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from csa_inpaint.adversaries import (
    WGANGP,
    Hinge,
    LeastSquares,
    NonSaturating,
    Objective,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.losses import consistency_loss, reconstruction_loss

SHARED = Path(__file__).parents[3] / "shared" / "golden"
REAL, FAKE = torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 0.5]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("objective", "discriminator", "generator"),
    [
        # means: real 1, fake -0.25; real - fake: 2.25, 0.25; fake - real: -2, -0.5
        (
            RelativisticAverageLeastSquares(),
            ((1.25**2 + 0.75**2) / 2 + (1 + 0.25) / 2) / 2,
            ((3.25**2 + 1.25**2) / 2 + (9 + 2.25) / 2) / 2,
        ),
        (LeastSquares(), ((1 + 1) / 2 + (1 + 0.25) / 2) / 2, (4 + 0.25) / 2 / 2),
        (Hinge(), (0 + 1) / 2 + (0 + 1.5) / 2, 0.25),
        (
            NonSaturating(),
            (softplus(-2) + softplus(0)) / 2 + (softplus(-1) + softplus(0.5)) / 2,
            (softplus(1) + softplus(-0.5)) / 2,
        ),
        (WGANGP(), -0.25 - 1, 0.25),
    ],
)
def test_objective_has_its_closed_form(
    objective: Objective, discriminator: float, generator: float
) -> None:
    assert objective.discriminator_loss(REAL, FAKE).item() == pytest.approx(discriminator)
    assert objective.generator_loss(REAL, FAKE).item() == pytest.approx(generator)
    half = REAL.bfloat16(), FAKE.bfloat16()  # bfloat16 holds these logits exactly
    for loss in (objective.discriminator_loss(*half), objective.generator_loss(*half)):
        assert loss.dtype == torch.float32
    assert objective.discriminator_loss(*half).item() == pytest.approx(discriminator)


@pytest.mark.parametrize(
    ("objective", "accuracy"),
    [
        (Hinge(), (4 / 4 + 2 / 4) / 2),  # about 0
        (NonSaturating(), (4 / 4 + 2 / 4) / 2),
        (LeastSquares(), (2 / 4 + 3 / 4) / 2),  # about 0.5
        # means: real 0.7375, fake -0.05
        (RelativisticAverageLeastSquares(), (4 / 4 + 3 / 4) / 2),
        (WGANGP(), (4 / 4 + 3 / 4) / 2),
    ],
)
def test_objective_accuracy_has_its_boundary(objective: Objective, accuracy: float) -> None:
    real, fake = torch.tensor([[2.0, 0.6, 0.25, 0.1]]), torch.tensor([[-1.0, -0.5, 0.4, 0.9]])
    assert objective.accuracy(real, fake).item() == accuracy
    assert objective.accuracy(real.bfloat16(), fake.bfloat16()).item() == accuracy
    assert objective.accuracy(fake - 9, real + 9).item() == 0


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the complete golden vectors are not at ../shared")
def test_relativistic_reproduces_released_losses() -> None:
    golden = load_file(SHARED / "gan.safetensors")
    logits = golden["real_logits"], golden["fake_logits"]
    objective = RelativisticAverageLeastSquares()
    for side in ("discriminator_loss", "generator_loss"):
        torch.testing.assert_close(getattr(objective, side)(*logits), golden[side])


@pytest.mark.parametrize("objective", [Hinge(), LeastSquares(), NonSaturating()])
def test_objective_without_penalty_adds_nothing(objective: Objective) -> None:
    assert objective.penalty(nn.Identity(), REAL, FAKE) == 0


def test_wgan_gp_penalty_of_a_linear_discriminator() -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x.sum((1, 2, 3), keepdim=True).expand(-1, 1, 5, 5)

    # the slope is 2 in each of the 12 values, for any number of patches
    expected = 10 * (2 * math.sqrt(12) - 1) ** 2
    real, fake = torch.rand(3, 3, 2, 2), torch.rand(3, 3, 2, 2)
    assert WGANGP().penalty(Sum(), real, fake).item() == pytest.approx(expected, rel=1e-5)


def test_wgan_gp_penalty_reaches_the_discriminator_only() -> None:
    discriminator = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3))
    real, fake = (torch.rand(2, 3, 8, 8, requires_grad=True) for _ in range(2))
    WGANGP().penalty(discriminator, real, fake).backward()
    assert discriminator[0].weight.grad.norm() > 0
    assert real.grad is None
    assert fake.grad is None


def test_wgan_gp_refuses_a_negative_weight() -> None:
    with pytest.raises(ValueError, match="penalty is -1, expected ≥ 0"):
        WGANGP(weight=-1)


def test_reconstruction_is_the_mean_absolute_difference() -> None:
    one, other = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    other[0, 0, 0, 0], other[0, 1, 0, 0] = 0.6, -0.6
    assert reconstruction_loss(one, other).item() == pytest.approx(0.1)


def test_consistency_is_the_mean_over_hole_positions_and_channels() -> None:
    encoder, decoder, target = (
        torch.zeros(1, 2, 2, 2),
        torch.zeros(1, 2, 2, 2),
        torch.ones(1, 2, 2, 2),
    )
    mask = torch.zeros(1, 1, 2, 2)
    mask[0, 0, 0, 0] = mask[0, 0, 1, 1] = 1
    encoder[0, 0, 0, 0] = 4.0  # hole: (4 - 1)² in place of 1
    decoder[0, 1, 0, 1] = 50.0  # known: does not count
    loss = consistency_loss(encoder, decoder, target, mask)
    assert loss.item() == pytest.approx((9 + 7 * 1) / 4)


def test_consistency_gradient_is_in_the_hole_of_the_features() -> None:
    encoder, decoder, target = (torch.randn(2, 4, 3, 3, requires_grad=True) for _ in range(3))
    mask = (torch.rand(2, 1, 3, 3) > 0.5).float()
    mask[:, :, 0, 0], mask[:, :, 1, 1] = 1, 0
    consistency_loss(encoder, decoder, target, mask).backward()
    assert target.grad is None
    for features in (encoder, decoder):
        assert torch.equal((features.grad != 0).float(), mask.expand_as(features))


def test_consistency_without_a_hole_is_zero() -> None:
    features = torch.randn(1, 4, 3, 3, requires_grad=True)
    loss = consistency_loss(features, features, torch.randn(1, 4, 3, 3), torch.zeros(1, 1, 3, 3))
    loss.backward()
    assert loss == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_consistency_compares_narrow_features_with_channel_means() -> None:
    target = torch.tensor([1.0, 3.0, 5.0, 9.0]).view(1, 4, 1, 1)
    features = torch.tensor([2.0, 7.0]).view(1, 2, 1, 1)
    mask = torch.ones(1, 1, 1, 1)
    assert consistency_loss(features, features, target, mask) == 0
    assert consistency_loss(features + 1, features, target, mask) == 1


@pytest.mark.parametrize(
    ("decoder", "target", "message"),
    [
        ((1, 4, 2, 2), (1, 4, 4, 4), "differ from the encoder's"),
        ((1, 4, 4, 4), (1, 4, 8, 8), "the size must be the same"),
        ((1, 4, 4, 4), (1, 6, 4, 4), "the channels a multiple"),
    ],
)
def test_consistency_refuses_shapes_that_do_not_fit(
    decoder: tuple[int, ...], target: tuple[int, ...], message: str
) -> None:
    encoder, mask = torch.zeros(1, 4, 4, 4), torch.ones(1, 1, 4, 4)
    with pytest.raises(ValueError, match=message):
        consistency_loss(encoder, torch.zeros(decoder), torch.zeros(target), mask)


def test_gradient_penalty_of_weight_zero_differentiates_nothing() -> None:
    def refuse(sample: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the discriminator was called")

    sample = torch.rand(1, 3, 8, 8)
    assert WGANGP(weight=0).penalty(refuse, sample, sample) == 0
