"""Values that one training step computes once for all its loss terms."""

from functools import cached_property

import torch
from torch import Tensor

from csa_inpaint.networks.vgg import VGG16Features, VGGFeatures
from csa_inpaint.types import Batch, Inpainting


class Step:
    """The batch, the generator's output and the perceptual features of one training step.

    The features are computed when a term first asks for them, at most once for each image, and are
    freed with the step.

    Args:
        batch: the true images and their holes.
        out: the generator's output, with its graph.
        vgg: the network of the features; None where no term and no adversary uses features.
    """

    def __init__(self, batch: Batch, out: Inpainting, vgg: VGG16Features | None = None) -> None:
        self.batch = batch
        self.out = out
        self.detached = out.detach()
        self._vgg = vgg
        # `out` and `detached` live as long as this object, so no other tensor gets their ids.
        self._whole = {
            id(cut): whole for cut, whole in zip(self.detached[:3], out[:3], strict=True)
        }
        self._known: dict[int, tuple[Tensor, VGGFeatures]] = {}

    @cached_property
    def truth(self) -> VGGFeatures:
        """All features of the true images, without a graph."""
        with torch.no_grad():
            features: VGGFeatures = self._network()(self.batch.image)
        return features

    def features(self, image: Tensor) -> VGGFeatures:
        """Features of an image, a crop or another picture, through the third pooling.

        An image of ``detached`` gets the features of the same image of ``out``, detached. So the
        discriminators see the very features through which the generator's gradient flows.

        Shape: (B, 3, H, W) in [-1, 1]; H, W ≥ 8.
        """
        whole = self._whole.get(id(image), image)
        if id(whole) not in self._known:
            self._known[id(whole)] = (whole, self._network().pools(whole))
        features = self._known[id(whole)][1]
        return features if whole is image else features.detach()

    def _network(self) -> VGG16Features:
        if self._vgg is None:
            raise ValueError(
                "this step has no VGG-16: a loss term that looks at features names their levels in "
                "`vgg_levels`, an adversary sets `uses_features = True`"
            )
        return self._vgg
