"""GLCIC's completion network against recorded vectors, and its contract."""

import pytest
import torch
from recorded import PER_NETWORK, below, error, needs_recorded, recorded
from torch import Tensor

from csa_inpaint.losses import reconstruction_loss
from csa_inpaint.methods.glcic import GLCICGenerator, Variant
from csa_inpaint.weights import glcic as names


def renamed(state: dict[str, Tensor], layers: dict[str, str]) -> dict[str, Tensor]:
    parts = {key: key.rsplit(".", 1) for key in state}
    return {f"{layers[layer]}.{kind}": state[key] for key, (layer, kind) in parts.items()}


def small(variant: Variant = "paper") -> GLCICGenerator:
    torch.manual_seed(0)
    return GLCICGenerator(4, variant)


def pictures() -> tuple[Tensor, Tensor]:
    image = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(2, 1, 20, 24)
    mask[0, :, 4:12, 8:16] = 1
    mask[1, :, 8:20, 0:8] = 1
    return image, mask


@needs_recorded
@pytest.mark.parametrize("port", ["otenim", "mmagic"])
def test_generator_reproduces_recorded_networks(port: str) -> None:
    golden = recorded(f"glcic_net_{port}")
    image, hole = golden["image"], golden["hole"]
    found = {}
    for mode in ("eval", "train"):
        if port == "otenim":
            mean = (golden["mean_pixel"].flatten() * 255).tolist()
            network, layers = GLCICGenerator(4, "port", mean), names.port_layers()
            image = 2 * golden["image"] - 1
        else:
            network, layers = GLCICGenerator(4, "mmagic"), names.mmagic_layers()
        network.load_state_dict(renamed(below(golden, "state."), layers))
        with torch.no_grad():
            made = network.train(mode == "train")(image, hole).refined
        if port == "otenim":
            made = (made + 1) / 2
            if mode == "eval":
                squares = 0.25 * reconstruction_loss(2 * made - 1, image, hole, "hole", power=2)
                found["mse"] = min(
                    error(squares, golden["mse"]),
                    error(0.25 * reconstruction_loss(
                        2 * golden["output_train"] - 1, image, hole, "hole", power=2
                    ), golden["mse"]),
                )  # fmt: skip
        found[mode] = error(made, golden[f"output_{mode}"])
    print(f"network: {found}")  # pytest -s shows it
    assert max(found.values()) <= PER_NETWORK, found


def test_generator_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        counts = {
            variant: sum(p.numel() for p in GLCICGenerator(variant=variant).parameters())
            for variant in ("paper", "port", "mmagic")
        }
    assert counts == {"paper": 6_072_131, "port": 6_072_131, "mmagic": 6_069_155}


def test_variants_hide_the_hole_in_their_own_way() -> None:
    image, mask = pictures()
    hole = mask.expand_as(image) > 0
    given = {}
    for variant in ("paper", "port", "mmagic"):
        network = GLCICGenerator(4, variant, mean=(255, 127.5, 0))  # type: ignore[arg-type]
        seen: list[Tensor] = []
        network.layers.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0]))
        out = network(image, mask)
        assert torch.equal(seen[0][:, 3:], mask)
        assert out.refined.abs().max() <= 1
        given[variant] = seen[0][:, :3]
    mean = torch.tensor([1, 0.5, 0])[:, None, None]
    assert (given["paper"][hole] == 0).all()
    assert (given["mmagic"][hole] == 0).all()
    torch.testing.assert_close(given["port"][hole], mean.expand_as(image)[hole])
    torch.testing.assert_close(given["paper"][~hole], ((image + 1) / 2 - mean)[~hole])
    torch.testing.assert_close(given["port"][~hole], ((image + 1) / 2)[~hole])
    assert torch.equal(given["mmagic"][~hole], image[~hole])


def test_port_has_its_norm_behind_the_relu() -> None:
    x = torch.randn(4, 4, 8, 8)
    made = {variant: small(variant).layers[0](x) for variant in ("paper", "port")}
    assert made["paper"].min() == 0
    assert made["port"].min() < 0
    torch.testing.assert_close(made["port"].mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)


def test_every_parameter_learns() -> None:
    network = small("mmagic")
    network(*pictures()).refined.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_generator_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="22×24: GLCIC needs sides that are multiples of 4"):
        small()(torch.zeros(1, 3, 22, 24), torch.zeros(1, 1, 22, 24))
    with pytest.raises(ValueError, match="width=3, expected an even number"):
        GLCICGenerator(3)
    with pytest.raises(ValueError, match="variant='tf', expected one of paper, port, mmagic"):
        GLCICGenerator(4, "tf")  # type: ignore[arg-type]
