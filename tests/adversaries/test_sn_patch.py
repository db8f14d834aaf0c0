"""SN-PatchGAN against recorded vectors of public implementations, and its power iteration."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from csa_inpaint.adversaries import WGANGP, Hinge
from csa_inpaint.adversaries.sn_patch import SNPatchAdversary, SNPatchDiscriminator
from csa_inpaint.types import Batch, Inpainting

SHARED = Path(__file__).parents[3] / "shared" / "golden" / "rivals" / "deepfill_v2_disc.safetensors"
needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason="the complete golden vectors are not at ../shared"
)


def error(output: Tensor, expected: Tensor) -> float:
    return float((output - expected).detach().abs().max() / expected.abs().max())


def convolutions(discriminator: nn.Module) -> list[Any]:
    return [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]


def estimates(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """The vectors u and v of the power iteration, copied."""
    power = layer.parametrizations.weight[0]
    return power._u.clone(), power._v.clone()


def load(layer: nn.Module, bias: Tensor, weight: Tensor, u: Tensor, v: Tensor) -> None:
    weights = "parametrizations.weight"
    layer.load_state_dict(
        {"bias": bias, f"{weights}.original": weight, f"{weights}.0._u": u, f"{weights}.0._v": v}
    )


def recorded_pair(golden: dict[str, Tensor]) -> Tensor:
    """The real image and the fake one, each with the hole, along the batch."""
    pair = [torch.cat([golden[name], golden["hole"]], dim=1) for name in ("real", "fake")]
    return torch.cat(pair)


def recorded_discriminator(golden: dict[str, Tensor], state: str) -> SNPatchDiscriminator:
    """The port's discriminator before the power iteration: u is recorded, v follows from u."""
    discriminator = SNPatchDiscriminator(4)
    for index, layer in enumerate(convolutions(discriminator), start=1):
        prefix = f"{state}.conv{index}.conv_sn"
        weight, u = golden[f"{prefix}.weight"], golden[f"{prefix}.weight_u"].flatten()
        v = F.normalize(weight.flatten(1).mT @ u, dim=0)
        load(layer, golden[f"{prefix}.bias"], weight, u, v)
    return discriminator


def judged(seed: int = 0) -> tuple[Any, Batch, Inpainting, SNPatchAdversary]:
    """A module with a discriminator, and what the adversary shows it."""
    torch.manual_seed(seed)
    adversary = SNPatchAdversary(Hinge(), width=4)
    module: Any = SimpleNamespace(
        discriminators={"sn_patch": adversary.build_discriminator(None)}  # type: ignore[arg-type]
    )
    image, mask = torch.rand(2, 3, 64, 64) * 2 - 1, torch.zeros(2, 1, 64, 64)
    mask[0, :, 8:40, 16:48] = mask[1, :, 40:, :24] = 1
    rough, refined = torch.rand(2, 2, 3, 64, 64).requires_grad_()
    composite = torch.where(mask > 0, refined, image)
    return module, Batch(image, mask, []), Inpainting(rough, refined, composite, {}), adversary


# --- recorded vectors ----------------------------------------------------------------------------


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize(("state", "call"), [("state0", "first"), ("state1", "second")])
def test_discriminator_reproduces_recorded_logits(state: str, call: str) -> None:
    # The port computes v, then u, and divides by uᵀWv. PyTorch computes u, then v. Evaluation mode
    # takes both as they are.
    golden = load_file(SHARED)
    discriminator = recorded_discriminator(golden, state).eval()
    for layer in convolutions(discriminator):
        _, v = estimates(layer)
        weight = layer.parametrizations.weight.original
        u = F.normalize(weight.flatten(1) @ v, dim=0)
        load(layer, layer.bias, weight, u, v)
    logits = discriminator(recorded_pair(golden)).flatten(1)
    found = {call: error(logits, golden[f"logits_{call}_call"])}
    if call == "first":
        real, fake = logits.chunk(2)
        # The recorded loss is the mean of both sides, the library's their sum.
        found["hinge_d"] = error(Hinge().discriminator_loss(real, fake) / 2, golden["hinge_d"])
        found["hinge_g"] = error(Hinge().generator_loss(real, fake), golden["hinge_g"])
    print(found)  # pytest -s shows it
    assert max(found.values()) <= 1e-4, found


@pytest.mark.shared
@needs_shared
def test_call_in_training_mode_makes_the_recorded_step_of_the_power_iteration() -> None:
    golden = load_file(SHARED)
    discriminator = recorded_discriminator(golden, "state0").train()
    discriminator(recorded_pair(golden))
    for index, layer in enumerate(convolutions(discriminator), start=1):
        expected = golden[f"state1.conv{index}.conv_sn.weight_u"].flatten()
        assert error(estimates(layer)[0], expected) <= 1e-5


@pytest.mark.shared
@needs_shared
def test_discriminator_reproduces_recorded_logits_of_pytorch_spectral_norm() -> None:
    golden = load_file(SHARED)
    discriminator = SNPatchDiscriminator(4).eval()
    for index, layer in enumerate(convolutions(discriminator), start=1):
        names = ("bias", "weight_orig", "weight_u", "weight_v")
        load(layer, *(golden[f"mmagic.conv{index}.conv.{name}"] for name in names))
    logits = discriminator(recorded_pair(golden))
    assert error(logits, golden["logits_mmagic_eval"]) <= 1e-4
    real, fake = logits.chunk(2)
    halves = golden["mmagic_hinge_d_real"] + golden["mmagic_hinge_d_fake"]
    assert error(Hinge().discriminator_loss(real, fake), halves) <= 1e-4


# --- discriminator -------------------------------------------------------------------------------


def test_discriminator_has_the_published_size() -> None:
    discriminator = SNPatchDiscriminator()
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 5_946_816
    # Biases start at zero, so an input of zeros gives logits of zero.
    logits = SNPatchDiscriminator(2)(torch.zeros(3, 4, 128, 192))
    assert torch.equal(logits, torch.zeros(3, 8, 2, 3))


def test_every_convolution_has_spectral_norm_one() -> None:
    discriminator = SNPatchDiscriminator(4)
    for _ in range(100):
        discriminator(torch.zeros(1, 4, 16, 16))
    for layer in convolutions(discriminator.eval()):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        torch.testing.assert_close(norm, torch.ones(()), rtol=1e-2, atol=0)


def test_every_activation_is_leaky() -> None:
    assert [layer.negative_slope for layer in list(SNPatchDiscriminator(1))[1::2]] == [0.2] * 6


# --- adversary -----------------------------------------------------------------------------------


def test_adversary_shows_the_composite_and_the_hole() -> None:
    module, batch, out, adversary = judged()
    real, fake = adversary.pair(module, batch, out)
    assert torch.equal(real, torch.cat([batch.image, batch.mask], dim=1))
    assert torch.equal(fake, torch.cat([out.composite, batch.mask], dim=1))
    _, rough = SNPatchAdversary(Hinge(), judges="rough").pair(module, batch, out)
    assert torch.equal(rough[:, :3], out.rough)


def test_real_and_fake_share_one_step_of_the_power_iteration() -> None:
    module, batch, out, adversary = judged()
    discriminator = module.discriminators["sn_patch"]
    before = [estimates(layer) for layer in convolutions(discriminator)]
    loss = adversary.discriminator_loss(module, batch, out.detach())
    for layer, (_, v) in zip(convolutions(discriminator), before, strict=True):
        weight = layer.parametrizations.weight.original.flatten(1)
        torch.testing.assert_close(estimates(layer)[0], F.normalize(weight @ v, dim=0))

    discriminator.eval()  # the same weights, without a further step
    real, fake = (discriminator(sample) for sample in adversary.pair(module, batch, out))
    torch.testing.assert_close(loss, Hinge().discriminator_loss(real, fake))
    torch.testing.assert_close(adversary.verdict, (real.detach(), fake.detach()))


def test_each_side_gets_its_gradient_from_its_loss() -> None:
    module, batch, out, adversary = judged()
    weights = list(module.discriminators["sn_patch"].parameters())
    loss = adversary.discriminator_loss(module, batch, out.detach())
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(loss, weights))
    (gradient,) = torch.autograd.grad(adversary.generator_loss(module, batch, out), out.refined)
    hole = (batch.mask > 0).expand_as(gradient)
    assert gradient[hole].abs().min() > 0
    assert gradient[~hole].abs().max() == 0


def test_adversary_adds_the_penalty_of_its_objective() -> None:
    module, batch, out, adversary = judged()
    module.discriminators["sn_patch"].eval()
    losses = []
    for weight in (0.0, 10.0):
        adversary.objective = WGANGP(weight)
        losses.append(adversary.discriminator_loss(module, batch, out.detach()))
    assert losses[1] > losses[0] + 1
