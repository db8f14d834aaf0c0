"""Perceptual and style loss, and the terms made of them."""

import pytest
import torch

from csa_inpaint.losses import Perceptual, Step, Style, perceptual_loss, style_loss
from csa_inpaint.networks.vgg import VGG16Features
from csa_inpaint.types import Batch, Inpainting


def test_perceptual_loss_is_zero_for_features_of_another_magnitude() -> None:
    features = torch.rand(2, 8, 4, 4)
    assert perceptual_loss(3 * features, features) < 1e-9


def test_perceptual_loss_of_opposite_directions_is_four() -> None:
    features = torch.rand(2, 8, 4, 4) + 0.1
    torch.testing.assert_close(perceptual_loss(-features, features), torch.tensor(4.0))


def test_perceptual_loss_is_two_minus_two_cosines() -> None:
    one, other = torch.rand(2, 8, 4, 4), torch.rand(2, 8, 4, 4)
    expected = (2 - 2 * torch.cosine_similarity(one, other)).mean()
    torch.testing.assert_close(perceptual_loss(one, other), expected)


def test_style_loss_does_not_see_where_features_are() -> None:
    features = torch.rand(1, 8, 6, 6)
    shuffled = features.flatten(2)[..., torch.randperm(36)].view_as(features)
    torch.testing.assert_close(style_loss(shuffled, features), torch.tensor(0.0))
    assert style_loss(features.flip(1), features) > 0.01


def test_style_loss_of_two_directions() -> None:
    one, other = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    one[0, 0], other[0, 1] = 5, 3
    # The Gram matrices are diag(1, 0) and diag(0, 1).
    torch.testing.assert_close(style_loss(one, other), torch.tensor(2.0))


def step_of(composite: torch.Tensor, truth: torch.Tensor) -> Step:
    mask = torch.zeros_like(truth[:, :1])
    out = Inpainting(composite, composite, composite, {})
    vgg = VGG16Features("random", width=8, levels=(0, 1, 2))
    return Step(Batch(truth, mask, [""]), out, vgg)


@pytest.mark.parametrize("kind", [Perceptual, Style])
def test_feature_terms_reach_the_image_and_vanish_at_the_truth(
    kind: type[Perceptual] | type[Style],
) -> None:
    truth = torch.rand(1, 3, 32, 32) * 2 - 1
    term = kind("term", weight=2.0)
    assert term.loss(step_of(truth.clone(), truth)) < 1e-6
    image = (torch.rand(1, 3, 32, 32) * 2 - 1).requires_grad_()
    name, loss, weight = term(step_of(image, truth))
    assert (name, weight) == ("generator/term", 2.0)
    (gradient,) = torch.autograd.grad(loss, image)
    assert gradient.abs().sum() > 0


def test_feature_term_is_the_mean_over_its_levels() -> None:
    step = step_of(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
    alone = [Perceptual("a", levels=[level]).loss(step) for level in (0, 2)]
    torch.testing.assert_close(Perceptual("b", levels=[0, 2]).loss(step), torch.stack(alone).mean())


@pytest.mark.parametrize("levels", [[], [3], [-1]])
def test_feature_term_refuses_other_levels(levels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"perceptual\.levels=.*relu3_3"):
        Perceptual("perceptual", levels=levels)


def test_feature_term_refuses_another_image() -> None:
    with pytest.raises(ValueError, match=r"style\.image='masked'"):
        Style("style", image="masked")  # type: ignore[arg-type]
