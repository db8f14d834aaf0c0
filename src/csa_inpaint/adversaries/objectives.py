"""Adversarial objectives: a discriminator's and the generator's loss, from logits.

Every loss is computed in float32. It is a mean over the batch, over the patches and, for
discriminators with several maps, over the channels.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csa_inpaint.losses.processes import mean_over_processes


class Objective(ABC):
    """What discriminator and generator minimise.

    Shape: logits of any shape (B, …), the same for real and fake → scalars.
    """

    differentiates_twice: bool = False
    """Whether the penalty differentiates the discriminator's gradient, which ``torch.compile``
    cannot do."""

    @abstractmethod
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator, from its logits of real and generated samples."""

    @abstractmethod
    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the generator, from the same logits."""

    def margins(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, shifted so that a logit above zero means that the sample is judged real."""
        return real.float(), fake.float()

    def accuracy(self, real: Tensor, fake: Tensor) -> Tensor:
        """Share of logits on the right side: the mean of the real share and the fake share.

        The boundary is 0; for ``LeastSquares`` it is 0.5, halfway between the targets. Relativistic
        logits and those of a Wasserstein critic have no absolute scale: a real logit is right above
        the mean of the fake ones, and a fake logit is right below the mean of the real ones.
        """
        real_above, fake_above = self.margins(real, fake)
        return ((real_above > 0).float().mean() + (fake_above < 0).float().mean()) / 2

    def penalty(
        self,
        discriminator: nn.Module,
        real: Tensor | tuple[Tensor, ...],
        fake: Tensor | tuple[Tensor, ...],
        mask: Tensor | None = None,
    ) -> Tensor | float:
        """A further loss of the discriminator, from the judged samples; none by default.

        Args:
            discriminator: called on samples between the real and the generated ones.
            real, fake: what ``Adversary.pair`` returned.
            mask: the batch's holes, for a penalty that looks at the hole alone.

        Shape: two (B, C, H, W) samples, or two tuples of tensors → scalar.
        """
        return 0.0


class RelativisticAverageLeastSquares(Objective):
    """The paper's objective: least squares on ``D(x) - E[D(y)]`` (Sec. 3.3).

    The expectation runs over the patches and the batch; with several processes, over the batches of
    all processes.
    """

    def margins(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return _relative(real, fake)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real_above, fake_above = _relative(real, fake)
        return ((real_above - 1).square().mean() + (fake_above + 1).square().mean()) / 2

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real_above, fake_above = _relative(real, fake)
        return ((real_above + 1).square().mean() + (fake_above - 1).square().mean()) / 2


def _relative(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """``D(real) - E[D(fake)]`` and ``D(fake) - E[D(real)]``."""
    real, fake = real.float(), fake.float()
    real_mean, fake_mean = mean_over_processes(torch.stack([real.mean(), fake.mean()]))
    return real - fake_mean, fake - real_mean


class LeastSquares(Objective):
    """LSGAN (Mao et al., ICCV 2017): real towards 1, fake towards 0."""

    def margins(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return real.float() - 0.5, fake.float() - 0.5

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real.float() - 1).square().mean() + fake.float().square().mean()) / 2

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return (fake.float() - 1).square().mean() / 2


class Hinge(Objective):
    """The hinge loss of geometric GAN and SAGAN (Lim and Ye, 2017; Zhang et al., 2019)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -fake.float().mean()


class NonSaturating(Objective):
    """The original GAN with the non-saturating generator loss (Goodfellow et al., 2014)."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-fake.float()).mean()


class WGANGP(Objective):
    """Wasserstein GAN with gradient penalty (Gulrajani et al., NeurIPS 2017).

    Args:
        weight: factor of the penalty ``(‖∇D(x̂)‖ - 1)²`` at random points x̂ between real and fake.
    """

    def __init__(self, weight: float = 10.0) -> None:
        if weight < 0:
            raise ValueError(f"the weight of the gradient penalty is {weight}, expected ≥ 0")
        self.weight = weight
        self.differentiates_twice = weight > 0

    def margins(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return _relative(real, fake)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.float().mean() - real.float().mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -fake.float().mean()

    def penalty(
        self,
        discriminator: nn.Module,
        real: Tensor | tuple[Tensor, ...],
        fake: Tensor | tuple[Tensor, ...],
        mask: Tensor | None = None,
    ) -> Tensor | float:
        if not self.weight:
            return 0.0
        if isinstance(real, tuple) or isinstance(fake, tuple):
            raise ValueError("WGANGP penalises discriminators of one tensor, not of several")
        real, fake = real.detach().float(), fake.detach().float()
        mix = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(real, fake, mix).requires_grad_()
        logits = discriminator(between)
        # A sample's score is the mean of its patches, which `discriminator_loss` averages too. So
        # the penalty bounds the slope of that loss, for any number of patches.
        scores = logits.float().flatten(1).mean(1).sum()
        (gradient,) = torch.autograd.grad(scores, between, create_graph=True)
        penalty: Tensor = self.weight * (self.slope(gradient, mask) - 1).square().mean()
        return penalty

    def slope(self, gradient: Tensor, mask: Tensor | None) -> Tensor:
        """The length of each sample's gradient: (B, C, H, W), (B, 1, H, W) → (B,)."""
        length: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return length


class HoleWGANGP(WGANGP):
    """``WGANGP`` whose penalty looks at the gradient inside the hole alone.

    Known pixels are the same in real and generated images, so the critic needs no bound there (Yu
    et al., CVPR 2018, arXiv 1801.07892, Sec. 3.2).
    """

    def slope(self, gradient: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            raise ValueError("HoleWGANGP needs the mask of the samples that it penalises")
        return super().slope(gradient * mask.to(gradient.dtype), None)
