"""Perceptual, style and total-variation losses against recorded and closed-form values."""

from collections.abc import Callable

import pytest
import torch
from recorded import PER_LAYER, error, needs_recorded, recorded

from csa_inpaint.losses import (
    Perceptual,
    Step,
    Style,
    TotalVariation,
    perceptual_loss,
    reconstruction_loss,
    style_loss,
    total_variation,
)
from csa_inpaint.losses.perceptual import gram
from csa_inpaint.networks.vgg import VGG16Features
from csa_inpaint.types import Batch, Inpainting


@needs_recorded
def test_losses_reproduce_recorded_values() -> None:
    golden = recorded("pconv_losses")
    output, image, hole, composite = (
        golden[name] for name in ("output", "image", "hole", "composite")
    )
    made, blend, truth = (
        {level: golden[f"features.{kind}.{level}"] for level in range(3)}
        for kind in ("out", "comp", "gt")
    )
    port = {
        "hole": reconstruction_loss(output, image, hole, "hole"),
        "valid": reconstruction_loss(output, image, hole, "known"),
        "prc": perceptual_loss(made, truth) + perceptual_loss(blend, truth),
        "style": style_loss(made, truth) + style_loss(blend, truth),
        "tv": total_variation(composite),
    }
    weights = {"hole": 6.0, "valid": 1.0, "prc": 0.05, "style": 120.0, "tv": 0.1}
    port["total"] = torch.stack([weights[name] * value for name, value in port.items()]).sum()
    mmagic = {
        "hole": reconstruction_loss(output, image, hole, "hole", over="region"),
        "valid": reconstruction_loss(output, image, hole, "known", over="region"),
        "tv": total_variation(composite, hole, "hole"),
        "perceptual_output": perceptual_loss(made, truth),
        "perceptual_composite": perceptual_loss(blend, truth),
        "style_output": style_loss(made, truth),
        "style_composite": style_loss(blend, truth),
    }
    found = {f"naoto.{name}": value for name, value in port.items()}
    found |= {f"mmagic.{name}": value for name, value in mmagic.items()}
    for kind, features in (("out", made), ("comp", blend), ("gt", truth)):
        for level in range(3):
            found[f"gram.{kind}.{level}"] = gram(features[level])
    errors = {name: error(value, golden[name]) for name, value in found.items()}
    print(errors)  # pytest -s shows them
    assert max(errors.values()) <= PER_LAYER, errors


def test_style_sees_which_channels_go_together_and_not_where() -> None:
    features = torch.zeros(1, 2, 2, 2)
    features[0, :, 0, 0] = torch.tensor([1.0, 2.0])
    expected = torch.tensor([[[1.0, 2.0], [2.0, 4.0]]]) / 8
    assert torch.equal(gram(features), expected)
    moved = features.flip(3)
    assert style_loss({1: features}, {1: moved}) == 0
    assert perceptual_loss({1: features}, {1: moved}) > 0


def test_gram_stays_in_float32_under_autocast() -> None:
    features = torch.rand(1, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gram(features), gram(features.clone()))
        assert gram(features).dtype == torch.float32
        found = gram(features)
    assert torch.equal(found, gram(features))


def test_total_variation_counts_the_pairs_that_it_names() -> None:
    # A single pixel differs by 1 from its neighbours: two horizontal and two vertical pairs.
    image, mask = torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 5, 6)
    image[..., 2, 2] = 1
    horizontal, vertical = 5 * 5, 4 * 6
    expected = torch.tensor(2 / horizontal + 2 / vertical)
    torch.testing.assert_close(total_variation(image), expected)
    assert total_variation(image, mask, "dilated") == 0
    mask[..., 2, 2] = 1  # the dilated hole holds the pixel's neighbours
    torch.testing.assert_close(total_variation(image, mask, "dilated"), expected)
    # Only the pairs that start in the hole, a single one of each direction.
    assert total_variation(image, mask, "hole") == 2
    for column in (0, 4):  # dilated, it reaches columns 1 and 3: a pair is not inside altogether
        mask = torch.zeros_like(mask)
        mask[..., 2, column] = 1
        assert total_variation(image, mask, "dilated") == 0
    assert total_variation(image, torch.zeros_like(mask), "hole") == 0


def test_total_variation_refuses_other_pairs_and_a_missing_mask() -> None:
    with pytest.raises(ValueError, match="pairs='some', expected dilated, all or hole"):
        total_variation(torch.zeros(1, 3, 4, 4), None, "some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pairs='hole' needs a mask"):
        total_variation(torch.zeros(1, 3, 4, 4), None, "hole")
    with pytest.raises(ValueError, match=r"tv\.pairs='some'"):
        TotalVariation("tv", pairs="some")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("term", "loss"), [(Perceptual("p"), perceptual_loss), (Style("s"), style_loss)]
)
def test_terms_look_at_the_refined_image_and_the_composite(
    term: Perceptual | Style, loss: Callable[..., torch.Tensor]
) -> None:
    vgg = VGG16Features("random", 2, levels=term.vgg_levels(torch.nn.Identity()))
    truth, refined, composite = torch.rand(3, 1, 3, 16, 16)
    step = Step(Batch(truth, truth[:, :1], ["a"]), Inpainting(refined, refined, composite, {}), vgg)
    target = vgg(truth).pool
    expected = loss(vgg(refined).pool, target) + loss(vgg(composite).pool, target)
    assert torch.equal(term.loss(step), expected)
    assert expected > 0


def test_total_variation_term_looks_at_the_composite() -> None:
    image, mask = torch.rand(2, 1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    step = Step(Batch(image[0], mask, ["a"]), Inpainting(image[0], image[0], image[1], {}))
    assert TotalVariation("tv").loss(step) == total_variation(image[1], mask, "dilated")
    assert TotalVariation("tv", pairs="all").loss(step) == total_variation(image[1])
