"""The weights that come with the library: found by name, listed where a name is wrong."""

from pathlib import Path

import pytest
import torch

from csa_inpaint import CSAInpainter, load_model, load_pretrained
from csa_inpaint.training.runs import start_point
from csa_inpaint.weights import shipped
from csa_inpaint.weights.files import model_file


def test_pretrained_model_loads(starter: CSAInpainter) -> None:
    assert starter.ema is not None
    expected = starter.ema.module.state_dict()
    for model in (load_pretrained(), load_pretrained("starter"), load_model("pretrained")):
        assert not model.training
        for name, value in model.generator.state_dict().items():
            assert torch.equal(value, expected[name]), name


def test_pretrained_weights_are_no_training_to_resume(
    starter: CSAInpainter, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"holds weights only.*init_from=pretrained"):
        start_point("pretrained", tmp_path, tmp_path / "run")


def test_pretrained_names_are_listed(
    starter: CSAInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights called other.*there are starter\."):
        load_pretrained("other")
    monkeypatch.setattr(shipped, "FOLDER", shipped.FOLDER / "absent")
    with pytest.raises(FileNotFoundError, match=r"called starter.*there are none\..*load_model"):
        load_pretrained()


def test_word_pretrained_is_no_path(
    starter: CSAInpainter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pretrained").touch()
    assert model_file("pretrained") == shipped.FOLDER / "starter.safetensors"
    assert model_file("pretrained/starter") == shipped.FOLDER / "starter.safetensors"
    assert model_file("./pretrained") == Path("pretrained")
    assert model_file(Path("other/pretrained")) == Path("other/pretrained")


@pytest.mark.parametrize("name", shipped.shipped_names())
def test_shipped_weights_load_and_have_a_card(name: str) -> None:
    assert load_pretrained(name).trained_size
    assert (shipped.FOLDER / f"{name}.md").is_file()
    assert shipped.shipped_path(name).stat().st_size < 40e6
