"""Filling a folder of pictures: what is done, what is left, and what is said of it."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import csa_inpaint.predict
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.inference.trained import load_trained
from csa_inpaint.predict import predict
from csa_inpaint.training.sharing import write_safetensors

Configure = Callable[..., DictConfig]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures, the second larger, each with its mask."""
    for name, side in (("a", 32), ("b", 48), ("c", 32)):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (side, side), "gray").save(tmp_path / f"images/{name}.png")
        draw_mask(side).save(tmp_path / f"masks/{name}.png")
    return tmp_path


def draw_mask(side: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    mask.paste(255, (8, 8, 20, 20))
    return mask


@pytest.fixture
def model(make_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny model, which every checkpoint holds."""
    module = make_module()
    module.trained_size = 64
    monkeypatch.setattr(csa_inpaint.predict, "load_trained", lambda *args, **options: module)
    return module


@pytest.fixture
def configure(root: Path, model: Any) -> Configure:
    """The command's configuration for the folders of ``root``."""

    def compose(**settings: Any) -> DictConfig:
        cfg = OmegaConf.load(config_directory() / "predict.yaml")
        folders = {key: f"{root}/{key}" for key in ("images", "masks", "output")}
        # The other backends compute with a copy of the model, which the tests cannot reach.
        own = {"checkpoint": "model.ckpt", "device": "cpu", "backend": "eager"}
        cfg.merge_with({**own, **folders, **settings})
        assert isinstance(cfg, DictConfig)
        return cfg

    return compose


def written(root: Path) -> set[str]:
    return {path.name for path in (root / "output").iterdir()}


def test_predict_fills_what_is_not_there_yet(
    root: Path, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(predict(configure())) == 3
    assert written(root) == {"a.png", "b.png", "c.png"}
    (root / "output/b.png").unlink()
    before = (root / "output/a.png").stat().st_mtime_ns
    assert [job.output.name for job in predict(configure())] == ["b.png"]
    assert "2 pictures there already and kept" in capsys.readouterr().out
    assert (root / "output/a.png").stat().st_mtime_ns == before


def test_predict_replaces_or_refuses_what_is_there(root: Path, configure: Configure) -> None:
    (root / "output").mkdir()
    (root / "output/a.png").touch()
    with pytest.raises(FileExistsError, match=r"a\.png would be overwritten.*existing=skip"):
        predict(configure(existing="error"))
    assert written(root) == {"a.png"}
    assert len(predict(configure(existing="overwrite"))) == 3
    assert (root / "output/a.png").stat().st_size > 0
    with pytest.raises(ValueError, match="existing=replace: expected skip, overwrite, error"):
        predict(configure(existing="replace"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("no more"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_predict_fills_the_others_where_one_does_not_fit_in_memory(
    root: Path,
    configure: Configure,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    forward = model.forward

    def out_of_memory(image: torch.Tensor, mask: torch.Tensor) -> Any:
        if image.shape[-1] == 48:
            raise error
        return forward(image, mask)

    monkeypatch.setattr(model, "forward", out_of_memory)
    with pytest.raises(ValueError, match=r"2 pictures written.*filled were 1:\n.*b\.png.*memory"):
        predict(configure())
    assert written(root) == {"a.png", "c.png"}


def test_predict_stops_at_an_error_that_is_not_of_one_picture(
    root: Path, configure: Configure, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: torch.Tensor, mask: torch.Tensor) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        predict(configure())


def test_predict_needs_no_model_where_nothing_is_left(
    root: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(configure())

    def never(path: Path, **options: Any) -> Any:
        raise AssertionError("the checkpoint was read")

    monkeypatch.setattr(csa_inpaint.predict, "load_trained", never)
    assert predict(configure()) == []


@pytest.mark.parametrize("bad", ["empty", "damaged", "huge", "size", "inverted", "no hole"])
def test_predict_lists_what_could_not_be_filled(root: Path, configure: Configure, bad: str) -> None:
    image, mask = root / "images/b.png", root / "masks/b.png"
    if bad == "empty":
        image.write_bytes(b"")
    elif bad == "damaged":
        image.write_bytes(image.read_bytes()[:-30])
    elif bad == "huge":
        header = b"IHDR" + struct.pack(">II", 40_000, 40_000) + image.read_bytes()[24:29]
        start, end = image.read_bytes()[:12], image.read_bytes()[33:]
        image.write_bytes(start + header + struct.pack(">I", zlib.crc32(header)) + end)
    elif bad == "size":
        draw_mask(32).save(mask)
    elif bad == "inverted":
        Image.new("L", (48, 48), 255).save(mask)
    else:
        Image.new("L", (48, 48), 0).save(mask)
    expected = {
        "empty": "is empty",
        "damaged": "truncated or damaged",
        "huge": "decompression bomb",
        "size": "give a mask of the picture's size",
        "inverted": "polarity=black",
        "no hole": "nothing to fill",
    }[bad]
    with pytest.raises(ValueError, match=rf"2 pictures written(.|\n)*b\.png.*{expected}") as raised:
        predict(configure())
    assert str(raised.value).count("\n") == 1  # a line for the one that failed
    assert written(root) == {"a.png", "c.png"}


def test_predict_decodes_what_max_pixels_allows(root: Path, configure: Configure) -> None:
    with pytest.raises(ValueError, match=r"2 pictures written(.|\n)*b\.png.*set max_pixels=2304"):
        predict(configure(max_pixels=2303))
    assert len(predict(configure(max_pixels=2304))) == 1
    for image in (root / "images").iterdir():
        if image.name != "b.png":
            image.unlink()
    Image.new("RGB", (1, 1)).save(root / "images/b.png")
    Image.new("L", (2304, 1)).save(root / "masks/b.png")
    with pytest.raises(ValueError, match=r"masks/b\.png has 2304x1 pixels.*set max_pixels=2304"):
        predict(configure(max_pixels=2303, existing="overwrite"))


def test_predict_of_one_picture_says_what_is_wrong(root: Path, configure: Configure) -> None:
    (root / "images/b.png").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty") as raised:
        predict(configure(images=f"{root}/images/b.png"))
    assert "written" not in str(raised.value)


def test_predict_fills_the_others_where_a_picture_has_no_mask(
    root: Path, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "masks/b.png").rename(root / "masks/d.png")
    with pytest.raises(ValueError, match=r"2 pictures written(.|\n)*b\.png: it has no mask"):
        predict(configure())
    assert written(root) == {"a.png", "c.png"}
    assert "1 mask has no picture" in capsys.readouterr().out


def test_predict_leaves_finished_files_whole_when_interrupted(
    root: Path,
    configure: Configure,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forward = model.forward

    def interrupted(image: torch.Tensor, mask: torch.Tensor) -> Any:
        if image.shape[-1] == 48:
            raise KeyboardInterrupt
        return forward(image, mask)

    monkeypatch.setattr(model, "forward", interrupted)
    with pytest.raises(SystemExit) as stopped:
        predict(configure())
    assert stopped.value.code == 130
    assert "1 picture written" in capsys.readouterr().err
    assert written(root) == {"a.png"}
    Image.open(root / "output/a.png").load()
    monkeypatch.undo()


def test_predict_finds_out_before_it_computes_that_it_cannot_write(
    root: Path, configure: Configure, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("the model was called")

    monkeypatch.setattr(model, "forward", never)
    # Nobody can make a file there.
    with pytest.raises(OSError, match=r"written to /proc/self/filled.*choose another output"):
        predict(configure(output="/proc/self/filled"))


def test_predict_uses_the_shipped_weights_by_default(
    root: Path, starter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = OmegaConf.load(config_directory() / "predict.yaml")
    folders = {key: f"{root}/{key}" for key in ("images", "masks", "output")}
    cfg.merge_with({**folders, "device": "cpu"})
    assert isinstance(cfg, DictConfig)
    predict(cfg)
    assert written(root) == {"a.png", "b.png", "c.png"}
    assert "Model: starter, which comes with csa_inpaint" in capsys.readouterr().out


def test_predict_takes_an_exported_folder(root: Path, starter: Any, tmp_path: Path) -> None:
    cfg = OmegaConf.load(config_directory() / "predict.yaml")
    write_safetensors(starter, tmp_path / "model")
    folders = {key: f"{root}/{key}" for key in ("images", "masks", "output")}
    cfg.merge_with({**folders, "device": "cpu", "checkpoint": str(tmp_path / "model")})
    assert isinstance(cfg, DictConfig)
    assert len(predict(cfg)) == 3


def test_predict_draws_the_masks_of_its_configuration(root: Path, configure: Configure) -> None:
    mask = OmegaConf.load(config_directory() / "mask/freeform.yaml")
    for output, seed in (("first", 0), ("again", 0), ("other", 1)):
        predict(configure(masks=None, mask=mask, output=f"{root}/{output}", seed=seed))

    def pixels(output: str, name: str) -> Any:
        return np.asarray(Image.open(root / output / name))

    for name in ("a.png", "b.png", "c.png"):
        assert 0 < (pixels("first", name) == 128).all(-1).sum() < pixels("first", name)[..., 0].size
        assert np.array_equal(pixels("first", name), pixels("again", name))
        assert not np.array_equal(pixels("first", name), pixels("other", name))
    assert not np.array_equal(pixels("first", "a.png"), pixels("first", "c.png"))
    with pytest.raises(ValueError, match=r"masks=.*names masks and \+mask draws some"):
        predict(configure(mask=mask))


def test_predict_tells_of_masks_that_may_be_inverted(
    root: Path, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(configure())
    assert "polarity" not in capsys.readouterr().out
    inverted = Image.fromarray(255 - np.asarray(draw_mask(48)))
    inverted.save(root / "masks/b.png")
    predict(configure(existing="overwrite"))
    said = capsys.readouterr().out
    assert "more than half of 1 picture" in said
    assert "images/b.png" in said
    assert "polarity=black" in said
    predict(configure(existing="overwrite", polarity="black"))
    assert "polarity=white" in capsys.readouterr().out


@pytest.mark.parametrize("strategy", ["crop", "resize", "full"])
def test_predict_fills_all_but_one_pixel(root: Path, configure: Configure, strategy: str) -> None:
    mask = np.full((48, 48), 255, np.uint8)
    mask[30, 7] = 0
    Image.fromarray(mask).save(root / "masks/b.png")
    image = np.full((48, 48, 3), 128, np.uint8)
    image[30, 7] = (1, 2, 3)
    Image.fromarray(image).save(root / "images/b.png")
    predict(configure(images=f"{root}/images/b.png", size_strategy=strategy))
    filled = np.asarray(Image.open(root / "output/b.png"))
    assert filled[30, 7].tolist() == [1, 2, 3]
    assert (filled != 128).any(-1).sum() > 1


def test_predict_names_the_file_where_there_is_no_checkpoint(
    root: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csa_inpaint.predict, "load_trained", load_trained)
    with pytest.raises(FileNotFoundError, match=r"there is no file absent\.ckpt"):
        predict(configure(checkpoint="absent.ckpt"))


def test_predict_uses_the_alpha_as_the_mask(root: Path, configure: Configure) -> None:
    for path in (root / "images").iterdir():
        image = Image.open(path).convert("RGBA")
        image.paste((0, 0, 0, 0), (8, 8, 20, 20))
        image.save(path)
    predict(configure(masks="alpha"))
    with Image.open(root / "output/a.png") as filled:
        assert filled.mode == "RGB"
        pixels = np.asarray(filled)
    assert (pixels[:8] == 128).all()
    assert (pixels[10:18, 10:18] != 0).any()


def test_predict_writes_the_format_that_is_asked_for(root: Path, configure: Configure) -> None:
    predict(configure(format="webp"))
    assert written(root) == {"a.webp", "b.webp", "c.webp"}
    with Image.open(root / "output/a.webp") as filled:
        assert filled.format == "WEBP"
        assert (np.asarray(filled)[:8] == 128).all()


def test_predict_shows_the_network_what_it_was_trained_on(
    root: Path, configure: Configure, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    forward = model.forward

    def record(image: torch.Tensor, mask: torch.Tensor) -> Any:
        seen.append(tuple(image.shape[-2:]))
        return forward(image, mask)

    monkeypatch.setattr(model, "forward", record)
    Image.new("RGB", (200, 200), "gray").save(root / "images/b.png")
    draw_mask(200).save(root / "masks/b.png")
    image = f"{root}/images/b.png"
    predict(configure(images=image))
    assert seen == [(64, 64)]  # the shorter side that the checkpoint names
    seen.clear()
    predict(configure(images=image, size=96, existing="overwrite"))
    assert seen == [(96, 96)]
