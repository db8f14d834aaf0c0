"""Shift-Net against recorded vectors, and its contract."""

from typing import Any

import pytest
import torch
from recorded import PER_NETWORK, below, error, needs_recorded, recorded
from torch import Tensor, nn

from csa_inpaint.adversaries.discriminators import PatchDiscriminator
from csa_inpaint.losses import Guidance, Step
from csa_inpaint.methods.shift_net import ShiftNetGenerator
from csa_inpaint.types import Batch
from csa_inpaint.weights.shift_net import port_layers

PORT = {"shows_hole": True, "nearest": True, "fill": (127.5, 127.5, 127.5)}


def small(**settings: Any) -> ShiftNetGenerator:
    torch.manual_seed(0)
    return ShiftNetGenerator(**{"width": 4, "depth": 4, **settings})


def pictures(batch: int = 2, size: int = 64) -> tuple[Tensor, Tensor]:
    """Random images, each with a hole of its own."""
    image = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(batch, 1, size, size)
    for index in range(batch):
        mask[index, :, 8 + 8 * index : 32, 8:40] = 1
    return image, mask


def port_of(golden: dict[str, Tensor]) -> ShiftNetGenerator:
    layers = port_layers(7)
    state = {}
    for key, value in below(golden, "state.").items():
        layer, kind = key.rsplit(".", 1)
        state[f"{layers[layer]}.{kind}"] = value
    network = ShiftNetGenerator(4, 7, **PORT)  # type: ignore[arg-type]
    network.load_state_dict(state)
    return network


@needs_recorded
def test_generator_reproduces_the_recorded_network_and_its_gradients() -> None:
    golden = recorded("shift_net")
    network, (image, hole) = port_of(golden), (golden["image"], golden["hole"])
    out = network(image, hole)
    features = out.features[3]
    target = network.encode(image, hole)
    term = Guidance("guidance")
    term.check(network)
    guidance = term.loss(Step(Batch(image, hole, ["a"]), out))
    found = {
        "output": error(out.refined, golden["output"]),
        "target": error(target, golden["guidance_target"]),
        "in": error(torch.cat([features.decoder, features.encoder], 1), golden["shift_in"]),
    }
    # The recorded guidance also has the squares of the target at known positions, and its gradient
    # reaches the known positions of the decoder.
    known = target.detach() * (1 - features.mask)
    found["guidance"] = error(guidance + known.square().mean(), golden["guidance"])
    reached = -2 * (known * features.decoder).mean()
    loss = (out.refined * golden["u"]).mean() + guidance + reached
    recorded_gradients = below(golden, "grad.")
    names = port_layers(7)
    for name, expected in recorded_gradients.items():
        layer, kind = name.rsplit(".", 1)
        parameter = network.get_parameter(f"{names[layer]}.{kind}")
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        found[name] = error(gradient, expected)
    print(found)  # pytest -s shows it
    assert len(recorded_gradients) == 3
    assert max(found.values()) <= PER_NETWORK, found


@needs_recorded
def test_generator_reproduces_the_recorded_network_with_free_holes() -> None:
    golden = recorded("shift_net_free")
    network = port_of(golden | recorded("shift_net"))
    with torch.no_grad():
        out = network(golden["image"], golden["hole"])
    assert error(out.refined, golden["output"]) <= PER_NETWORK


@needs_recorded
def test_every_eighth_pixel_is_the_recorded_hole_of_the_features() -> None:
    golden = recorded("shift_layer")
    for level in (2, 3):
        made = small(level=level, nearest=True).reduce(golden["mask.hole"].float())
        assert torch.equal(made, golden[f"mask.level{level}"].float())


def test_networks_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in network.parameters())
            for network in (
                ShiftNetGenerator(),
                ShiftNetGenerator(shows_hole=True),
                PatchDiscriminator(),
            )
        ]
    assert counts == [54_943_747, 54_944_771, 2_766_529]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_every_parameter_learns_at_every_level_of_the_shift(level: int) -> None:
    network = small(level=level)
    out = network(*pictures())
    assert out.features[level].mask.shape[-1] == 64 // 2**level
    out.refined.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A norm takes away the bias before it.
        if "bias" not in name:
            assert parameter.grad.abs().max() > 0, name


def test_shift_reaches_the_image_through_the_hole_alone() -> None:
    network, (image, mask) = small(), pictures()
    plain = network(image, torch.zeros_like(mask)).refined
    network.network.shift = nn.Module()
    network.network.shift.forward = lambda decoder, *_: torch.zeros_like(decoder)
    without = network(image, mask).refined
    assert torch.equal(network(image, torch.zeros_like(mask)).refined, plain)
    assert not torch.allclose(small()(image, mask).refined, without)


def test_guidance_compares_the_hole_with_the_truth() -> None:
    network, (image, mask) = small(), pictures()
    out = network(image, mask)
    term = Guidance("guidance")
    term.check(network)
    loss = term.loss(Step(Batch(image, mask, ["a", "b"]), out))
    (encoder, decoder, hole), target = out.features[3], network.encode(image, mask)
    expected = ((decoder - target)[hole.expand_as(decoder) > 0] ** 2).sum() / decoder.numel()
    torch.testing.assert_close(loss, expected)
    assert not torch.equal(encoder, target)
    (gradient,) = torch.autograd.grad(loss, decoder)
    assert gradient[(hole == 0).expand_as(decoder)].abs().max() == 0
    with pytest.raises(ValueError, match="Linear has no `encode`"):
        Guidance("guidance").check(nn.Linear(1, 1))


def test_fourth_channel_and_mask_rule_are_choices() -> None:
    network, (image, mask) = small(shows_hole=True, nearest=True), pictures()
    seen: list[Tensor] = []
    network.network.down[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    out = network(image, mask)
    assert torch.equal(seen[0][:, 3:], 1 - mask)
    assert torch.equal(out.features[3].mask, mask[..., ::8, ::8])
    network.encode(image, mask)
    assert torch.equal(seen[1], torch.cat([image, 1 - mask], 1))


def test_generator_refuses_levels_and_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="4 is not between 1 and 3"):
        small(level=4)
    with pytest.raises(ValueError, match="40×32 cannot be halved 4 times"):
        small()(torch.zeros(1, 3, 40, 32), torch.zeros(1, 1, 40, 32))
