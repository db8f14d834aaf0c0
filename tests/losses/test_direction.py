"""Perceptual loss on the directions of features."""

import pytest
import torch

from csa_inpaint.losses import FeatureDirection, Step, direction_loss
from csa_inpaint.networks.vgg import VGG16Features
from csa_inpaint.types import Batch, Inpainting


def test_direction_loss_is_zero_for_features_of_another_magnitude() -> None:
    features = torch.rand(2, 8, 4, 4)
    assert direction_loss(3 * features, features) < 1e-9


def test_direction_loss_of_opposite_directions_is_four() -> None:
    features = torch.rand(2, 8, 4, 4) + 0.1
    torch.testing.assert_close(direction_loss(-features, features), torch.tensor(4.0))


def test_direction_loss_is_two_minus_two_cosines() -> None:
    one, other = torch.rand(2, 8, 4, 4), torch.rand(2, 8, 4, 4)
    expected = (2 - 2 * torch.cosine_similarity(one, other)).mean()
    torch.testing.assert_close(direction_loss(one, other), expected)


def step_of(composite: torch.Tensor, truth: torch.Tensor) -> Step:
    mask = torch.zeros_like(truth[:, :1])
    out = Inpainting(composite, composite, composite, {})
    vgg = VGG16Features("random", width=8, levels=(0, 1, 2))
    return Step(Batch(truth, mask, [""]), out, vgg)


def test_feature_direction_reaches_the_image_and_vanishes_at_the_truth() -> None:
    truth = torch.rand(1, 3, 32, 32) * 2 - 1
    term = FeatureDirection("term", weight=2.0)
    assert term.loss(step_of(truth.clone(), truth)) < 1e-6
    image = (torch.rand(1, 3, 32, 32) * 2 - 1).requires_grad_()
    name, loss, weight = term(step_of(image, truth))
    assert (name, weight) == ("generator/term", 2.0)
    (gradient,) = torch.autograd.grad(loss, image)
    assert gradient.abs().sum() > 0


def test_feature_direction_is_the_mean_over_its_levels() -> None:
    step = step_of(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
    alone = [FeatureDirection("a", levels=[level]).loss(step) for level in (0, 2)]
    both = FeatureDirection("b", levels=[0, 2]).loss(step)
    torch.testing.assert_close(both, torch.stack(alone).mean())


@pytest.mark.parametrize("levels", [[], [3], [-1]])
def test_feature_direction_refuses_other_levels(levels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"perceptual\.levels=.*relu3_3"):
        FeatureDirection("perceptual", levels=levels)


def test_feature_direction_refuses_another_image() -> None:
    with pytest.raises(ValueError, match=r"perceptual\.image='masked'"):
        FeatureDirection("perceptual", image="masked")  # type: ignore[arg-type]
