"""Checkpoints of public implementations: recognised, loaded, and refused with reasons."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from recorded import PER_NETWORK, below, error, needs_recorded, recorded
from torch import Tensor

from csa_inpaint import Generator, load_model
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.import_released import import_released
from csa_inpaint.inference import inpaint
from csa_inpaint.methods.context_encoder import ContextEncoderGenerator
from csa_inpaint.methods.contextual_attention import ContextualAttentionGenerator
from csa_inpaint.methods.gated_conv import GatedConvGenerator
from csa_inpaint.methods.glcic import GLCICGenerator
from csa_inpaint.methods.partial_conv import PartialConvGenerator
from csa_inpaint.methods.shift_net import ShiftNetGenerator
from csa_inpaint.weights import (
    context_encoder,
    deepfill,
    glcic,
    partial_conv,
    public,
    released,
    shift_net,
)

Make = Callable[..., Any]
# A network of each layout, its layers' names, the generator's prefix, and the wrapper's key.
CASES: dict[str, tuple[str, Callable[[], torch.nn.Module], dict[str, str], str, str | None]] = {
    "partial_conv, mmagic": (
        "partial_conv",
        lambda: PartialConvGenerator(2, 7, first_bias=True),
        partial_conv.mmagic_layers(7),
        "generator.",
        "state_dict",
    ),
    "partial_conv, port": (
        "partial_conv",
        lambda: PartialConvGenerator(2, 5, imagenet_norm=True),
        partial_conv.port_layers(5),
        "",
        "model",
    ),
    "contextual_attention, mmagic": (
        "contextual_attention",
        lambda: ContextualAttentionGenerator(2, "mmagic"),
        deepfill.mmagic_layers(gated=False),
        "generator.",
        "state_dict",
    ),
    "contextual_attention, port": (
        "contextual_attention",
        lambda: ContextualAttentionGenerator(2),
        deepfill.version_1_layers(),
        "",
        None,
    ),
    "gated_conv, mmagic": (
        "gated_conv",
        lambda: GatedConvGenerator(2, "mmagic", decoder_width=4),
        deepfill.mmagic_layers(),
        "generator.",
        "state_dict",
    ),
    "gated_conv, port": (
        "gated_conv",
        lambda: GatedConvGenerator(2),
        deepfill.pytorch_layers(),
        "",
        "G",
    ),
    "gated_conv, tensorflow": (
        "gated_conv",
        lambda: GatedConvGenerator(2, "tensorflow"),
        deepfill.tensorflow_layers(),
        "",
        "G",
    ),
    "shift_net": (
        "shift_net",
        lambda: ShiftNetGenerator(
            2, 5, shows_hole=True, nearest=True, fill=(127.5, 127.5, 127.5)
        ),
        shift_net.port_layers(5),
        "",
        None,
    ),
    "context_encoder": (
        "context_encoder",
        lambda: ContextEncoderGenerator(2, 4),
        context_encoder.port_layers(),
        "",
        "state_dict",
    ),
    "glcic, port": (
        "glcic", lambda: GLCICGenerator(2, "port"), glcic.port_layers(), "", None
    ),
    "glcic, mmagic": (
        "glcic", lambda: GLCICGenerator(2, "mmagic"), glcic.mmagic_layers(), "generator.",
        "state_dict",
    ),
}  # fmt: skip
CONSTANTS = {
    "partial_conv, mmagic": "encoder.enc1.conv.weight_mask_updater",
    "partial_conv, port": "enc_1.conv.mask_conv.weight",
    "contextual_attention, mmagic": "stage2.contextual_attention_neck.contextual_attention"
    ".fuse_kernel",
    "gated_conv, port": "stage2.contextual_attention.fuse_weight",
}


def save(case: str, folder: Path, **changes: Tensor | None) -> tuple[torch.nn.Module, Path]:
    """A network, and a file of it as its implementation saves it."""
    _, make, layers, prefix, wrapper = CASES[case]
    torch.manual_seed(0)
    network = make().eval()
    names = {ours: theirs for theirs, ours in layers.items()}
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        layer, kind = key.rsplit(".", 1)
        if case == "partial_conv, port" and key.endswith("conv.weight"):
            value = value * value[0].numel()
        state[f"{prefix}{names[layer]}.{kind}"] = value
    if case in CONSTANTS:
        state[prefix + CONSTANTS[case]] = torch.ones(1)
    if prefix:
        state["disc.conv.weight"] = torch.ones(1)
    for name, value in changes.items():
        state[name] = value  # type: ignore[assignment]
    state = {key: value for key, value in state.items() if value is not None}
    path = folder / "public.pth"
    torch.save({wrapper: state, "n_iter": 3} if wrapper else state, path)
    return network, path


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Callable[..., DictConfig]]:
    def make(method: str, path: Path) -> DictConfig:
        overrides = [f"method={method}", f"weights={path}", f"output={tmp_path / 'model.ckpt'}"]
        return compose("import_released", overrides)

    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        yield make


@pytest.mark.parametrize("case", CASES)
def test_file_becomes_a_checkpoint_that_computes_the_same(
    case: str, settings: Make, tmp_path: Path
) -> None:
    method = CASES[case][0]
    network, path = save(case, tmp_path)
    assert public.method_of(public.read_public(path)) == method
    import_released(settings(method, path))
    model = load_model(tmp_path / "model.ckpt")
    assert type(model.generator) is type(network)
    found = model.generator.state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(found[key], value, msg=key)
    if case == "gated_conv, tensorflow":
        assert (model.generator.attention.fuse, model.generator.attention.align_corners) == (
            1,
            True,
        )
        return
    size = max(network.multiple, 72 if "mmagic" in case else 0)
    size = -(-size // network.multiple) * network.multiple
    image, mask = torch.rand(1, 3, size, size) * 2 - 1, torch.zeros(1, 1, size, size)
    mask[..., size // 3 : size // 2, size // 3 : size // 2] = 1
    with torch.no_grad():
        torch.testing.assert_close(
            model(image, mask).refined, network(image, mask).refined, atol=1e-4, rtol=1e-4
        )


@needs_recorded
def test_port_with_its_scale_of_images_gives_the_recorded_output(
    settings: Make, tmp_path: Path
) -> None:
    golden = recorded("pconv_net_naoto")
    torch.save({"model": below(golden, "state.")}, tmp_path / "public.pth")
    import_released(settings("partial_conv", tmp_path / "public.pth"))
    generator = load_model(tmp_path / "model.ckpt").generator
    # The recorded pictures are on the scale of the port's network.
    image = golden["image"] * generator.std + generator.mean
    with torch.no_grad():
        made = (generator(image, golden["hole"]).refined - generator.mean) / generator.std
    assert error(made, golden["output_eval"]) <= PER_NETWORK


def test_imported_network_fills_a_picture(settings: Make, tmp_path: Path) -> None:
    _, path = save("glcic, port", tmp_path)
    import_released(settings("glcic", path))
    image, hole = torch.rand(3, 50, 61), torch.zeros(50, 61)
    hole[10:30, 20:40] = 1
    filled = inpaint(load_model(tmp_path / "model.ckpt"), image, hole)
    assert torch.equal(filled[:, hole == 0], image[:, hole == 0])
    assert not torch.equal(filled, image)


def test_wrong_keys_are_listed(settings: Make, tmp_path: Path) -> None:
    changes = {"bn3.bias": None, "more.weight": torch.ones(1), "conv5.bias": torch.ones(3)}
    _, path = save("glcic, port", tmp_path, **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no complete glcic checkpoint of otenim's port") as error:
        import_released(settings("glcic", path))
    for part in (
        "missing (1): bn3.bias",
        "unexpected (1): more.weight",
        "misshapen (1): conv5.bias is (3,), expected (8,)",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "model.ckpt").exists()


def test_file_of_another_method_is_named(
    settings: Make, save_released: Make, tmp_path: Path
) -> None:
    _, path = save("partial_conv, port", tmp_path)
    with pytest.raises(ValueError, match=r"weights of partial_conv, not of glcic.*method=partial"):
        import_released(settings("glcic", path))
    files = save_released(Generator(width=2))
    for name in ("rough", "refine"):
        assert public.method_of(public.read_public(files[name])) == "csa"
        with pytest.raises(ValueError, match=r"weights of csa, not of shift_net.*rough=FILE"):
            import_released(settings("shift_net", files[name]))
    torch.save({"layer.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"holds layer\.weight …, expected main\.29\.weight"):
        import_released(settings("context_encoder", path))


def test_file_of_another_method_is_named_where_csa_is_imported(
    save_released: Make, tmp_path: Path
) -> None:
    _, path = save("glcic, port", tmp_path)
    files = save_released(Generator(width=2))
    given = [f"rough={path}", f"refine={files['refine']}", f"output={tmp_path / 'model.ckpt'}"]
    with (
        initialize_config_dir(str(config_directory()), version_base="1.3"),
        pytest.raises(ValueError, match=r"holds weights of glcic, not of csa: .*method=glcic"),
    ):
        import_released(compose("import_released", given))


def test_layers_of_the_nested_network_are_those_of_the_released_one() -> None:
    ours = {k: f"network.{v}" for k, v in released.rough_layers().items()}
    found = shift_net.port_layers(8)
    moved = "model.model.1.model.3.model"
    assert set(ours) ^ set(found) == {f"{moved}.{slot}" for slot in (5, 6, 7, 8)}
    assert all(found[key] == ours[key] for key in ours.keys() & found.keys())
