"""Each setting of `fidelity` has its effect, alone and as part of `model/fidelity=released`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from csa_inpaint import CSAInpainter
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.csa import reduce_mask
from csa_inpaint.evaluate import data_config
from csa_inpaint.networks.vgg import VGG16Features

RELEASED = "model/fidelity=released"
# The settings in which the two choices differ, with the released values as a user types them.
DEPARTURES = {
    "similarity": "released",
    "guarded": "false",
    "detach_rough": "true",
    "imagenet_norm": "false",
    "feature_strides": "[2,2,2]",
    "center_hole": "0.46875",
}


def composed(*overrides: str) -> DictConfig:
    tiny = ("model=small", "model.width=4", "model.depth=4", "adversary=[patch,feature]")
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return compose("train", [*tiny, *overrides])


def model(*overrides: str) -> CSAInpainter:
    torch.manual_seed(0)
    made: CSAInpainter = instantiate(composed(*overrides).model, _convert_="all")
    return made


def image_and_mask() -> tuple[Tensor, Tensor]:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:42, 16:42] = 1
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return image, mask


# --- rows 1, 2 and 14: the layer -----------------------------------------------------------------

A, B = (1.0, 0.0), (0.0, 2.0)  # known patches; the hole patches below take from them


def mixed(weight: float) -> tuple[float, ...]:
    """The patch generated from the previous one, A, and the match, B."""
    return tuple(weight * a + (1 - weight) * b for a, b in zip(A, B, strict=True))


@pytest.mark.parametrize(
    ("overrides", "row", "hole", "expected"),
    [
        # ⟨m, A⟩ = 3, ⟨m, B⟩ = 8, ‖m‖ = 5: cosines 0.6 and 0.8
        ([], [A, A, (3.0, 4.0), B], [1, 2], mixed(0.6 / 1.4)),
        (["fidelity.similarity=released"], [A, A, (3.0, 4.0), B], [1, 2], mixed(0.6 / 4.6)),
        ([RELEASED], [A, A, (3.0, 4.0), B], [1, 2], mixed(0.6 / 4.6)),
        # cosines -0.6 and 0.8
        ([], [A, A, (-3.0, 4.0), B], [1, 2], B),
        (["fidelity.guarded=false"], [A, A, (-3.0, 4.0), B], [1, 2], mixed(-0.6 / 0.2)),
        (["fidelity.similarity=released"], [A, A, (-3.0, 4.0), B], [1, 2], B),
        ([RELEASED], [A, A, (-3.0, 4.0), B], [1, 2], mixed(-0.6 / 3.4)),
        ([RELEASED, "fidelity.guarded=true"], [A, A, (-3.0, 4.0), B], [1, 2], B),
        # a known patch between the two of the hole
        ([], [A, A, A, (3.0, 4.0), B], [1, 3], mixed(0.6 / 1.4)),
        (["fidelity.across_gaps=false"], [A, A, A, (3.0, 4.0), B], [1, 3], B),
        ([RELEASED], [A, A, A, (3.0, 4.0), B], [1, 3], mixed(0.6 / 4.6)),
    ],
)
def test_similarity_guard_and_gaps_decide_the_blend(
    overrides: list[str],
    row: list[tuple[float, float]],
    hole: list[int],
    expected: tuple[float, ...],
) -> None:
    layer = model(*overrides).generator.refinement.attention
    mask = torch.zeros(1, 1, 1, len(row))
    mask[..., hole] = 1
    output = layer(torch.tensor(row).T[None, :, None], mask)
    torch.testing.assert_close(output[0, :, 0, hole[-1]], torch.tensor(expected))


# --- rows 8, 12 and 13: the generator ------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "flows"),
    [([], True), (["fidelity.detach_rough=true"], False), ([RELEASED], False)],
)
def test_detach_rough_stops_the_gradient(overrides: list[str], flows: bool) -> None:
    generator = model(*overrides).generator
    generator(*image_and_mask()).refined.square().sum().backward()
    weight = generator.rough.down[0][0].weight
    assert (weight.grad is not None and bool(weight.grad.any())) is flows


@pytest.mark.parametrize(
    ("overrides", "colour"),
    [([], (123, 104, 117)), (["fidelity.fill=[0,255,51]"], (0, 255, 51))],
)
def test_fill_is_what_the_rough_network_sees_in_the_hole(
    overrides: list[str], colour: tuple[int, ...]
) -> None:
    generator = model(*overrides).generator
    seen: list[Tensor] = []
    generator.rough.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image, mask = image_and_mask()
    generator(image, mask)
    expected = torch.tensor(colour)[:, None, None] * 2 / 255 - 1
    torch.testing.assert_close(seen[0], torch.where(mask > 0, expected, image))


@pytest.mark.parametrize(
    ("overrides", "threshold"), [([], 5 / 16), (["fidelity.threshold=0.75"], 0.75)]
)
def test_threshold_decides_the_feature_mask(overrides: list[str], threshold: float) -> None:
    generator, (image, mask) = model(*overrides).generator, image_and_mask()
    expected = {share: reduce_mask(mask, (8, 8), share) for share in (5 / 16, 0.75)}
    assert expected[5 / 16].sum() > expected[0.75].sum()
    out = generator(image, mask)
    assert torch.equal(out.feature_mask, expected[threshold])
    assert generator.refinement.attention.threshold == threshold


# --- rows 9, 10 and 11: VGG-16, the feature discriminator, the hole ------------------------------


@pytest.mark.parametrize("override", ["fidelity.imagenet_norm=false", RELEASED])
def test_imagenet_norm_is_vggs_input(override: str) -> None:
    paper, plain = (VGG16Features(**model(*o).vgg_options) for o in ((), (override,)))
    image, _ = image_and_mask()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = ((image + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    # `plain` sees the image as it is; `paper` sees the normalised image
    torch.testing.assert_close(paper(image).pool3, plain(normalised).pool3)
    assert torch.equal((image - plain.mean) / plain.std, image)  # exactly
    assert not torch.equal(paper(image).pool3, plain(image).pool3)


@pytest.mark.parametrize(
    ("overrides", "logits"),
    [([], 14), (["fidelity.feature_strides=[2,2,2]"], 4), ([RELEASED], 4)],
)
def test_feature_strides_decide_the_logits(overrides: list[str], logits: int) -> None:
    adversary = instantiate(composed(*overrides).adversary.feature, _convert_="all")
    discriminator = adversary.build_discriminator(model(*overrides))
    assert discriminator(torch.randn(1, 16, 32, 32)).shape[-2:] == (logits, logits)


@pytest.mark.parametrize(
    ("overrides", "sides"),
    [([], (128, 64)), (["fidelity.center_hole=0.46875"], (120, 60)), ([RELEASED], (120, 60))],
)
def test_center_hole_scales_with_the_picture(overrides: list[str], sides: tuple[int, int]) -> None:
    mask = instantiate(composed(*overrides).mask, _convert_="all")
    for size, side in zip((256, 128), sides, strict=True):
        drawn = mask(size, size, np.random.default_rng(0))
        margin = (size - side) // 2
        assert drawn.sum() == side * side
        assert drawn[margin : margin + side, margin : margin + side].all()


@pytest.mark.parametrize(("saved", "size"), [({"center_hole": 0.25}, 0.25), (None, 0.5)])
def test_center_hole_is_the_checkpoints_in_evaluation(
    saved: dict[str, float] | None, size: float, tmp_path: Path
) -> None:
    config = {"data": {"mask": "${mask}"}, "mask": {"_target_": "none"}}
    config |= {"fidelity": saved} if saved else {}  # older checkpoints lack this group
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"generator.weight": torch.zeros(1)}, "config": config}, path)
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        cfg = compose("evaluate", [f"checkpoint={path}", "+mask=center"])
    assert data_config(cfg).mask.size == size


# --- the group -----------------------------------------------------------------------------------


def leaves(config: DictConfig, node: str) -> dict[str, Any]:
    """All resolved values below a node, by dotted name."""
    found: dict[str, Any] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                walk(below, f"{name}.{key}")
        else:
            found[name] = value

    walk(OmegaConf.to_container(config[node], resolve=True), node)
    return found


def changes(*overrides: str) -> dict[str, Any]:
    nodes = ("model", "adversary", "mask", "fidelity")
    before, after = (
        {k: v for node in nodes for k, v in leaves(config, node).items()}
        for config in (composed(), composed(*overrides))
    )
    assert before.keys() == after.keys()
    return {key: value for key, value in after.items() if value != before[key]}


def test_each_setting_changes_one_thing_and_released_is_all_of_them() -> None:
    alone = [changes(f"fidelity.{key}={value}") for key, value in DEPARTURES.items()]
    assert all(len(changed) == 2 for changed in alone)  # the setting, and the one that follows it
    assert changes(RELEASED) == {key: value for changed in alone for key, value in changed.items()}


def test_released_with_one_setting_of_the_paper() -> None:
    config = composed(RELEASED, "fidelity.similarity=cosine")
    assert config.model.attention.similarity == "cosine"
    assert config.model.attention.guarded is False
    assert config.model.detach_rough is True


@pytest.mark.parametrize("overrides", [["model=paper"], ["+experiment=places2"]])
def test_fidelity_goes_with_every_model(
    overrides: list[str],
) -> None:
    config = composed(*overrides, RELEASED)
    assert config.model.attention.similarity == "released"
