"""Key names of GLCIC's completion network in public implementations, and ours."""


def port_layers() -> dict[str, str]:
    """Layers of the PyTorch port with the three phases, and ours in the variant ``port``."""
    layers = {}
    for number in range(1, 17):
        kind = "deconv" if number in (13, 15) else "conv"
        layers[f"{kind}{number}"] = f"layers.{number - 1}.conv"
        layers[f"bn{number}"] = f"layers.{number - 1}.norm"
    return layers | {"conv17": "layers.16"}


def mmagic_layers() -> dict[str, str]:
    """Layers of mmagic's generator, and ours in the variant ``mmagic``."""
    names = [
        *(f"encoder.enc{i}" for i in range(1, 7)),
        *(f"dilation_neck.dilation_convs.{i}" for i in range(4)),
        *(f"decoder.dec{i}" for i in range(1, 7)),
    ]
    layers = {}
    for index, name in enumerate(names):
        layers[f"{name}.conv"] = f"layers.{index}.conv"
        layers[f"{name}.bn"] = f"layers.{index}.norm"
    return layers | {"decoder.dec7.conv": "layers.16"}
