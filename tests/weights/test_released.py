"""Released checkpoints: the recorded outputs, the key names, and files that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from csa_inpaint import Generator, load_released
from csa_inpaint.adversaries.discriminators import (
    FeaturePatchDiscriminator,
    PatchDiscriminator,
    load_feature_discriminator,
    load_patch_discriminator,
)
from csa_inpaint.weights.released import refinement_layers, rough_layers

Make = Callable[..., Any]

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
FIXTURE = Path(__file__).parents[1] / "fixtures" / "released_networks.safetensors"
needs_golden = pytest.mark.skipif(
    not GOLDEN.exists(), reason="the complete golden vectors are not at ../shared"
)
RECORDED = {
    "rough": "rough",
    "refined": "refined",
    "encoder_features": "encoder_after_csa",
    "decoder_features": "decoder_at_csa",
}


@pytest.fixture
def files(save_released: Make) -> dict[str, Path]:
    torch.manual_seed(0)
    saved: dict[str, Path] = save_released(Generator(width=2))
    return saved


def edit(path: Path, **changes: Tensor | None) -> Path:
    """Replace tensors of a file, or remove those that are None; ``__`` stands for a dot."""
    state = torch.load(path, weights_only=True)
    for name, value in changes.items():
        state[name.replace("__", ".")] = value
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    return path


# --- recorded outputs ----------------------------------------------------------------------------


@pytest.mark.shared
@needs_golden
@pytest.mark.parametrize("case", ["center", "irregular"])
def test_released_generator_gives_the_recorded_outputs(case: str) -> None:
    golden = load_file(GOLDEN / f"{case}_io.safetensors")
    generator = load_released(*(GOLDEN / f"{case}_net_{net}.safetensors" for net in "PG"))
    assert not generator.training
    with torch.inference_mode():
        out = generator(golden["image"], golden["mask"].float())
    errors = {
        ours: (getattr(out, ours) - golden[theirs]).abs().max().item()
        for ours, theirs in RECORDED.items()
    }
    print(f"{case}, largest errors: {errors}")  # pytest -s shows it
    assert max(errors.values()) <= 1e-4, errors


def test_released_generator_gives_the_outputs_of_the_fixture(tmp_path: Path) -> None:
    """Both networks at width 4, joined to a generator, for checkouts without the golden vectors.

    The weights are the recorded ones, rounded to float16. The outputs come from networks that
    reproduce the golden vectors; they hold every fourth pixel and every second cell.
    """
    fixture = load_file(FIXTURE)
    for network in "PG":
        prefix = f"{network}."
        state = {k[2:]: v.float() for k, v in fixture.items() if k.startswith(prefix)}
        save_file(state, tmp_path / f"{network}.safetensors")
    generator = load_released(*(tmp_path / f"{network}.safetensors" for network in "PG"))
    with torch.inference_mode():
        out = generator(fixture["image"].float() / 127.5 - 1, fixture["mask"].float())
    for name in RECORDED:
        step = 4 if name in ("rough", "refined") else 2
        found = getattr(out, name)[..., ::step, ::step]
        torch.testing.assert_close(found, fixture[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.shared
@needs_golden
def test_released_patch_discriminator_gives_the_recorded_logits() -> None:
    discriminator = load_patch_discriminator(GOLDEN / "net_D.safetensors")
    golden = load_file(GOLDEN / "gan.safetensors")
    with torch.inference_mode():
        error = discriminator(golden["patch_input"]) - golden["patch_logits"]
    assert error.abs().max() <= 1e-5 * golden["patch_logits"].abs().max()


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2])
def test_released_files_of_either_kind_and_any_width_load(
    width: int, save_released: Make, tmp_path: Path
) -> None:
    saved = Generator(width=width)
    rough, refine = save_released(saved).values()
    save_file(torch.load(rough, weights_only=True), tmp_path / "rough.safetensors")
    for path in (rough, str(tmp_path / "rough.safetensors")):
        loaded = load_released(path, refine)
        assert loaded.refinement.attention.similarity == "released"
        assert not loaded.refinement.attention.guarded
        assert loaded.detach_rough
        assert loaded.state_dict().keys() == saved.state_dict().keys()
        for key, value in saved.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value)


def test_released_names_are_those_of_the_nested_modules() -> None:
    rough, refinement = rough_layers(), refinement_layers()
    inner = "model.model.1.model"
    assert rough[f"{inner}.1"] == "down.1.1"
    assert rough[f"{inner}.3.model.6"] == "up.5.2"
    assert rough[inner + 6 * ".3.model" + ".3"] == "up.0.1"  # the innermost has no norm
    below = f"{inner}.6.model.6.model"
    assert refinement[f"{inner}.4"] == "down.0.4"
    assert refinement[f"{below}.7"] == "down_norm.2"  # behind the CSA layer
    assert refinement[f"{below}.14"] == "up.4.4"
    assert refinement[below + ".8.model" + 3 * ".6.model" + ".6.model.4"] == "innermost.4"


def test_released_discriminators_load_at_any_width(save_released: Make) -> None:
    patch, feature = PatchDiscriminator(3), FeaturePatchDiscriminator(8, 6, (2, 2, 2))
    files = save_released(Generator(1), patch, feature)
    loaded = load_patch_discriminator(files["patch"])
    for key, value in patch.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    x = torch.randn(1, 8, 32, 32)
    assert torch.equal(load_feature_discriminator(files["feature"])(x), feature(x))


def test_released_keys_that_do_not_fit_are_all_listed(files: dict[str, Path]) -> None:
    edit(
        files["refine"],
        model__model__3__bias=None,
        model__model__1__model__4__weight=torch.zeros(4, 2, 3, 4),
        model__model__7__weight=torch.zeros(1),
    )
    with pytest.raises(ValueError, match=r"30_net_G\.pth is no released refinement") as caught:
        load_released(**files)
    message = str(caught.value)
    assert "missing (1): model.model.3.bias" in message
    assert "unexpected (1): model.model.7.weight" in message
    assert (
        "misshapen (1): model.model.1.model.4.weight is (4, 2, 3, 4), expected (4, 2, 3, 3)"
        in message
    )


def test_released_networks_of_two_widths_are_refused(
    files: dict[str, Path], save_released: Make
) -> None:
    wide = save_released(Generator(width=3), epoch=31)
    with pytest.raises(ValueError, match=r"misshapen .*model\.model\.0\.weight is \(3, 6, 3, 3\)"):
        load_released(files["rough"], wide["refine"])


def test_released_file_of_something_else_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"30_net_G\.pth is no released rough network"):
        load_released(files["refine"], files["rough"])
    with pytest.raises(FileNotFoundError, match="no file"):
        load_released(tmp_path / "absent.pth", files["refine"])
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth .*model\.model\.0\.weight.* holds epoch"):
        load_released(tmp_path / "other.pth", files["refine"])


def test_released_pickle_with_objects_is_not_loaded(files: dict[str, Path]) -> None:
    torch.save({"model": Generator(width=1)}, files["rough"])
    with pytest.raises(ValueError, match="holds Python objects"):
        load_released(**files)
