"""Key names of partial-convolution networks in public implementations, and ours.

Each function returns, for a network of some depth, the layers' public names and ours.
"""

from collections.abc import Mapping

from torch import Tensor


def mmagic_layers(depth: int) -> dict[str, str]:
    """Layers of mmagic's generator: ``encoder.enc1`` … and ``decoder.dec1`` ….

    The first convolution has a bias. The files also hold the constant ``weight_mask_updater``.
    """
    return _layers(depth, "encoder.enc{}.conv", "decoder.dec{}.conv", ".bn")


def port_layers(depth: int) -> dict[str, str]:
    """Layers of the PyTorch port that most projects train with: ``enc_1`` … and ``dec_1`` ….

    That port does not multiply by the window's size, see ``without_size``. The files also hold
    constant weights of the masks' convolutions, ``mask_conv``.
    """
    return _layers(depth, "enc_{}.conv.input_conv", "dec_{}.conv.input_conv", ".bn")


def without_size(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions whose layer does not multiply by the window's size, made equal to ours.

    Args:
        state: state dict under our names.
    """
    return {
        key: value / value[0].numel() if key.endswith("conv.weight") else value
        for key, value in state.items()
    }


def _layers(depth: int, encoder: str, decoder: str, norm: str) -> dict[str, str]:
    layers = {}
    for number in range(1, depth + 1):
        for theirs, ours in (
            (encoder.format(number), f"encoder.{number - 1}"),
            (decoder.format(number), f"decoder.{depth - number}"),
        ):
            layers[theirs] = f"{ours}.conv"
            if number > 1:
                layers[theirs[: theirs.index(".conv")] + norm] = f"{ours}.norm"
    return layers
