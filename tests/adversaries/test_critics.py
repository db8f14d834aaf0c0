"""The critics of contextual attention and the penalty inside the hole."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recorded import PER_LAYER, below, error, needs_recorded, recorded
from torch import Tensor, nn

from csa_inpaint.adversaries import WGANGP, CriticAdversary, HoleWGANGP
from csa_inpaint.adversaries.critics import Critic
from csa_inpaint.losses.boxes import crop
from csa_inpaint.types import Batch, Inpainting


@needs_recorded
def test_critics_and_penalty_reproduce_recorded_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = recorded("deepfill_v1_disc")
    top, left, side, _ = (int(value) for value in golden["box_tlhw"])
    real, fake = golden["real"].float(), golden["fake"].float()
    monkeypatch.setattr(torch, "rand", lambda *_, **__: 1 - golden["alpha"])  # of the real
    found: dict[str, float] = {}
    for name, size in (("local", side), ("global", 256)):
        critic = Critic(size, 4, (1, 2, 4, 4))  # the port's local critic stops at four, too
        state = {}
        for key, value in below(golden, f"{name}.").items():
            if key.startswith("dis_conv"):
                _, conv, _, kind = key.split(".")
                state[f"convolutions.{2 * int(conv[-1]) - 2}.{kind}"] = value
            elif key.startswith("linear"):
                state[key] = value
        critic.load_state_dict(state)
        views = [crop(x, [(top, left)] * 2, size) if name == "local" else x for x in (real, fake)]
        scores = [critic(view) for view in views]
        found[f"{name} real"] = error(scores[0], golden[f"{name}.real_logits"])
        found[f"{name} fake"] = error(scores[1], golden[f"{name}.fake_logits"])
        plain = WGANGP(1.0).penalty(critic, *views)
        # With a mask of ones the penalty inside the hole is the same.
        masked = HoleWGANGP(1.0).penalty(critic, *views, torch.ones_like(views[0][:, :1]))
        assert isinstance(plain, Tensor)
        assert isinstance(masked, Tensor)
        found[f"{name} penalty"] = error(plain, golden[f"{name}.penalty"])
        found[f"{name} masked"] = error(masked, golden[f"{name}.penalty"])
        if name == "local":
            objective = HoleWGANGP()
            loss = objective.discriminator_loss(*scores)
            found["critic's loss"] = error(loss, golden["wgan_d_local"])
            loss = objective.generator_loss(*scores)
            found["generator's loss"] = error(loss, golden["wgan_g_local"])
    print(found)  # pytest -s shows it
    assert max(found.values()) <= 10 * PER_LAYER, found


def test_critics_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        critics = Critic(128), Critic(256, multiples=(1, 2, 4, 4))
    counts = [sum(p.numel() for p in critic.parameters()) for critic in critics]
    assert counts == [4_339_329, 2_733_441]


def test_penalty_looks_at_the_hole_alone() -> None:
    class Sum(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return (image * torch.arange(1.0, 5)).flatten(1).sum(1, keepdim=True)

    image, mask = torch.zeros(2, 1, 1, 4), torch.tensor([[0.0, 0, 1, 1], [0, 0, 0, 0]])
    penalty = HoleWGANGP(2.0).penalty(Sum(), image, image, mask[:, None, None])
    expected = 2 * ((5.0 - 1) ** 2 + (0.0 - 1) ** 2) / 2  # √(3² + 4²) = 5, and 0 without a hole
    torch.testing.assert_close(penalty, torch.tensor(expected))
    with pytest.raises(ValueError, match="needs the mask"):
        HoleWGANGP().penalty(Sum(), image, image)


def test_local_critic_judges_a_box_around_the_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    adversary = CriticAdversary(HoleWGANGP(), size=16, local=True, name="local", width=2)
    host: Any = SimpleNamespace(generator=None)
    host.discriminators = {"local": adversary.build_discriminator(host)}
    image, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    mask[0, :, 4:12, 10:20] = 1
    mask[1, :, 28:32, 0:4] = 1
    out = Inpainting(image + 1, image + 2, image + 3, {})
    real, fake = adversary.pair(host, Batch(image, mask, ["a", "b"]), out)
    assert torch.equal(real, torch.stack([image[0, :, :16, 7:23], image[1, :, 16:, :16]]))
    assert torch.equal(fake, real + 3)
    seen: list[Tensor] = []

    def penalty(self: Any, critic: Any, one: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        seen.extend([one, mask])
        return torch.zeros(())

    monkeypatch.setattr(HoleWGANGP, "penalty", penalty)
    adversary.discriminator_loss(host, Batch(image, mask, ["a", "b"]), out)
    assert torch.equal(seen[0], real)
    assert torch.equal(seen[1], torch.stack([mask[0, :, :16, 7:23], mask[1, :, 16:, :16]]))


def test_critics_say_which_size_they_judge() -> None:
    with pytest.raises(ValueError, match="judges images of 16×16, not of 32×24"):
        Critic(16, 2)(torch.zeros(1, 3, 32, 24))
    with pytest.raises(ValueError, match=r"adversary critic: size=\[256, 128\]"):
        CriticAdversary(HoleWGANGP(), size=[256, 128], local=False)  # type: ignore[arg-type]
