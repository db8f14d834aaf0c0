"""GLCIC's discriminator of two views against recorded vectors, and what it judges."""

import pytest
import torch
from recorded import PER_NETWORK, below, error, needs_recorded, recorded
from torch import Tensor, nn

from csa_inpaint.adversaries import JointAdversary, NonSaturating
from csa_inpaint.adversaries.joint import JointDiscriminator
from csa_inpaint.losses.boxes import crop
from csa_inpaint.types import Batch, Inpainting


def views(image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    top, left, side, _ = (int(value) for value in box)
    return crop(image, [(top, left)] * len(image), side), image


def port_state(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for key, value in golden.items():
        tower, *rest = key.split(".")
        ours = {"model_ld": "local.", "model_gd": "whole.", "linear1": ""}[tower]
        layer, kind = rest if ours else ("linear", rest[0])
        if layer.startswith(("conv", "bn")):
            # ReLU lies between the convolution and its norm.
            place = 3 * int(layer.strip("convb")) - (3 if layer.startswith("conv") else 1)
            layer = f"convolutions.{place}"
        elif layer.startswith("linear"):
            layer = "linear"
        state[f"{ours}{layer}.{kind}"] = value
    return state


@needs_recorded
@pytest.mark.parametrize(("arc", "levels"), [("celeba", (5, 5)), ("places2", (5, 6))])
def test_discriminator_reproduces_the_recorded_port(arc: str, levels: tuple[int, int]) -> None:
    golden = recorded("glcic_disc_otenim")
    pair = views(golden[f"{arc}_global"].float(), golden[f"{arc}_box_tlhw"])
    sizes = pair[1].shape[-1], pair[0].shape[-1]
    network = JointDiscriminator(*sizes, 4, 64, relu_first=True, levels=levels).eval()
    network.load_state_dict(port_state(below(golden, f"{arc}.")))
    with torch.no_grad():
        made = {
            "probability": network(*pair).sigmoid(),
            "local_features": network.local(pair[0]),
            "global_features": network.whole(pair[1]),
        }
    found = {
        name: error(value, golden[f"{arc}_{name}"])
        for name, value in made.items()
        if f"{arc}_{name}" in golden  # those of one arc only are recorded
    }
    print(found)  # pytest -s shows it
    assert max(found.values()) <= PER_NETWORK, found


@needs_recorded
def test_discriminator_reproduces_mmagics() -> None:
    golden = recorded("glcic_disc_mmagic")
    network = JointDiscriminator(256, 128, 2, 64, bias=False).eval()
    state = {}
    for key, value in below(golden, "state.").items():
        tower, *rest = key.split(".")
        if tower == "fc":  # the vector of the whole image comes first there
            joined = torch.cat([value[:, 64:], value[:, :64]], 1) if value.dim() == 2 else value
            state[f"linear.{rest[0]}"] = joined
            continue
        ours = {"local_disc": "local", "global_disc": "whole"}[tower]
        if rest[0] == "fc":
            state[f"{ours}.linear.{rest[-1]}"] = value
        else:
            place = 3 * int(rest[0].removeprefix("conv")) - (3 if rest[1] == "conv" else 2)
            state[f"{ours}.convolutions.{place}.{rest[-1]}"] = value
    network.load_state_dict(state)
    with torch.no_grad():
        logit = network(*views(golden["global"].float(), golden["box_tlhw"]))
    assert error(logit, golden["logit"]) <= PER_NETWORK


def test_discriminators_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        networks = (
            JointDiscriminator(),
            JointDiscriminator(bias=False),
            JointDiscriminator(160, 96),
        )
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [45_063_681, 45_060_225, 39_557_121]


def test_norm_stands_before_the_relu() -> None:
    layers = JointDiscriminator(32, 16, 2, 4).local.convolutions
    assert [type(layer) for layer in layers] == 2 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


def test_truth_is_cropped_anywhere_and_the_composite_around_its_hole() -> None:
    adversary = JointAdversary(NonSaturating(), 32, 16, width=2, features=4)
    image, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    mask[0, :, 4:12, 10:20] = 1
    mask[1, :, 28:32, 0:4] = 1
    out = Inpainting(image + 1, image + 2, image + 3, {})
    batch, places = Batch(image, mask, ["a", "b"]), set()
    for seed in range(20):
        torch.manual_seed(seed)
        (real, whole), (fake, made) = adversary.pair(None, batch, out)  # type: ignore[arg-type]
        assert torch.equal(whole, image)
        assert torch.equal(made, image + 3)
        expected = torch.stack([made[0, :, :16, 7:23], made[1, :, 16:, :16]])
        assert torch.equal(fake, expected)
        found = [
            (top, left)
            for top in range(17)
            for left in range(17)
            if torch.equal(image[0, :, top : top + 16, left : left + 16], real[0])
        ]
        places.add(found[0])
    assert len(places) > 15


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size=64 and local_size=128.*not larger"):
        JointAdversary(NonSaturating(), 64, 128)
    with pytest.raises(ValueError, match=r"size=\[64, 32\]"):
        JointAdversary(NonSaturating(), [64, 32], 16)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images of 32×32, not of 32×24"):
        JointDiscriminator(32, 16, 2, 4)(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 32, 24))
