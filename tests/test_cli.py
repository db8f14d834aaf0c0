"""The commands as a user types them: results, and messages that name the remedy."""

import contextlib
import csv
import importlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import wandb
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import csa_inpaint
from csa_inpaint import CSAInpainter, inpaint
from csa_inpaint.data.files import list_images

# One batch of a network that learns nothing: what is tested is around it.
TINY = (
    "model.width=4",
    "model.depth=4",
    "data.size=64",
    "data.batch_size=2",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "callbacks.progress=null",
)
PHOTOS = Path(csa_inpaint.__file__).parent / "data/photos/val"


class Outcome(NamedTuple):
    """What a command left: its exit status, and what it printed."""

    status: int
    out: str
    err: str


def run(command: str, *arguments: str) -> Outcome:
    """Run ``python -m csa_inpaint.<command>`` in this process."""
    quiet = ["hydra/job_logging=none"] if command == "train" else []
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, [f"csa_inpaint.{command}", *quiet, *arguments]
    status = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            importlib.import_module(f"csa_inpaint.{command}").main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.argv = argv
        GlobalHydra.instance().clear()
    return Outcome(status, out.getvalue(), err.getvalue())


def newest_run(root: Path, name: str = "photos") -> Path:
    return max((path for path in (root / name).iterdir()), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with the logger of TensorBoard on."""
    root = tmp_path_factory.mktemp("runs")
    done = run("train", *TINY, "logger=tensorboard", f"output_root={root}")
    assert done.status == 0, done.err
    return newest_run(root)


@pytest.fixture
def checkpoint(trained: Path) -> str:
    return f"checkpoint={trained / 'checkpoints' / 'last.ckpt'}"


@pytest.fixture
def hole(tmp_path: Path) -> Path:
    """A mask file of the shipped photos' size, with an irregular hole."""
    pixels = np.zeros((256, 256), dtype=np.uint8)
    pixels[40:90, 30:120] = pixels[100:101, :] = pixels[200:, 250:] = 255
    Image.fromarray(pixels).save(tmp_path / "hole.png")
    return tmp_path / "hole.png"


# --- what a run leaves ------------------------------------------------------------------------


def test_training_leaves_a_run_folder(trained: Path) -> None:
    there = {path.relative_to(trained).as_posix() for path in trained.rglob("*")}
    assert {"config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= there
    with Image.open(trained / "previews/epoch_0000.png") as grid:
        assert grid.width > 5 * 64
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    assert any(row["val/psnr"] for row in rows)
    assert "width: 4" in (trained / "config.yaml").read_text()


def test_tensorboard_gets_scores_and_pictures(trained: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    assert "val/psnr" in events.Tags()["scalars"]
    assert "val/preview" in events.Tags()["images"]


def test_wandb_writes_below_the_run_folder_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    done = run("train", *TINY, "adversary=[]", "logger=wandb", "output_root=runs")
    assert done.status == 0, done.err
    wandb.finish()
    folder = newest_run(tmp_path / "runs")
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert list(folder.glob("wandb/offline-run-*/files/media/images/**/*.png"))
    assert not (tmp_path / "wandb").exists()


def test_experiment_trains_without_a_plus(tmp_path: Path) -> None:
    for name in ("data_256/a/arch/1.png", "data_256/b/beach/2.png", "val_256/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (70, 66), "teal").save(tmp_path / name)
    done = run(
        "train",
        "experiment=places2",
        f"data.root={tmp_path}",
        "model.vgg={weights: random, width: 4}",
        f"output_root={tmp_path / 'runs'}",
        *TINY,
    )
    assert done.status == 0, done.err
    assert (newest_run(tmp_path / "runs", "places2") / "checkpoints/last.ckpt").is_file()


def test_last_resumes_the_newest_run(trained: Path, tmp_path: Path) -> None:
    again = [argument for argument in TINY if not argument.startswith("trainer.max_epochs")]
    done = run(
        "train",
        *again,
        "trainer.max_epochs=2",
        "checkpoint=last",
        f"output_root={trained.parents[1]}",
        f"hydra.run.dir={tmp_path / 'second'}",
    )
    assert done.status == 0, done.err
    assert [p.name for p in (tmp_path / "second/previews").iterdir()] == ["epoch_0001.png"]


# --- evaluate and predict -----------------------------------------------------------------------


def test_evaluate_reads_everything_from_the_checkpoint(checkpoint: str, tmp_path: Path) -> None:
    done = run(
        "evaluate", checkpoint, "baselines=[mean_fill]", "images=2", f"output_root={tmp_path}"
    )
    assert done.status == 0, done.err
    folder = newest_run(tmp_path, "evaluate")
    scores = {row["method"]: row for row in csv.DictReader((folder / "scores.csv").open())}
    assert set(scores) == {"rough", "refined", "composite", "mean_fill"}
    assert float(scores["composite"]["psnr"]) > float(scores["refined"]["psnr"])
    assert list(folder.glob("*.png"))


def test_evaluate_takes_another_mask(checkpoint: str, tmp_path: Path) -> None:
    done = run("evaluate", checkpoint, "+mask=rectangle", f"output_root={tmp_path}")
    assert done.status == 0, done.err


def test_evaluate_rejects_an_unknown_baseline(checkpoint: str, tmp_path: Path) -> None:
    done = run("evaluate", checkpoint, "baselines=[telia]", f"output_root={tmp_path}")
    assert done.status == 1
    assert "telia" in done.err
    assert "telea" in done.err


def test_predict_keeps_known_pixels_of_a_file(checkpoint: str, tmp_path: Path, hole: Path) -> None:
    photo, filled = PHOTOS / "skimage_coffee.jpg", tmp_path / "filled.png"
    done = run("predict", checkpoint, f"images={photo}", f"masks={hole}", f"output={filled}")
    assert done.status == 0, done.err
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(filled))
    known = np.asarray(Image.open(hole)) == 0
    assert (before[known] == after[known]).all()
    assert (before[~known] != after[~known]).any()

    kept = run("predict", checkpoint, f"images={photo}", f"masks={hole}", f"output={filled}")
    assert kept.status == 1
    assert "overwrite=true" in kept.err


def test_predict_fills_a_folder_like_the_python_call(
    checkpoint: str, tmp_path: Path, hole: Path
) -> None:
    done = run("predict", checkpoint, f"images={PHOTOS}", f"masks={hole}", f"output={tmp_path}/out")
    assert done.status == 0, done.err
    names = {path.stem for path in list_images(PHOTOS)}
    assert {path.stem for path in (tmp_path / "out").iterdir()} == names

    model = CSAInpainter.load_from_checkpoint(checkpoint.split("=", 1)[1]).eval()
    photo = Image.open(PHOTOS / "skimage_coffee.jpg")
    expected = inpaint(model, photo, Image.open(hole))
    written = Image.open(tmp_path / "out/skimage_coffee.png")
    assert np.array_equal(np.asarray(expected), np.asarray(written))


def test_predict_names_a_picture_without_a_mask(
    checkpoint: str, tmp_path: Path, hole: Path
) -> None:
    output = tmp_path / "out"
    done = run("predict", checkpoint, f"images={PHOTOS}", f"masks={tmp_path}", f"output={output}")
    assert done.status == 1
    assert "no mask" in done.err
    assert not output.exists()


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "check_data", "make_shards"])
def test_help_shows_keys_and_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.status == 0
    assert f"python -m csa_inpaint.{command}" in done.out
    assert "KEY=VALUE" in done.out


def test_cfg_prints_the_configuration_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", "mask=freeform", "--cfg", "job")
    assert done.status == 0
    assert "csa_inpaint.data.FreeformMask" in done.out
    assert not list(tmp_path.iterdir())


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("data.batchsize=2", "data.batch_size"),
        ("trainer.max_epoch=2", "trainer.max_epochs"),
        ("nmae=x", "name"),
        ("experiment=place2", "experiment=places2"),
        ("+experiment=place2", "experiment=places2"),
        ("mask=centre", "mask=center"),
        ("adversary=[pach]", "adversary=patch"),
        ("+mask@data.val_mask=centre", "mask=center"),
    ],
)
def test_unknown_name_is_told_the_nearest(override: str, nearest: str) -> None:
    done = run("train", override)
    assert done.status == 1
    assert "Traceback" not in done.err
    (hint,) = [line for line in done.err.splitlines() if line.startswith("There is no ")]
    assert nearest in hint.split("did you mean")[1]


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_missing_checkpoint_is_named(command: str, tmp_path: Path) -> None:
    given = {
        "evaluate": [f"output_root={tmp_path}"],
        "predict": [f"images={PHOTOS}", f"masks={PHOTOS}", f"output={tmp_path / 'out'}"],
    }[command]
    done = run(command, *given)
    assert done.status == 1
    assert "checkpoint" in done.err


@pytest.mark.parametrize("case", ["no root", "no folder", "empty folder"])
def test_folder_without_pictures_is_explained(tmp_path: Path, case: str) -> None:
    (tmp_path / "empty").mkdir()
    root, expected = {
        "no root": (None, "data.root="),
        "no folder": (tmp_path / "absent", "absent"),
        "empty folder": (tmp_path / "empty", "empty"),
    }[case]
    arguments = ["data=folder", *([f"data.root={root}"] if root else [])]
    done = run("train", *TINY, *arguments, f"output_root={tmp_path / 'runs'}")
    assert done.status == 1
    assert expected in done.err
    assert "Traceback" not in done.err


def test_last_without_a_run_is_explained(tmp_path: Path) -> None:
    done = run("train", *TINY, "checkpoint=last", f"output_root={tmp_path}")
    assert done.status == 1
    assert f"no run under {tmp_path}" in done.err


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
@pytest.mark.parametrize("damage", ["cut short", "of something else", "absent"])
def test_bad_checkpoint_is_explained(
    trained: Path, tmp_path: Path, hole: Path, command: str, damage: str
) -> None:
    bad = tmp_path / "bad.ckpt"
    if damage == "cut short":
        whole = (trained / "checkpoints/last.ckpt").read_bytes()
        bad.write_bytes(whole[: len(whole) // 2])
    elif damage == "of something else":
        torch.save({"state_dict": {"layer.weight": torch.zeros(2)}}, bad)
    given = {
        "train": [*TINY, f"output_root={tmp_path / 'runs'}"],
        "evaluate": [f"output_root={tmp_path / 'runs'}"],
        "predict": [f"images={PHOTOS}", f"masks={hole}", f"output={tmp_path / 'out'}"],
    }[command]
    done = run(command, f"checkpoint={bad}", *given)
    assert done.status == 1
    assert str(bad) in done.err
    assert "Traceback" not in done.err
    expected = {
        "cut short": "cut short",
        "of something else": "no checkpoint of csa_inpaint",
        "absent": "there is no file",
    }
    assert expected[damage] in done.err


@pytest.fixture(autouse=True)
def _short_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
