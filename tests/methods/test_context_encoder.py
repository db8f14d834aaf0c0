"""The context encoder against recorded vectors, and its contract."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorded import PER_LAYER, PER_NETWORK, below, error, needs_recorded, recorded
from torch import Tensor, nn

from csa_inpaint import Inpainter, inpaint
from csa_inpaint.adversaries import ContextAdversary, NonSaturating
from csa_inpaint.adversaries.context import ContextDiscriminator
from csa_inpaint.losses import RimReconstruction, Step
from csa_inpaint.methods.context_encoder import ContextEncoderGenerator
from csa_inpaint.types import Batch, Inpainting
from csa_inpaint.weights import context_encoder as names

Make = Callable[..., Any]


def small(**settings: Any) -> ContextEncoderGenerator:
    torch.manual_seed(0)
    return ContextEncoderGenerator(**{"width": 2, "bottleneck": 4, "depth": 3, **settings})


def pictures(batch: int = 2, size: int = 32, hole: int = 14) -> tuple[Tensor, Tensor]:
    """Random images with a hole in the middle."""
    image = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(batch, 1, size, size)
    edge = (size - hole) // 2
    mask[..., edge : edge + hole, edge : edge + hole] = 1
    return image, mask


def renamed(state: dict[str, Tensor], layers: dict[str, str]) -> dict[str, Tensor]:
    parts = {key: key.rsplit(".", 1) for key in state}
    return {f"{layers[layer]}.{kind}": state[key] for key, (layer, kind) in parts.items()}


@needs_recorded
def test_network_losses_and_discriminator_reproduce_recorded_vectors() -> None:
    golden = recorded("context_encoder")
    image, mask = golden["image"], pictures(size=128, hole=56)[1]
    discriminator = ContextDiscriminator(4)
    discriminator.load_state_dict(
        {k.removeprefix("main."): v for k, v in below(golden, "disc.").items()}
    )
    middle = (..., slice(32, 96), slice(32, 96))
    found: dict[str, float] = {}
    seen: list[Tensor] = []
    with torch.no_grad():
        for mode in ("eval", "train"):
            network = ContextEncoderGenerator(4, 40)
            network.load_state_dict(renamed(below(golden, "state."), names.port_layers()))
            network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            out = network.train(mode == "train")(image, mask)
            found[mode] = error(out.refined[middle], golden[f"output_{mode}"])
            if mode == "eval":
                evaluated = out
        found["input"] = error(seen[0], golden["input"])
        discriminator.eval()
        real, fake = (discriminator(x[middle])[:, :, 0, 0] for x in (image, evaluated.refined))
    found["real"] = error(real.sigmoid(), golden["probability_real"])
    found["fake"] = error(fake.sigmoid(), golden["probability_fake"])
    objective = NonSaturating()
    adversarial = objective.generator_loss(real, fake)
    found["adversarial"] = error(adversarial, golden["adversarial"])
    both = objective.discriminator_loss(real, fake)
    found["discriminator_loss"] = min(
        error(scale * both, golden["discriminator_loss"]) for scale in (1.0, 0.5)
    )
    term = RimReconstruction("l2")
    term.check(network)
    loss = term.loss(Step(Batch(image, mask, ["a", "b"]), evaluated))
    # The port weighs twice: its value holds the factor, and its sum multiplies once more.
    found["l2"] = error(0.999 * loss, golden["weighted_l2"])
    total = 0.001 * adversarial + 0.999 * 0.999 * loss
    found["generator_loss"] = error(total, golden["generator_loss"])
    print(found)  # pytest -s shows it
    assert max(found.values()) <= PER_NETWORK, found
    assert found["input"] <= PER_LAYER


def test_networks_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in network.parameters())
            for network in (
                ContextEncoderGenerator(),
                ContextEncoderGenerator(region="all"),
                ContextDiscriminator(),
                ContextDiscriminator(halvings=5, wide=False),
            )
        ]
    assert counts == [71_124_544, 71_190_208, 2_765_568, 2_831_232]


def test_center_changes_the_central_half_alone() -> None:
    image, mask = pictures()
    out = small()(image, mask)
    middle = torch.zeros_like(mask, dtype=torch.bool)
    middle[..., 8:24, 8:24] = True
    outside = (~middle).expand_as(image)
    assert torch.equal(out.refined[outside], image[outside])
    assert (out.refined != image)[middle.expand_as(image)].all()
    hole = (mask > 0).expand_as(image)
    assert torch.equal(out.composite, torch.where(hole, out.refined, image))


@pytest.mark.parametrize("region", ["center", "all"])
def test_every_parameter_learns(region: str) -> None:
    network = small(region=region)
    network(*pictures()).refined.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_larger_images_get_a_larger_bottleneck() -> None:
    network = small(region="all").eval()
    image, mask = pictures(1, 64)
    mask[..., :8, :8] = 1  # all takes holes anywhere
    assert network.encoder(image).shape[-2:] == (5, 5)
    assert network(image, mask).refined.shape == image.shape


def test_generator_says_what_it_cannot_fill() -> None:
    image, mask = pictures()
    with pytest.raises(ValueError, match=r'central half.*region="all"'):
        small()(image, torch.ones_like(mask))
    with pytest.raises(ValueError, match=r"32×40.*multiples of 32"):
        small()(torch.zeros(1, 3, 32, 40), torch.zeros(1, 1, 32, 40))
    with pytest.raises(ValueError, match=r"one image of 32×32.*larger batches"):
        small()(image[:1], mask[:1])
    with pytest.raises(ValueError, match="region='centre', expected one of center, all"):
        small(region="centre")
    with pytest.raises(ValueError, match="depth=2"):
        small(depth=2)


def test_center_fills_pictures_whose_hole_lies_there_and_refuses_others() -> None:
    settings = {
        "_target_": "csa_inpaint.methods.context_encoder.ContextEncoderGenerator",
        "width": 2,
        "bottleneck": 4,
        "depth": 3,
    }
    losses = {"l2": {"_target_": "csa_inpaint.losses.RimReconstruction"}}
    module = Inpainter(generator=settings, losses=losses).eval()
    module.trained_size = 32
    image, mask = pictures(1)
    filled = inpaint(module, image[0], mask[0, 0])
    known = mask[0, 0] == 0
    assert torch.equal(filled[:, known], image[0][:, known])
    assert not torch.equal(filled, image[0])
    corner = torch.zeros(32, 32)
    corner[:4, :4] = 1
    with pytest.raises(ValueError, match=r'central half.*region="all"'):
        inpaint(module, image[0], corner)


def test_known_pixels_of_the_window_weigh_more() -> None:
    truth, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 9:23, 9:23] = 1
    term = RimReconstruction("l2")
    term.check(small())
    for place, weight in (((8, 8), 10), ((9, 9), 1), ((7, 8), 0)):
        made = torch.zeros_like(truth)
        made[..., place[0], place[1]] = 2.0
        value = term.loss(Step(Batch(truth, mask, ["a"]), Inpainting(made, made, made, {})))
        torch.testing.assert_close(value, torch.tensor(weight * 4 / 16**2))


def test_term_and_adversary_refuse_other_generators() -> None:
    with pytest.raises(ValueError, match=r"Linear use csa_inpaint\.losses\.Reconstruction"):
        RimReconstruction("l2").check(nn.Linear(1, 1))

    class Host:
        generator = nn.Linear(1, 1)

    with pytest.raises(ValueError, match=r"not Linear: use adversary=\[patch\]"):
        ContextAdversary(NonSaturating()).build_discriminator(Host())  # type: ignore[arg-type]


@pytest.mark.parametrize("region", ["center", "all"])
def test_adversary_judges_the_predicted_window(
    region: str, make_trainer: Make, make_batches: Make
) -> None:
    module = Inpainter(
        generator={
            "_target_": "csa_inpaint.methods.context_encoder.ContextEncoderGenerator",
            "width": 2,
            "bottleneck": 4,
            "depth": 3,
            "region": region,
        },
        losses={"l2": {"_target_": "csa_inpaint.losses.RimReconstruction"}},
    )
    adversary = ContextAdversary(NonSaturating(), width=2)
    batch = Batch(*pictures(), ["a", "b"])
    trainer = make_trainer([adversary])
    trainer.fit(module, make_batches(given=[batch]))
    assert trainer.callback_metrics["generator/context"].isfinite()
    side = 16 if region == "center" else 32
    out = module(batch.image, batch.mask)
    real, fake = adversary.pair(module, batch, out)
    assert real.shape == fake.shape == (2, 3, side, side)
    edge = (32 - side) // 2
    window = (..., slice(edge, edge + side), slice(edge, edge + side))
    assert torch.equal(fake, out.refined[window])
    assert torch.equal(real, batch.image[window])
    assert adversary.verdict is not None
    assert adversary.verdict[0].shape == (2, 1, 1, 1)
