"""The values that the terms of one step share."""

import pytest
import torch
from torch import Tensor

from csa_inpaint.losses import Step
from csa_inpaint.networks.vgg import VGG16Features, VGGFeatures
from csa_inpaint.types import Batch, Inpainting


class Counting(VGG16Features):
    """Counts the images that the network looks at."""

    def __init__(self) -> None:
        super().__init__("random", width=2)
        self.looks = 0

    def _look(self, image: Tensor, layers: int) -> VGGFeatures:
        self.looks += 1
        return super()._look(image, layers)


@pytest.fixture
def step() -> Step:
    torch.manual_seed(0)
    rough, refined, composite, truth = torch.rand(4, 1, 3, 32, 32).unbind()
    out = Inpainting(*(image.requires_grad_() for image in (rough, refined, composite)), {})
    return Step(Batch(truth, truth[:, :1].round(), ["a.jpg"]), out, Counting())


def looks(step: Step) -> int:
    network = step._vgg
    assert isinstance(network, Counting)
    return network.looks


def test_step_computes_features_once_for_both_sides(step: Step) -> None:
    for _ in range(2):
        judged = step.features(step.detached.refined)
        learning = step.features(step.out.refined)
    assert looks(step) == 1
    assert torch.equal(judged.pool3, learning.pool3)
    assert not any(value.requires_grad for value in judged.pool.values())
    assert all(value.requires_grad for value in learning.pool.values())
    assert step.features(step.out.rough).pool3 is not learning.pool3
    assert looks(step) == 2


def test_step_computes_the_truth_once_without_a_graph(step: Step) -> None:
    assert step.truth is step.truth
    assert looks(step) == 1
    assert not step.truth.pool3.requires_grad
    assert set(step.truth.relu) == {3}


@pytest.mark.parametrize("place", [(0, 0), (8, 8)])
def test_step_sees_a_crop_as_a_crop(step: Step, place: tuple[int, int]) -> None:
    """A crop from the corner begins at the address of the whole image."""
    top, left = place
    whole = step.features(step.out.refined).pool3
    crop = step.out.refined[..., top : top + 16, left : left + 16]
    features = step.features(crop).pool3
    assert features.shape[-2:] == (2, 2)
    assert whole.shape[-2:] == (4, 4)
    network = VGG16Features("random", width=2)
    assert torch.equal(features, network.pools(crop).pool3)


def test_step_without_vgg_says_who_asks_for_it(step: Step) -> None:
    bare = Step(step.batch, step.out)
    for ask in (lambda: bare.truth, lambda: bare.features(bare.out.refined)):
        with pytest.raises(ValueError, match="an adversary sets `uses_features = True`"):
            ask()
