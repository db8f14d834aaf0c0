"""What the configuration in a file may name, and what it may not."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from csa_inpaint.weights.targets import (
    UntrustedTargetError,
    check_targets,
    trusted_config,
)

OURS = [
    "csa_inpaint.CSAInpainter",
    "csa_inpaint.CSALayer",
    "csa_inpaint.Generator",
    "csa_inpaint.adversaries.PatchAdversary",
    "csa_inpaint.data.FolderMask",
    "csa_inpaint.data.InpaintingDataModule",
    "csa_inpaint.losses.Consistency",
    "torch.nn.GELU",
    "torch.optim.Adam",
]
FOREIGN = [
    "pathlib.Path.write_text",
    "os.system",
    "builtins.exec",
    "torch.hub.load",
    "torch.nn.functional.os.system",
    "torch.nn.init.warnings.warn",
    "torch.optim.lr_scheduler.warnings.warn",
    "hydra.utils.call",
    # names that this library's modules import
    "csa_inpaint.weights.files.Path",
    "csa_inpaint.weights.files.Path.symlink_to",
    "csa_inpaint.weights.files.torch.load",
    "csa_inpaint.weights.files.pickle.loads",
    # functions and commands of this library, and a class that writes files
    "csa_inpaint.weights.files.read_tensors",
    "csa_inpaint.data.load_image",
    "csa_inpaint.losses.terms.loss_terms",
    "csa_inpaint.CSAInpainter.load_from_checkpoint",
    "csa_inpaint.train.main",
    "csa_inpaint.callbacks.Preview",
    "csa_inpaint.nothing.there",
    "csa_inpaint",
    "my_project.Generator",
]


@pytest.mark.parametrize("target", OURS)
def test_targets_of_this_library_may_be_called(target: str) -> None:
    check_targets({"part": [{"_target_": target}]}, "file")


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda node: node,
        lambda node: {"_target_": "csa_inpaint.data.FolderMask", "root": node},
        lambda node: {"kinds": [{"deep": (node,)}]},
    ],
    ids=["outermost", "argument", "in lists"],
)
def test_foreign_targets_are_refused_at_any_depth(target: str, wrap: Any) -> None:
    with pytest.raises(UntrustedTargetError, match=r"best\.ckpt asks to call") as caught:
        check_targets(wrap({"_target_": target}), "best.ckpt")
    assert target in str(caught.value)


def test_trust_names_packages() -> None:
    config = {"_target_": "my_project.nets.Generator"}
    check_targets(config, "file", trust=["my_project"])
    with pytest.raises(UntrustedTargetError, match=r"trust=\[my_project\]"):
        check_targets(config, "file", trust=["my_proj"])
    with pytest.raises(UntrustedTargetError):
        check_targets([config, {"_target_": "os.system"}], "file", trust=["my_project"])


def test_trusted_config_looks_at_what_interpolations_give() -> None:
    config = OmegaConf.create(
        {"data": {"_target_": "${name}", "mask": "${mask}"}, "name": "os.system", "mask": {}}
    )
    with pytest.raises(UntrustedTargetError, match=r"os\.system"):
        trusted_config(config, "data", "file")
    config.name = "csa_inpaint.data.ImageFolder"
    config.mask = {"_target_": "os.system"}
    with pytest.raises(UntrustedTargetError, match=r"os\.system"):
        trusted_config(config, "data", "file")
    config.mask = {"_target_": "csa_inpaint.data.CenterMask"}
    assert trusted_config(config, "data", "file") == {
        "_target_": "csa_inpaint.data.ImageFolder",
        "mask": {"_target_": "csa_inpaint.data.CenterMask"},
    }
    assert trusted_config(config, "absent", "file") == {}
    config.name = "${absent}"
    with pytest.raises(InterpolationResolutionError):
        trusted_config(config, "data", "file")


@pytest.mark.parametrize("text", ["${oc.create:{_target_:os.mkdir}}", "\\${oc.create:{a:b}}"])
def test_what_would_be_looked_up_later_is_refused(text: str) -> None:
    """Hydra resolves text when it builds the parts, after the check."""
    for config in ({"attention": text}, {"list": [text]}, {text: 1}, [({"deep": text},)]):
        with pytest.raises(UntrustedTargetError, match=r"file holds .*plain values only"):
            check_targets(config, "file")
    whole = OmegaConf.create({"data": {"_target_": "csa_inpaint.data.FolderMask", "root": text}})
    with pytest.raises(UntrustedTargetError):
        trusted_config(whole, "data", "file")


def test_foreign_modules_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UntrustedTargetError):
        check_targets({"_target_": "stranger.Class"}, "file")
