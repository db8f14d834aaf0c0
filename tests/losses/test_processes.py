"""Losses over the batches of two processes equal those of one process with both batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from csa_inpaint.adversaries import RelativisticAverageLeastSquares
from csa_inpaint.losses import consistency_loss, reconstruction_loss

Make = Callable[..., Any]
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def discriminator(network: nn.Module, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    return RelativisticAverageLeastSquares().discriminator_loss(network(real), network(fake))


def generator(network: nn.Module, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    return RelativisticAverageLeastSquares().generator_loss(network(real), network(fake))


def consistency(network: nn.Module, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    return consistency_loss(network(fake), network(fake) * 2, real.mean(1, keepdim=True), mask)


def hole_l1(network: nn.Module, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    real = real.mean(1, keepdim=True)
    return reconstruction_loss(network(fake), real, mask, region="hole", over="region")


LOSSES = {each.__name__: each for each in (discriminator, generator, consistency, hole_l1)}


def batch() -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    """A network and two samples with holes of different sizes."""
    torch.manual_seed(0)
    network = nn.Conv2d(3, 1, 1).double()
    real, fake = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    mask[0, :, :1], mask[1, :, :3] = 1, 1
    return network, (real, fake, mask)


def gradients_of_half(folder: Path) -> None:
    dist.init_process_group("gloo")
    network, tensors = batch()
    part = [tensor[dist.get_rank() :][:1] for tensor in tensors]
    found = {}
    for name, loss in LOSSES.items():
        network.zero_grad()
        loss(network, *part).backward()
        for parameter in network.parameters():  # as DDP does
            dist.all_reduce(parameter.grad)
            parameter.grad /= 2
        found[name] = [parameter.grad.clone() for parameter in network.parameters()]
    if dist.get_rank() == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


def test_two_processes_teach_what_one_does(in_two_processes: Make, tmp_path: Path) -> None:
    in_two_processes(gradients_of_half, tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name, loss in LOSSES.items():
        network, tensors = batch()
        loss(network, *tensors).backward()
        for parameter, gradient in zip(network.parameters(), found[name], strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("region", ["hole", "known"])
@pytest.mark.parametrize(("power", "values"), [(1, (2.0, 1.0)), (2, (4.0, 1.0))])
def test_reconstruction_over_a_region_and_its_divisors(
    region: str, power: int, values: tuple[float, float]
) -> None:
    truth = torch.zeros(2, 3, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, 0] = 1  # a quarter
    prediction = torch.where(mask > 0.5, 2.0, -1.0).expand_as(truth)
    inside, share = (values[0], 0.25) if region == "hole" else (values[1], 0.75)
    for over, expected in (("region", inside), ("all", inside * share)):
        loss = reconstruction_loss(prediction, truth, mask, region, power, over)
        assert float(loss) == pytest.approx(expected)


def test_reconstruction_refuses_what_it_does_not_know() -> None:
    image = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match="region='box' and power=1: expected all, hole or known"):
        reconstruction_loss(image, image, image[:, :1], "box")
    with pytest.raises(ValueError, match="power=3"):
        reconstruction_loss(image, image, power=3)
    with pytest.raises(ValueError, match="over='hole', expected all or region"):
        reconstruction_loss(image, image, image[:, :1], "hole", over="hole")
    with pytest.raises(ValueError, match="region='hole' needs a mask"):
        reconstruction_loss(image, image, region="hole")
