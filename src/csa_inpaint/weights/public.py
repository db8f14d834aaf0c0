"""Checkpoints of public PyTorch implementations: which method a file belongs to, and its layers."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from csa_inpaint.weights import context_encoder, deepfill, glcic, partial_conv, shift_net
from csa_inpaint.weights.files import match, read_tensors

State = dict[str, Any]
GREY = [127.5, 127.5, 127.5]  # 0 in [-1, 1]


class Contents(NamedTuple):
    """What a file says about its generator."""

    arguments: dict[str, Any]  # of our generator's class
    layers: dict[str, str]  # the file's names of its layers, and ours


class Layout(NamedTuple):
    """How one implementation names the weights of one method.

    Each file holds the key ``has`` and lacks the key ``lacks``. Its generator's keys start with
    ``prefix``. Keys that end with one of ``constants`` hold no weights. ``convert`` turns the
    file's weights, under our names, into ours.
    """

    method: str
    source: str
    has: str
    read: Callable[[State], Contents]
    prefix: str = ""
    constants: tuple[str, ...] = ()
    lacks: str | None = None
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Whether a state dict has this layout."""
        return self.has in state and self.lacks not in state

    def generator_keys(self, state: Mapping[str, Any]) -> State:
        """The generator's entries, without the prefix and the constants."""
        return {
            key.removeprefix(self.prefix): value
            for key, value in state.items()
            if key.startswith(self.prefix) and not key.endswith(self.constants)
        }


def _width(state: State, key: str) -> int:
    return len(state[f"{key}.weight"])


def _levels(state: State, pattern: str) -> int:
    """How many of the numbered layers a state dict has, from 1."""
    number = 1
    while f"{pattern.format(number)}.weight" in state:
        number += 1
    return number - 1


def _partial_conv_mmagic(state: State) -> Contents:
    depth = _levels(state, "encoder.enc{}.conv")
    width = _width(state, "encoder.enc1.conv")
    arguments = {"width": width, "depth": depth, "first_bias": True}
    return Contents(arguments, partial_conv.mmagic_layers(depth))


def _partial_conv_port(state: State) -> Contents:
    depth = _levels(state, "enc_{}.conv.input_conv")
    width = _width(state, "enc_1.conv.input_conv")
    arguments = {"width": width, "depth": depth, "imagenet_norm": True}
    return Contents(arguments, partial_conv.port_layers(depth))


def _version_1_mmagic(state: State) -> Contents:
    arguments = {"width": _width(state, "stage1.encoder.enc1.conv"), "variant": "mmagic"}
    return Contents(arguments, deepfill.mmagic_layers(gated=False))


def _version_1_port(state: State) -> Contents:
    arguments = {"width": _width(state, "coarse_generator.conv1.conv"), "variant": "symmetric"}
    return Contents(arguments, deepfill.version_1_layers())


# A gated convolution has twice as many filters as output channels.


def _version_2_mmagic(state: State) -> Contents:
    width = _width(state, "stage1.encoder.enc1.conv.conv") // 2
    decoder_width = _width(state, "stage2.decoder.dec1.conv.conv") // 8
    arguments = {"width": width, "decoder_width": decoder_width, "variant": "mmagic"}
    return Contents(arguments, deepfill.mmagic_layers())


def _version_2_port(state: State) -> Contents:
    arguments = {"width": _width(state, "stage1.conv1.conv") // 2, "variant": "symmetric"}
    return Contents(arguments, deepfill.pytorch_layers())


def _version_2_tensorflow(state: State) -> Contents:
    attention = {
        "_target_": "csa_inpaint.networks.contextual_attention.ContextualAttention",
        "fuse": 1,  # off in the port's networks for these weights
        "align_corners": True,
    }
    width = _width(state, "conv1.conv") // 2
    arguments = {"width": width, "variant": "tensorflow", "attention": attention}
    return Contents(arguments, deepfill.tensorflow_layers())


def _shift_net(state: State) -> Contents:
    depth, key = 1, "model.model.1.model.1.weight"
    while key in state:
        depth, key = depth + 1, key.removesuffix("1.weight") + "3.model.1.weight"
    shows_hole = state["model.model.0.weight"].shape[1] == 4
    arguments = {"width": _width(state, "model.model.0"), "depth": depth, "fill": GREY}
    arguments |= {"shows_hole": shows_hole, "nearest": True}
    return Contents(arguments, shift_net.port_layers(depth))


def _context_encoder(state: State) -> Contents:
    arguments = {"width": _width(state, "main.0"), "bottleneck": _width(state, "main.14")}
    return Contents(arguments | {"region": "center", "depth": 5}, context_encoder.port_layers())


def _glcic_port(state: State) -> Contents:
    return Contents({"width": _width(state, "conv1"), "variant": "port"}, glcic.port_layers())


def _glcic_mmagic(state: State) -> Contents:
    arguments = {"width": _width(state, "encoder.enc1.conv"), "variant": "mmagic"}
    return Contents(arguments, glcic.mmagic_layers())


MMAGIC = "generator."
MASKS = (".weight_mask_updater", ".mask_conv.weight")
FUSE = (".fuse_kernel", ".fuse_weight")
NECK = "generator.dilation_neck.dilation_convs.0.conv.weight"
LAYOUTS = (
    Layout(
        "partial_conv",
        "mmagic",
        "generator.encoder.enc1.conv.weight",
        _partial_conv_mmagic,
        MMAGIC,
        MASKS,
        lacks=NECK,
    ),
    Layout(
        "partial_conv",
        "naoto0804's port",
        "enc_1.conv.input_conv.weight",
        _partial_conv_port,
        constants=MASKS,
        convert=partial_conv.without_size,
    ),
    Layout(
        "contextual_attention",
        "mmagic",
        "generator.stage1.encoder.enc1.conv.weight",
        _version_1_mmagic,
        MMAGIC,
        FUSE,
    ),
    Layout(
        "contextual_attention",
        "daa233's port",
        "coarse_generator.conv1.conv.weight",
        _version_1_port,
    ),
    Layout(
        "gated_conv",
        "mmagic",
        "generator.stage1.encoder.enc1.conv.conv.weight",
        _version_2_mmagic,
        MMAGIC,
        FUSE,
    ),
    Layout(
        "gated_conv",
        "nipponjo's port",
        "stage1.conv1.conv.weight",
        _version_2_port,
        constants=FUSE,
    ),
    Layout(
        "gated_conv",
        "nipponjo's port for TensorFlow's weights",
        "allconv11.conv.weight",
        _version_2_tensorflow,
        constants=FUSE,
    ),
    Layout(
        "shift_net",
        "Zhaoyi-Yan's PyTorch version",
        "model.model.1.model.3.model.7.weight",
        _shift_net,
    ),
    Layout("context_encoder", "BoyuanJiang's port", "main.29.weight", _context_encoder),
    Layout("glcic", "otenim's port", "deconv13.weight", _glcic_port),
    Layout("glcic", "mmagic", NECK, _glcic_mmagic, MMAGIC),
)
INNER = ("model.model.1.model.1.weight", "model.model.3.weight")  # of both networks of CSA
WRAPPERS = ("state_dict", "model", "G")  # keys under which a file may keep its state dict


def read_public(path: str | Path) -> State:
    """The state dict in a file, also where training scripts wrap it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds no dict.
    """
    content = read_tensors(Path(path))
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            return dict(content[key])
    return content


def method_of(state: Mapping[str, Any]) -> str | None:
    """The method that a state dict belongs to, None for an unknown one."""
    for layout in LAYOUTS:
        if layout.fits(state):
            return layout.method
    return "csa" if all(key in state for key in INNER) else None


def layout_of(state: Mapping[str, Any], method: str, path: str | Path) -> Layout:
    """The layout of a file of one method.

    Raises:
        ValueError: the file belongs to another method, or to none that is known.
    """
    for layout in LAYOUTS:
        if layout.method == method and layout.fits(state):
            return layout
    other = method_of(state)
    if other is not None:
        files = " rough=FILE refine=FILE" if other == "csa" else ""
        raise ValueError(
            f"{path} holds weights of {other}, not of {method}: import it with method={other}"
            f"{files}"
        )
    known = ", ".join(_expected(method))
    raise ValueError(
        f"{path} is no checkpoint of {method} that this library reads: it holds "
        f"{', '.join(map(str, list(state)[:3]))} …, expected {known}"
    )


def _expected(method: str) -> Iterator[str]:
    for layout in LAYOUTS:
        if layout.method == method:
            yield f"{layout.has} ({layout.source})"


def load_public(
    generator: nn.Module, layout: Layout, layers: Mapping[str, str], state: State, path: str | Path
) -> None:
    """Fill a generator from a file.

    Args:
        generator: as the file's arguments make it.
        layout: of the file.
        layers: the file's names of its layers, and ours.
        state: the generator's entries, see ``Layout.generator_keys``.
        path: the file that messages name.

    Raises:
        ValueError: keys or shapes are not those of the generator; the message lists them.
    """
    own = generator.state_dict()
    names = {ours: theirs for theirs, ours in layers.items()}
    wanted = {}
    for key in own:
        layer, kind = key.rsplit(".", 1)
        wanted[f"{names[layer]}.{kind}"] = key
    differences = list(
        match(state, {theirs: own[ours] for theirs, ours in wanted.items()}).differences()
    )
    if differences:
        raise ValueError(
            f"{path} is no complete {layout.method} checkpoint of {layout.source}: "
            f"{'; '.join(differences)}"
        )
    generator.load_state_dict(
        layout.convert({ours: state[theirs] for theirs, ours in wanted.items()})
    )
