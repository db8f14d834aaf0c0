"""Weights trained with the authors' implementation: its key names and ours.

That implementation saves one file for each network: ``<epoch>_net_P.pth`` (rough), ``_net_G``
(refinement), ``_net_D`` (patch discriminator) and ``_net_F`` (feature discriminator). The U-Nets
are nested, one level inside the other. The slots of a level are numbered in order, including the
slots without parameters.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from csa_inpaint.weights.files import match, read_tensors

DEPTH = 8  # halvings in both released networks
ATTENTION_LEVEL = 3  # halvings before the CSA layer, which shifts the slots of its level
FIRST = "model.model.0"  # the first convolution of either network


def rough_layers() -> dict[str, str]:
    """Released names of the rough network's layers, and ours."""
    layers = {FIRST: "down.0.0", "model.model.3": f"up.{DEPTH - 1}.1"}
    prefix = "model.model.1.model"
    for level in range(1, DEPTH):
        down, up = f"down.{level}", f"up.{DEPTH - 1 - level}"
        if level < DEPTH - 1:
            slots = {1: f"{down}.1", 2: f"{down}.2", 5: f"{up}.1", 6: f"{up}.2"}
        else:
            slots = {1: f"{down}.1", 3: f"{up}.1", 4: f"{up}.2"}
        layers |= {f"{prefix}.{slot}": name for slot, name in slots.items()}
        prefix += ".3.model"
    return layers


def refinement_layers() -> dict[str, str]:
    """Released names of the refinement network's layers, and ours."""
    layers = {FIRST: "first", "model.model.3": "last.1"}
    prefix = "model.model.1.model"
    for level in range(DEPTH - 1):
        # At one level the CSA layer and the consistency loss follow the 3×3 convolution.
        norm, below, up = (7, 8, 11) if level == ATTENTION_LEVEL - 1 else (5, 6, 8)
        slots = {slot: f"down.{level}.{slot}" for slot in (1, 2, 4)}
        slots[norm] = f"down_norm.{level}"
        slots |= {up + slot: f"up.{DEPTH - 2 - level}.{slot + 1}" for slot in (0, 1, 3, 4)}
        layers |= {f"{prefix}.{slot}": name for slot, name in slots.items()}
        prefix += f".{below}.model"
    return layers | {f"{prefix}.{slot}": f"innermost.{slot}" for slot in (1, 3, 4)}


PATCH_LAYERS = {f"model.{slot}": str(slot) for slot in (0, 2, 3, 5, 6, 8, 9, 11)}
FEATURE_LAYERS = {f"model.{slot}": str(slot) for slot in (0, 2, 5)}


def generator_width(rough: str | Path) -> int:
    """Channels of the first level, from the rough network's first convolution."""
    return len(first_weight(rough, f"{FIRST}.weight", "rough network"))


def first_weight(path: str | Path, key: str, name: str) -> Tensor:
    """The weight of a network's first convolution, whose shape tells the width.

    Args:
        path: a state dict of the authors' implementation.
        key: the file's name of the weight.
        name: the network's name in messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or lacks the weight.
    """
    state = read_tensors(Path(path))
    weight = state.get(key)
    if not isinstance(weight, Tensor) or weight.dim() != 4:
        raise ValueError(
            f"{path} is no released {name}: {key}, the weight of its first convolution, is not "
            f"there; the file holds {', '.join(map(str, list(state)[:3]))} …"
        )
    return weight


def load_into(network: nn.Module, layers: Mapping[str, str], path: str | Path, name: str) -> None:
    """Fill a network from a file.

    Args:
        network: the network to fill, as wide as the file's.
        layers: the file's names of its layers, and ours.
        path: a state dict of the authors' implementation.
        name: the network's name in messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or its keys or shapes are not those of the network; the
            message lists the differences.
    """
    state = read_tensors(Path(path))
    ours = {f"{r}.{kind}": f"{o}.{kind}" for r, o in layers.items() for kind in ("weight", "bias")}
    own = network.state_dict()
    differences = list(match(state, {key: own[ours[key]] for key in ours}).differences())
    if differences:
        raise ValueError(f"{path} is no released {name} of this width: {'; '.join(differences)}")
    network.load_state_dict({ours[key]: value for key, value in state.items()})
