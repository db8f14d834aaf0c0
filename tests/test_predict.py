"""Pairing pictures with masks, before anything is computed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from csa_inpaint.cli.conf import config_directory
from csa_inpaint.predict import Job, plan, predict
from csa_inpaint.training.module import CSAInpainter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images/a.jpg", "images/sub/b.png", "masks/a.png", "masks/sub/b.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return tmp_path


def test_plan_pairs_a_folder_by_relative_name(root: Path) -> None:
    assert plan(root / "images", root / "masks", root / "out") == [
        Job(root / f"images/{image}", root / f"masks/{name}", root / f"out/{name}")
        for image, name in (("a.jpg", "a.png"), ("sub/b.png", "sub/b.png"))
    ]


def test_plan_uses_one_mask_for_all(root: Path) -> None:
    jobs = plan(root / "images", root / "masks/a.png", root / "out")
    assert [job.mask for job in jobs] == [root / "masks/a.png"] * 2


def test_plan_names_the_output_of_one_picture(root: Path) -> None:
    image, mask = root / "images/a.jpg", root / "masks/a.png"
    assert plan(image, mask, root / "x.png") == [Job(image, mask, root / "x.png")]
    assert plan(image, root / "masks", root / "out") == [Job(image, mask, root / "out/a.png")]
    with pytest.raises(ValueError, match=r"written as \.png"):
        plan(image, mask, root / "x.jpg")


def test_plan_names_missing_masks_and_paths(root: Path) -> None:
    (root / "masks/sub/b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no mask in .* for .*b\.png"):
        plan(root / "images", root / "masks", root / "out")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        plan(root / "absent", root / "masks", root / "out")
    with pytest.raises(FileNotFoundError, match=r"no mask named b\.\*"):
        plan(root / "images/sub/b.png", root / "masks/sub/..", root / "out")


def test_plan_overwrites_only_when_told(root: Path) -> None:
    (root / "out").mkdir()
    (root / "out/a.png").touch()
    with pytest.raises(FileExistsError, match=r"a\.png would be overwritten.*overwrite=true"):
        plan(root / "images", root / "masks", root / "out")
    assert len(plan(root / "images", root / "masks", root / "out", overwrite=True)) == 2


def test_plan_refuses_a_file_as_output_of_a_folder(root: Path) -> None:
    with pytest.raises(FileExistsError, match="is a file, but images"):
        plan(root / "images", root / "masks", root / "masks/a.png")


def test_plan_refuses_two_pictures_of_one_name(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "images/a.png")
    with pytest.raises(ValueError, match="differ only in their extension"):
        plan(root / "images", root / "masks", root / "out")


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_predict_fills_the_others_where_one_does_not_fit_in_memory(
    tmp_path: Path,
    make_module: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    model = make_module()
    for name, side in (("a", 32), ("b", 48), ("c", 32)):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (side, side), "gray").save(tmp_path / f"images/{name}.png")
        mask = Image.new("L", (side, side))
        mask.paste(255, (8, 8, 20, 20))
        mask.save(tmp_path / f"masks/{name}.png")
    forward = model.forward

    def out_of_memory(image: torch.Tensor, mask: torch.Tensor) -> Any:
        if image.shape[-1] == 48:
            raise error("no more")
        return forward(image, mask)

    monkeypatch.setattr(model, "forward", out_of_memory)
    monkeypatch.setattr(CSAInpainter, "load_from_checkpoint", lambda *args, **options: model)
    cfg = OmegaConf.load(config_directory() / "predict.yaml")
    cfg.merge_with(
        {"checkpoint": "model.ckpt", "images": f"{tmp_path}/images", "masks": f"{tmp_path}/masks"}
    )
    cfg.output = f"{tmp_path}/out"
    with pytest.raises(ValueError, match=r"2 of 3 pictures are written.*\n.*b\.png.*memory"):
        predict(cfg)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "c.png"}
