"""Key names of DeepFill v1 and v2 networks in public implementations, and ours.

Each function returns the layers of the generator, in the order in which an image passes them: the
rough network, then the refinement's dilated branch, attention branch, attention tail and decoder.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

# Places of the layers with parameters; 2 and 5 upsample.
DECODER = (0, 1, 3, 4, 6, 7, 8)


def our_layers() -> list[str]:
    """Names of the layers in ``DeepFillGenerator``."""
    return [
        *(f"rough.{i}" for i in (*range(10), *(10 + i for i in DECODER))),
        *(f"dilated_branch.{i}" for i in range(10)),
        *(f"attention_branch.{i}" for i in range(6)),
        *(f"attention_tail.{i}" for i in range(2)),
        *(f"decoder.{i}" for i in DECODER),
    ]


def pytorch_layers() -> dict[str, str]:
    """Layers of the PyTorch port's own networks (``stage1``, ``stage2``), and ours."""
    down = ["down_block1.conv1_downsample", "down_block1.conv2"]
    down += ["down_block2.conv1_downsample", "down_block2.conv2"]
    up = ["conv_bn6", "conv_bn7", "up_block1.conv1_upsample.conv", "up_block1.conv2"]
    up += ["up_block2.conv1_upsample.conv", "up_block2.conv2", "conv_to_rgb"]
    names = [
        *(f"stage1.{name}" for name in ("conv1", *down, *(f"conv_bn{i}" for i in range(1, 6)))),
        *(f"stage1.{name}" for name in up),
        *(f"stage2.conv_{name}" for name in ("conv1", *down)),
        *(f"stage2.conv_conv_bn{i}" for i in range(1, 6)),
        *(f"stage2.ca_{name}" for name in ("conv1", *down)),
        *(f"stage2.ca_conv_bn{i}" for i in (1, 4, 5)),
        *(f"stage2.{name}" for name in up),
    ]
    return _pairs(f"{name}.conv" for name in names)


def tensorflow_layers() -> dict[str, str]:
    """Layers of the PyTorch port that takes the authors' TensorFlow weights, and ours."""

    def numbered(prefix: str, numbers: range) -> list[str]:
        suffixes = dict.fromkeys((2, 4), "_downsample") | dict.fromkeys(range(7, 11), "_atrous")
        suffixes |= dict.fromkeys((13, 15), "_upsample.conv")
        if prefix == "pmconv":
            suffixes |= dict.fromkeys((9, 10), "")
        return [f"{prefix}{i}{suffixes.get(i, '')}.conv" for i in numbers]

    return _pairs(
        [
            *numbered("conv", range(1, 18)),
            *numbered("xconv", range(1, 11)),
            *numbered("pmconv", range(1, 7)),
            *numbered("pmconv", range(9, 11)),
            *numbered("allconv", range(11, 18)),
        ]
    )


def mmagic_layers(gated: bool = True) -> dict[str, str]:
    """Layers of mmagic's networks, and ours in the variant ``mmagic``.

    Args:
        gated: True for version 2, whose layers are nested once more.
    """
    six, seven, four = range(1, 7), range(1, 8), range(4)
    neck = "stage2.contextual_attention_neck"
    names = [
        *(f"stage1.encoder.enc{i}" for i in six),
        *(f"stage1.dilation_neck.dilation_convs.{i}" for i in four),
        *(f"stage1.decoder.dec{i}" for i in seven),
        *(f"stage2.encoder_conv.enc{i}" for i in six),
        *(f"stage2.dilation_neck.dilation_convs.{i}" for i in four),
        *(f"stage2.encoder_attention.enc{i}" for i in six),
        f"{neck}.conv1",
        f"{neck}.conv2",
        *(f"stage2.decoder.dec{i}" for i in seven),
    ]
    return _pairs(f"{name}.conv.conv" if gated else f"{name}.conv" for name in names)


def version_1_layers() -> dict[str, str]:
    """Layers of the PyTorch port of version 1, and ours."""
    suffixes = dict.fromkeys((2, 4), "_downsample") | dict.fromkeys(range(7, 11), "_atrous")
    tail = [*range(1, 7), 9, 10]
    names = [
        *(f"coarse_generator.conv{i}{suffixes.get(i, '')}" for i in range(1, 18)),
        *(f"fine_generator.conv{i}{suffixes.get(i, '')}" for i in range(1, 11)),
        *(f"fine_generator.pmconv{i}{suffixes.get(i, '') if i < 7 else ''}" for i in tail),
        *(f"fine_generator.allconv{i}" for i in range(11, 18)),
    ]
    return _pairs(f"{name}.conv" for name in names)


def renamed(state: Mapping[str, Tensor], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights and biases of the layers, under our names.

    Args:
        state: state dict of a public network.
        layers: the public names of its layers, and ours.

    Raises:
        KeyError: for a weight or bias that the state dict lacks.
    """
    return {
        f"{ours}.{kind}": state[f"{theirs}.{kind}"]
        for theirs, ours in layers.items()
        for kind in ("weight", "bias")
    }


def _pairs(theirs: Iterable[str]) -> dict[str, str]:
    return dict(zip(theirs, our_layers(), strict=True))
