"""Perceptual and style loss: distances between VGG-16's features of two images."""

from torch import Tensor


def perceptual_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Squared distance of the directions of two feature maps, the mean over positions.

    Each position's features are divided by their norm, as in LPIPS without its learned weights
    (Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018, Eq. 1), so that
    layers of any magnitude count alike. The value lies between 0 and 4.

    Shape: two (B, C, h, w) → scalar.
    """
    return (unit(prediction) - unit(truth)).square().sum(1).mean()


def style_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the Gram matrices (Gatys et al., CVPR 2016, Eq. 3).

    The Gram matrix of features that are divided by their norm is the mean over positions of their
    outer product, whatever the size of the image and the magnitude of the layer.

    Shape: two (B, C, h, w) → scalar.
    """
    return (gram(unit(prediction)) - gram(unit(truth))).abs().sum((1, 2)).mean()


def unit(features: Tensor) -> Tensor:
    """Features divided by their norm over the channels, in float32."""
    features = features.float()
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()


def gram(features: Tensor) -> Tensor:
    """Mean over positions of the features' outer product. Shape: (B, C, h, w) → (B, C, C)"""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[-1]
