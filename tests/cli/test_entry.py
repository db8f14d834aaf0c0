"""The commands as a user types them: results, and messages that name the remedy."""

import contextlib
import csv
import importlib
import io
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import wandb
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image

import csa_inpaint
from csa_inpaint import CSAInpainter, Generator, inpaint, load_released
from csa_inpaint.adversaries.discriminators import FeaturePatchDiscriminator, PatchDiscriminator
from csa_inpaint.callbacks import SaveWithinEpoch
from csa_inpaint.cli import entry
from csa_inpaint.cli.entry import describe
from csa_inpaint.data.listing import list_images

# The network learns nothing from one batch: the tests are about the commands around it.
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
    """A command's exit status and what the command printed."""

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


def test_run_folder_says_how_it_came_about(trained: Path) -> None:
    (record,) = json.loads((trained / "run.json").read_text())["starts"]
    command = shlex.split(record["command"])
    assert command[:3] == ["python", "-m", "csa_inpaint.train"]
    assert set(TINY) <= set(command)
    assert record["directory"] == str(Path.cwd())
    assert record["versions"]["torch"] == torch.__version__
    assert {"python", "torchvision", "pytorch-lightning", "csa-inpaint"} <= set(record["versions"])


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


def test_last_resumes_the_newest_run_in_another_folder_when_told(
    trained: Path, tmp_path: Path
) -> None:
    done = run(
        "train",
        *TINY,
        "trainer.max_epochs=2",
        "checkpoint=last",
        f"output_root={trained.parents[1]}",
        f"hydra.run.dir={tmp_path / 'second'}",
    )
    assert done.status == 0, done.err
    assert [p.name for p in (tmp_path / "second/previews").iterdir()] == ["epoch_0001.png"]


def test_run_is_continued_in_its_folder(
    trained: Path, tmp_path: Path, assert_same_state: Callable[[Path, Path], None]
) -> None:
    options = (*TINY, "trainer.log_every_n_steps=1", "data.val_batch_size=2", "logger=wandb")
    options += ("logger.wandb.offline=true", "callbacks.preview=null", "adversary=[]")
    for root, epochs in (("whole", (2,)), ("parts", (1, 2))):
        for number, limit in enumerate(epochs):
            done = run(
                "train",
                *options,
                f"trainer.max_epochs={limit}",
                f"output_root={tmp_path / root}",
                *(["checkpoint=last"] if number else []),
            )
            wandb.finish()
            assert done.status == 0, done.err
    whole, parts = (newest_run(tmp_path / root) for root in ("whole", "parts"))
    assert list((tmp_path / "parts/photos").iterdir()) == [parts]
    assert_same_state(whole / "checkpoints/last.ckpt", parts / "checkpoints/last.ckpt")
    assert curve(whole) == curve(parts)
    starts = json.loads((parts / "run.json").read_text())["starts"]
    assert [start["checkpoint"] for start in starts] == [
        None,
        str(parts / "checkpoints/last.ckpt"),
    ]
    # offline-run-TIME-ID, and a number behind where two starts fall into the same second
    (ident,) = {path.name.split("-")[3] for path in parts.glob("wandb/offline-run-*")}
    assert (parts / "wandb_id.txt").read_text().strip() == ident
    best = [
        torch.load(run / "checkpoints/best.ckpt", weights_only=True)["epoch"]
        for run in (whole, parts)
    ]
    scores = [float(row["val/psnr"]) for row in curve(whole) if row["val/psnr"]]
    assert best == [scores.index(max(scores))] * 2


def curve(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv, without speed and memory."""
    rows = csv.DictReader((folder / "metrics.csv").open())
    measured = ("health/images_per_second", "health/data_wait", "health/memory_mb")
    return [{k: v for k, v in row.items() if k not in measured} for row in rows]


def test_best_checkpoint_is_that_of_the_whole_run(tmp_path: Path) -> None:
    options = (*TINY, "adversary=[]", f"output_root={tmp_path}", "callbacks.preview=null")
    assert run("train", *options).status == 0
    folder = newest_run(tmp_path)
    best = (folder / "checkpoints/best.ckpt").read_bytes()
    # This start makes the model worse.
    worse = ("model.learning_rate=0.3", "trainer.max_epochs=2", "model.ema_decay=0")
    done = run("train", *options, *worse, "checkpoint=last")
    assert done.status == 0, done.err
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 1
    assert (folder / "checkpoints/best.ckpt").read_bytes() == best


# --- repeating a run ----------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["apart", "with an equals sign"])
def test_run_repeats_bit_for_bit_from_its_config(
    written: str,
    trained: Path,
    assert_same_state: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    untouched = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    monkeypatch.chdir(trained.parents[2])  # Hydra's own rule finds nothing from here
    folder = f"{trained.relative_to(trained.parents[2])}"
    path = ["--config-path", folder] if written == "apart" else [f"--config-path={folder}"]
    resume: list[str] = []
    monkeypatch.setattr(
        "csa_inpaint.fitting.SaveWithinEpoch",
        lambda path, command, *more: (
            resume.append(command) or SaveWithinEpoch(path, command, *more)
        ),
    )
    name = f"again_{len(path)}"  # two runs of one name might start in one second
    done = run("train", f"name={name}", *path, "--config-name", "config")
    assert done.status == 0, done.err
    repeated = newest_run(trained.parents[1], name)
    assert_same_state(trained / "checkpoints/last.ckpt", repeated / "checkpoints/last.ckpt")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == untouched
    last = repeated / "checkpoints/last.ckpt"
    of_the_run = ["--config-path", str(trained), "--config-name", "config"]
    options = [f"name={name}", f"checkpoint={last}"]
    assert shlex.split(resume[0])[3:] == [*of_the_run, *options]
    first, second = (
        OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        for folder in (trained, repeated)
    )
    assert {**second, "name": first["name"]} == first


@pytest.mark.parametrize("change", ["mask=freeform", "mask.size=0.3", "adversarial_weight=0"])
def test_repeat_refuses_a_change_without_effect(trained: Path, change: str) -> None:
    done = run("train", change, "--config-path", str(trained), "--config-name", "config")
    assert done.status == 1
    assert f"{change} would not change the repeated run" in done.err


# --- a training that fails ------------------------------------------------------------------------


def test_failed_training_is_replayed_with_the_command_it_prints(tmp_path: Path) -> None:
    arguments = [a for a in TINY if not a.startswith("trainer.limit_train_batches")]
    done = run(
        "train",
        *arguments,
        "model=small",
        "name='a=b'",  # the equals sign belongs to Hydra's grammar
        "model.learning_rate=1e30",
        f"output_root={tmp_path}",
    )
    assert done.status == 1
    assert "NonFiniteLossError: " in done.err
    (command,) = [line for line in done.err.splitlines() if "csa_inpaint.replay" in line]
    again = run("replay", *shlex.split(command)[3:])
    assert again.status == 0, again.err
    assert "The failure reproduces" in again.out
    assert "First value that is not finite: " in again.out


# --- evaluate and predict -----------------------------------------------------------------------


def test_evaluate_reads_everything_from_the_checkpoint(checkpoint: str, tmp_path: Path) -> None:
    done = run(
        "evaluate", checkpoint, "baselines=[mean_fill]", "images=2", f"output_root={tmp_path}"
    )
    assert done.status == 0, done.err
    folder = newest_run(tmp_path, "evaluate")
    scores = {row["method"]: row for row in csv.DictReader((folder / "scores.csv").open())}
    assert set(scores) == {"rough", "refined", "composite", "mean_fill"}
    # The refined image of a residual generator has the known pixels, as the composite has.
    assert float(scores["composite"]["psnr"]) == float(scores["refined"]["psnr"])
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
    assert kept.status == 0, kept.err
    assert "1 picture there already and kept" in kept.out


def test_predict_fills_a_folder_like_the_python_call(
    checkpoint: str, tmp_path: Path, hole: Path
) -> None:
    done = run("predict", checkpoint, f"images={PHOTOS}", f"masks={hole}", f"output={tmp_path}/out")
    assert done.status == 0, done.err
    names = {path.stem for path in list_images(PHOTOS)}
    assert {path.stem for path in (tmp_path / "out").iterdir()} == names

    model = CSAInpainter.load_from_checkpoint(checkpoint.split("=", 1)[1]).eval()
    photo = Image.open(PHOTOS / "skimage_coffee.jpg")
    expected = inpaint(model, photo, Image.open(hole), size=64)
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


def test_predict_fills_the_others_where_one_cannot_be_filled(
    checkpoint: str, tmp_path: Path, hole: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(PHOTOS / "skimage_coffee.jpg", tmp_path / "in" / f"{name}.jpg")
        shutil.copy(hole, tmp_path / f"{name}.png")
    Image.new("L", (256, 256)).save(tmp_path / "b.png")  # no hole
    output = tmp_path / "out"
    folders = [f"images={tmp_path / 'in'}", f"masks={tmp_path}", f"output={output}"]
    done = run("predict", checkpoint, *folders)
    assert done.status == 1
    assert f"2 pictures written to {output}; not filled were 1:" in done.err
    assert f"{tmp_path / 'in' / 'b.jpg'} with {tmp_path / 'b.png'}: " in done.err
    assert {path.name for path in output.iterdir()} == {"a.png", "c.png"}


# --- starting points -----------------------------------------------------------------------------


def test_init_from_fine_tunes_on_other_data_sizes_and_adversaries(
    trained: Path, checkpoint: str, tmp_path: Path
) -> None:
    for index in range(3):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (100, 100), (80 * index, 90, 60)).save(tmp_path / f"pictures/{index}.png")
    done = run(
        "train",
        *TINY,
        checkpoint.replace("checkpoint=", "init_from="),
        "data=folder",
        f"data.root={tmp_path / 'pictures'}",
        "data.size=96",
        "mask=freeform",
        "adversary=[patch]",
        "objective=hinge",
        "model.learning_rate=0",
        f"output_root={tmp_path / 'runs'}",
    )
    assert done.status == 0, done.err
    old, new = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        for folder in (trained, newest_run(tmp_path / "runs", "folder"))
    )
    generator = [key for key in new["state_dict"] if key.startswith("generator.")]
    assert generator
    for key in generator:
        assert torch.equal(new["state_dict"][key], old["state_dict"][key])
    assert new["epoch"] == 0
    assert new["config"]["data"]["size"] == 96
    assert not any("discriminators.feature" in key for key in new["state_dict"])


def test_init_from_and_checkpoint_exclude_each_other(checkpoint: str, tmp_path: Path) -> None:
    start = checkpoint.replace("checkpoint=", "init_from=")
    done = run("train", *TINY, checkpoint, start, f"output_root={tmp_path}")
    assert done.status == 1
    assert checkpoint in done.err
    assert f"{start}:" in done.err


@pytest.mark.parametrize("case", ["absent", "too wide"])
def test_init_from_without_a_match_is_explained(checkpoint: str, tmp_path: Path, case: str) -> None:
    path = checkpoint.removeprefix("checkpoint=")
    overrides, expected = {
        "absent": (["init_from=absent.ckpt"], "there is no file absent.ckpt"),
        "too wide": ([f"init_from={path}", "model.width=8"], "generator.width=8 (checkpoint: 4)"),
    }[case]
    done = run("train", *TINY, *overrides, f"output_root={tmp_path}")
    assert done.status == 1
    assert expected in done.err
    assert "Traceback" not in done.err


def test_resume_command_leaves_the_starting_point_out(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []

    class Spy(SaveWithinEpoch):
        def __init__(self, path: Path, resume_command: str, every_minutes: float) -> None:
            super().__init__(path, resume_command, every_minutes)
            commands.append(resume_command)

    monkeypatch.setattr("csa_inpaint.fitting.SaveWithinEpoch", Spy)
    start = checkpoint.replace("checkpoint=", "init_from=")
    done = run("train", *TINY, start, f"output_root={tmp_path}")
    assert done.status == 0, done.err
    assert start not in commands[0]
    assert "init_from=null" in commands[0]  # an experiment may name weights too
    assert "checkpoint=" in commands[0]
    assert "data.size=64" in commands[0]


@pytest.fixture
def imported(save_released: Callable[..., dict[str, Path]], tmp_path: Path) -> dict[str, Path]:
    """Released files of random networks, and the checkpoint made of these files."""
    torch.manual_seed(7)  # trainings use another seed
    files = save_released(
        Generator(width=2), PatchDiscriminator(2), FeaturePatchDiscriminator(16, 32, (2, 2, 2))
    )
    files["output"] = tmp_path / "model.ckpt"
    done = run("import_released", *(f"{name}={path}" for name, path in files.items()))
    assert done.status == 0, done.err
    return files


def test_imported_checkpoint_gives_the_released_outputs(imported: dict[str, Path]) -> None:
    model = CSAInpainter.load_from_checkpoint(imported["output"], weights_only=True).eval()
    released = load_released(imported["rough"], imported["refine"])
    image, mask = torch.rand(1, 3, 256, 256) * 2 - 1, torch.zeros(1, 1, 256, 256)
    mask[..., 60:180, 40:200] = 1
    with torch.inference_mode():
        ours, theirs = model(image, mask), released(image, mask)
    for name in ("rough", "refined", "composite", "encoder_features", "decoder_features"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert model.hparams["generator"]["detach_rough"] is True
    assert model.hparams["vgg"]["imagenet_norm"] is False


def test_imported_checkpoint_is_evaluated_and_fills_holes(
    imported: dict[str, Path], tmp_path: Path, hole: Path
) -> None:
    given = f"checkpoint={imported['output']}"
    done = run("evaluate", given, "images=1", "limit_images=1", f"output_root={tmp_path}")
    assert done.status == 0, done.err
    with Image.open(next(newest_run(tmp_path, "evaluate").glob("*.png"))) as grid:
        assert grid.width > 5 * 256

    photo, filled = PHOTOS / "skimage_coffee.jpg", tmp_path / "filled.png"
    paths = [f"images={photo}", f"masks={hole}", f"output={filled}"]
    done = run("predict", given, *paths, "blend=hard", "detail=0", "backend=eager")
    assert done.status == 0, done.err
    generator = load_released(imported["rough"], imported["refine"])
    image = torch.from_numpy(np.array(Image.open(photo))).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode(), Image.open(hole) as mask:
        known = torch.from_numpy(np.array(mask))[None, None] == 0
        expected = generator(image, (~known).float()).composite
    expected = ((expected.clamp(-1, 1) + 1) * 127.5).round().byte()[0].permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(Image.open(filled)), expected)


def test_imported_checkpoint_is_fine_tuned(imported: dict[str, Path], tmp_path: Path) -> None:
    tiny = [override for override in TINY if not override.startswith(("model.", "data.size"))]
    done = run(
        "train",
        *tiny,
        "model=paper",
        "model/fidelity=released",
        "model.width=2",
        "model.vgg={weights: random, width: 4}",
        "model.learning_rate=0",
        "adversary=[patch,feature]",
        "adversary.patch.learning_rate=0",
        "adversary.feature.learning_rate=0",
        "data.size=256",
        f"init_from={imported['output']}",
        f"output_root={tmp_path / 'runs'}",
    )
    assert done.status == 0, done.err
    last = newest_run(tmp_path / "runs") / "checkpoints/last.ckpt"
    start, end = (
        torch.load(path, weights_only=True)["state_dict"] for path in (imported["output"], last)
    )
    weights = [key for key in start if not key.startswith("ema.")]
    assert any(key.startswith("discriminators.feature") for key in weights)
    for key in weights:
        assert torch.equal(start[key], end[key])


def test_imported_checkpoint_is_not_resumed(imported: dict[str, Path], tmp_path: Path) -> None:
    done = run("train", *TINY, f"checkpoint={imported['output']}", f"output_root={tmp_path}")
    assert done.status == 1
    assert f"init_from={imported['output']}" in done.err


def test_import_overwrites_only_when_told_and_names_wrong_keys(imported: dict[str, Path]) -> None:
    given = [f"{name}={path}" for name, path in imported.items()]
    kept = run("import_released", *given)
    assert kept.status == 1
    assert "overwrite=true" in kept.err
    state = torch.load(imported["feature"], weights_only=True)
    del state["model.5.bias"]
    torch.save(state, imported["feature"])
    wrong = run("import_released", *given, "overwrite=true")
    assert wrong.status == 1
    assert "missing (1): model.5.bias" in wrong.err


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "evaluate",
        "compare",
        "predict",
        "check_data",
        "doctor",
        "import_released",
        "make_benchmark",
        "make_shards",
        "replay",
    ],
)
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
        ("model/fidelity=relased", "model/fidelity=released"),
        ("fidelity.simlarity=released", "fidelity.similarity"),
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


def test_unknown_choice_without_a_near_one_is_told_all() -> None:
    done = run("train", "logger=nothing")
    assert "There is no logger=nothing: choose from csv, tensorboard, wandb." in done.err


def test_launcher_without_its_package_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "find_spec", lambda name: None)
    (hint,) = entry.hints("train", ["hydra/launcher=slurm", "seed=0"])
    assert hint == "hydra/launcher=slurm needs submitit: pip install 'csa-inpaint[slurm]'"
    assert list(entry.hints("train", ["hydra/launcher=basic", "hydra/sweeper=basic"])) == []


def test_group_without_a_choice_is_told_how_to_write_it() -> None:
    done = run("train", "adversary=null")
    assert done.status == 1
    assert "adversary=null names no choice: adversary=[] takes none" in done.err
    assert "Traceback" not in done.err


def test_error_in_a_data_worker_is_told_without_its_traceback(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        Image.new("RGB", (20, 20)).save(tmp_path / "pictures" / f"{number}.png")
    data = ["+data=folder", f"data.root={tmp_path / 'pictures'}", "data.num_workers=1"]
    checkpoint = f"checkpoint={trained / 'checkpoints' / 'last.ckpt'}"
    done = run("evaluate", checkpoint, *data, f"output_root={tmp_path}")
    assert done.status == 1
    assert "20" in done.err
    assert "Traceback" not in done.err
    assert "worker process" not in done.err


def test_error_in_a_data_worker_keeps_all_its_lines() -> None:
    worker = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent "
    worker += "call last):\n  File ...\nValueError: the first line\nand the second\n"
    assert describe(ValueError(worker)) == "ValueError: the first line\nand the second"


def test_a_key_of_a_command_without_choices_is_no_choice() -> None:
    done = run("predict", "checkpoint=a.ckpt", "images=a", "output=b", "mask=hole.png")
    assert "There is no mask: did you mean masks" in done.err


def test_missing_checkpoint_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("evaluate", f"output_root={tmp_path}")
    assert done.status == 1
    assert "checkpoint" in done.err
    # `predict` takes the weights that come with the library, where some do.
    monkeypatch.setattr("csa_inpaint.weights.shipped.FOLDER", tmp_path)
    done = run("predict", f"images={PHOTOS}", "+mask=center", f"output={tmp_path / 'out'}")
    assert done.status == 1
    assert "no weights called starter" in done.err
    assert "checkpoint=PATH" in done.err


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


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    assert run("train", *TINY, folder).status == 0
    config = (tmp_path / "run/config.yaml").read_text()
    second = run("train", *TINY, folder, "seed=5")
    assert second.status == 1
    assert "is another run's folder" in second.err
    auto = run("train", *TINY, folder, "checkpoint=auto")
    assert auto.status == 0, auto.err
    assert (tmp_path / "run/config.yaml").read_text() == config
