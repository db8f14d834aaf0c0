"""Consistency loss (paper, Sec. 3.3)."""

from torch import Tensor

from csa_inpaint.losses.processes import mean_over_processes


def consistency_loss(
    encoder_features: Tensor, decoder_features: Tensor, target: Tensor, feature_mask: Tensor
) -> Tensor:
    """Squared distance of the CSA features and of the decoder's features to VGG-16's, in the hole.

    The loss is the mean of ``(CSA_y - Φ_y)² + (CSA_d,y - Φ_y)²`` over hole positions y and
    channels. With several processes each process divides by the mean number of hole positions per
    process, so that the average of the losses is the mean over the hole positions of all processes.

    Args:
        encoder_features: the CSA layer's output.
        decoder_features: the decoder's features at the same level.
        target: Φ, VGG-16's features of the true image at the same resolution, the paper's relu4_3.
            No gradient flows into the target. Where the target has more channels than the features
            (a network narrower than VGG-16), each feature is compared with the mean of a group of
            consecutive channels.
        feature_mask: 1 at hole positions.

    Shape: (B, C, h, w), (B, C, h, w), (B, n·C, h, w), (B, 1, h, w) → scalar; 0 without a hole.

    Raises:
        ValueError: for shapes that do not fit.
    """
    B, C, h, w = encoder_features.shape
    if decoder_features.shape != encoder_features.shape:
        raise ValueError(
            f"decoder features {tuple(decoder_features.shape)} differ from the encoder's "
            f"{tuple(encoder_features.shape)}"
        )
    if target.shape[-2:] != (h, w) or target.shape[1] % C:
        raise ValueError(
            f"target features {tuple(target.shape)} do not fit features {(B, C, h, w)}: the size "
            "must be the same (VGG-16 relu4_3 is at 1/8 of the image's) and the channels a multiple"
        )
    target = target.detach().float().reshape(B, C, -1, h, w).mean(2)
    hole = feature_mask.float()
    squares = (encoder_features.float() - target) ** 2 + (decoder_features.float() - target) ** 2
    cells = mean_over_processes(hole.sum())
    return (squares * hole).sum() / (cells * C).clamp(min=1e-6)  # 0 / 1e-6 where there is no hole
