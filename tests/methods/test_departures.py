"""The named departures of the CSA generator from the paper."""

from typing import Any

import pytest
import torch
from torch import nn

from csa_inpaint import CSAInpainter, Generator
from csa_inpaint.methods.csa import RoughGenerator
from csa_inpaint.networks.pull_push import pull_push


def pair(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = torch.rand(2, 3, size, size) * 2 - 1, torch.zeros(2, 1, size, size)
    mask[..., 16:40, 20:50] = 1
    return image, mask


@pytest.mark.parametrize("kind", [Generator, RoughGenerator])
def test_pull_push_fill_hides_the_hole(kind: type[Generator] | type[RoughGenerator]) -> None:
    generator = kind(width=4, depth=4, fill="pull_push")
    image, mask = pair()
    here, there = generator(image, mask), generator(image.where(mask < 0.5, 0.7), mask)
    torch.testing.assert_close(here.refined, there.refined)
    other = kind(width=4, depth=4)
    other.load_state_dict(generator.state_dict())
    assert not torch.allclose(other(image, mask).rough, here.rough)


@pytest.mark.parametrize("kind", [Generator, RoughGenerator])
def test_residual_generator_starts_at_its_fill(
    kind: type[Generator] | type[RoughGenerator],
) -> None:
    generator = kind(width=4, depth=4, fill="pull_push", residual=True)
    image, mask = pair()
    out = generator(image, mask)
    fill = pull_push(image, mask > 0.5)
    assert torch.equal(out.rough, fill)
    assert torch.equal(out.refined, fill)


def test_residual_generator_changes_the_hole_only() -> None:
    generator = Generator(width=4, depth=4, fill="pull_push", residual=True)
    for parameter in generator.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    image, mask = pair()
    out = generator(image, mask)
    for made in (out.rough, out.refined):
        assert torch.equal(made.where(mask < 0.5, 0), image.where(mask < 0.5, 0))
        assert not torch.equal(made, pull_push(image, mask > 0.5))


@pytest.mark.parametrize("kind", [Generator, RoughGenerator])
def test_mask_input_is_seen(kind: type[Generator] | type[RoughGenerator]) -> None:
    generator = kind(width=4, depth=4, mask_input=True)
    image = torch.full((1, 3, 64, 64), 0.5)
    image[:] = generator.fill  # the fill colour hides every hole from a network without the mask
    mask = pair()[1][:1]
    with_hole, without = generator(image, mask), generator(image, torch.zeros_like(mask))
    assert not torch.allclose(with_hole.rough, without.rough)
    blind = kind(width=4, depth=4)
    torch.testing.assert_close(blind(image, mask).rough, blind(image, 0 * mask).rough)


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_blocks_build_what_they_name(norm: Any, upsampling: Any) -> None:
    generator = Generator(width=8, depth=4, norm=norm, upsampling=upsampling)
    kinds = {type(part) for part in generator.modules()}
    assert (nn.InstanceNorm2d in kinds) == (norm == "instance")
    assert (nn.GroupNorm in kinds) == (norm == "group")
    assert (nn.Upsample in kinds) == (upsampling == "resize")
    image, mask = pair()
    out = generator(image, mask)
    assert out.refined.shape == image.shape
    assert out.refined.isfinite().all()
    out.refined.abs().mean().backward()
    assert all(p.grad is not None for p in generator.refinement.parameters())


def test_transposed_4x4_convolutions_go_with_upsampling() -> None:
    generator = Generator(width=4, depth=4, upsampling="resize")
    found = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert {m.stride for m in found} == {(1, 1)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fill": "black"}, "fill='black'.*pull_push"),
        ({"norm": "batch"}, "norm='batch'.*group"),
        ({"upsampling": "bilinear"}, "upsampling='bilinear'.*resize"),
    ],
)
def test_departures_refuse_unknown_names(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Generator(width=4, depth=4, **settings)


def test_departures_are_settings_of_the_paper_model() -> None:
    departures = {"fill": "pull_push", "residual": True, "mask_input": True, "norm": "group"}
    for refinement in (True, False):
        weights = {} if refinement else {"l1_refined": 0, "consistency": 0}
        model = CSAInpainter(
            width=8, depth=4, refinement=refinement, loss_weights=weights, **departures
        )
        assert model.generator.residual
        assert model.generator.mask_input
        assert model.generator.continues
