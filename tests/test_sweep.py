"""Sweeps: every variant of the method trains, is scored and fills holes; one table has all."""

import csv
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from csa_inpaint import CSAInpainter
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.sweep import Result, differences, markdown, table_rows

TINY = (
    "model.width=4",
    "model.depth=4",
    "data.size=64",
    "data.batch_size=1",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "callbacks.progress=null",
    "callbacks.preview=null",
    "callbacks.best=null",
)
VARIANTS = (
    "full",
    "no_attention",
    "no_consistency",
    "no_feature_adversary",
    "no_adversary",
    "rough_only",
    "plain",
)
# The paper's model has every part that a variant takes away.
ABLATION = (
    "+experiment=[places2,ablation]",
    "data=photos",
    "model.vgg.weights=random",
    "model.vgg.width=4",
    "trainer.precision=32-true",
    f"ablation={','.join(VARIANTS)}",
)
Rows = list[dict[str, str]]


def run(command: str, *arguments: str) -> int:
    """Run ``python -m csa_inpaint.<command>`` in this process; returns its exit status."""
    argv, sys.argv = sys.argv, [f"csa_inpaint.{command}", *arguments]
    try:
        importlib.import_module(f"csa_inpaint.{command}").main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
        GlobalHydra.instance().clear()
    return 0


def sweep(folder: Path, *arguments: str) -> tuple[int, Rows]:
    """Train a sweep into a folder; returns the exit status and the rows of its table."""
    quiet = ("hydra/job_logging=none", "hydra/hydra_logging=none")
    status = run("train", "-m", *quiet, *TINY, f"hydra.sweep.dir={folder}", *arguments)
    return status, list(csv.DictReader((folder / "table.csv").open()))


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """The folder of a sweep over all variants, and its table."""
    folder = tmp_path_factory.mktemp("ablation")
    status, rows = sweep(folder, *ABLATION)
    assert status == 0
    return folder, rows


def test_ablation_is_one_table_of_all_variants(ablation: tuple[Path, Rows]) -> None:
    folder, rows = ablation
    assert {path.stem for path in (config_directory() / "ablation").glob("*.yaml")} == {*VARIANTS}
    assert [row["variant"] for row in rows] == [f"ablation={name}" for name in VARIANTS]
    full, no_attention, no_consistency, no_feature_adversary, no_adversary, rough_only, _ = rows
    assert full["differs in"] == ""
    assert "model.attention_levels=[]" in no_attention["differs in"]
    assert no_consistency["differs in"] == "model.loss_weights.consistency=0"
    assert no_feature_adversary["differs in"] == "~adversary.feature"
    assert no_adversary["differs in"] == "~adversary"
    assert "model.refinement=false" in rough_only["differs in"]
    sizes = [int(row["parameters"]) for row in rows]
    assert len(set(sizes[:5])) == 1  # the missing parts have no parameters
    assert sizes[5] < sizes[0] / 2
    assert len({row["hole_psnr"] for row in rows}) == len(VARIANTS)
    for row in rows:
        assert row["error"] == ""
        assert float(row["minutes"]) > 0
        assert float(row["psnr"]) > float(row["hole_psnr"]) > 0
    lines = (folder / "table.md").read_text().splitlines()
    assert len(lines) == 2 + len(VARIANTS)
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_ablation_row_is_the_last_checkpoints_evaluation(
    ablation: tuple[Path, Rows], tmp_path: Path
) -> None:
    folder, rows = ablation
    checkpoint = folder / "1_no_attention/checkpoints/last.ckpt"
    assert run("evaluate", f"checkpoint={checkpoint}", f"hydra.run.dir={tmp_path}") == 0
    scores = {row["method"]: row for row in csv.DictReader((tmp_path / "scores.csv").open())}
    for score in ("psnr", "hole_ssim", "hole_l1"):
        assert float(rows[1][score]) == pytest.approx(float(scores["composite"][score]))


@pytest.mark.parametrize("number", range(len(VARIANTS)))
def test_ablation_checkpoint_fills_holes(
    ablation: tuple[Path, Rows], number: int, tmp_path: Path
) -> None:
    checkpoint = ablation[0] / f"{number}_{VARIANTS[number]}/checkpoints/last.ckpt"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    hole = np.zeros((60, 50), dtype=np.uint8)
    hole[10:40, 15:40] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(hole).save(tmp_path / "hole.png")
    files = {"images": "photo.png", "masks": "hole.png", "output": "filled.png"}
    given = [f"{key}={tmp_path / name}" for key, name in files.items()]
    assert run("predict", f"checkpoint={checkpoint}", *given) == 0
    filled = np.asarray(Image.open(tmp_path / "filled.png"))
    assert (filled[hole == 0] == pixels[hole == 0]).all()
    assert (filled[hole > 0] != pixels[hole > 0]).any()


def test_ablation_starts_all_variants_from_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[dict[str, torch.Tensor]] = []

    def note(self: CSAInpainter) -> None:
        started.append({key: value.clone() for key, value in self.generator.state_dict().items()})

    monkeypatch.setattr(CSAInpainter, "on_fit_start", note)
    given = (*ABLATION, "trainer.max_epochs=0", "~hydra.callbacks.table")
    assert run("train", "-m", *TINY, *given, f"hydra.sweep.dir={tmp_path}") == 0
    assert len(started) == len(VARIANTS)
    for weights in started[1:]:
        assert all(torch.equal(value, started[0][key]) for key, value in weights.items())


def test_sweep_goes_on_after_a_failed_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (failed, done) = sweep(tmp_path, "model.attention_levels=[9],[2]")
    assert status == 1
    assert "Traceback" not in capsys.readouterr().err
    assert failed["variant"] == "model.attention_levels=[9]"
    assert "9 is not between 1 and 3" in failed["error"]
    assert failed["psnr"] == ""
    assert done["variant"] == "model.attention_levels=[2]"
    assert float(done["psnr"]) > 0
    text = (tmp_path / "table.md").read_text()
    assert "| failed |" in text
    assert "9 is not between 1 and 3" in text


@pytest.mark.filterwarnings("ignore:Callback SweepTable.on_job_end raised FileNotFoundError")
def test_sweep_says_what_could_not_be_evaluated(tmp_path: Path) -> None:
    _, (row,) = sweep(tmp_path, "hydra.callbacks.table.checkpoint=lst", "seed=1")
    assert row["error"].startswith("trained, but not evaluated: FileNotFoundError: there is no")
    assert "lst.ckpt" in row["error"]


def test_sweep_evaluates_as_it_is_told(tmp_path: Path) -> None:
    told = 'hydra.callbacks.table.evaluate=["+mask=rectangle","limit_images=4"]'
    _, (plain,) = sweep(tmp_path / "plain", "adversary=[]")
    _, (other,) = sweep(tmp_path / "other", "adversary=[]", told)
    assert plain["hole_l1"] != other["hole_l1"]


@pytest.mark.filterwarnings("error:Callback")  # Hydra's warning of an error in a callback
def test_single_run_leaves_no_table(tmp_path: Path) -> None:
    assert run("train", *TINY, "hydra/job_logging=none", f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    assert not list(tmp_path.rglob("table.*"))


# --- the table --------------------------------------------------------------------------------


def result(number: int, *overrides: str, **settings: Any) -> Result:
    return Result(number, list(overrides), settings, seconds=90.0)


def test_differences_are_written_as_one_types_them() -> None:
    one = {"a": {"b": 1, "c": [1, 2], "gone": {"x": 0}}, "same": None}
    other = {"a": {"b": 2, "c": [], "new": True}, "same": None, "text": "word"}
    assert list(differences(one, other)) == [
        "a.b=2",
        "a.c=[]",
        "~a.gone",
        "+a.new=true",
        "+text=word",
    ]
    assert list(differences(one, one)) == []


def test_table_names_a_job_by_what_only_it_was_given() -> None:
    jobs = [result(n, "data=photos", f"seed={n}", "+mask=blob", seed=n) for n in range(2)]
    assert [row["variant"] for row in table_rows(jobs)] == ["seed=0", "seed=1"]
    assert [row["differs in"] for row in table_rows(jobs)] == ["", "seed=1"]
    assert [row["variant"] for row in table_rows(jobs[:1])] == ["0"]


def test_table_counts_settings_where_many_differ() -> None:
    few = result(0, "seed=0")
    many = result(1, "seed=1", **{f"key_{n}": n for n in range(9)})
    assert [row["differs in"] for row in table_rows([few, many])] == ["", "9 settings"]


def test_table_has_lpips_where_an_evaluation_has_it() -> None:
    one, other = result(0, "seed=0"), result(1, "seed=1")
    assert "lpips" not in markdown(list(table_rows([one, other])))
    other.scores = {"psnr": 20.0, "lpips_alex": 0.12345}
    lines = markdown(list(table_rows([one, other]))).splitlines()
    assert lines[0].endswith("| lpips_alex |")
    assert lines[3].endswith("| 0.123 |")
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_markdown_rounds_and_tells_what_failed() -> None:
    good, bad = result(0, "seed=0"), result(1, "seed=1")
    good.parameters, good.steps = 1_234_567, 200
    good.scores = {"psnr": 20.126, "hole_ssim": 0.87654}
    bad.error = "ValueError: two\nlines"
    lines = markdown(list(table_rows([good, bad]))).splitlines()
    assert lines[2].startswith("| seed=0 | – | 1,234,567 | 1.50 | 0.450 | 20.13 |")
    assert "| 0.877 |" in lines[2]
    assert lines[3].startswith("| seed=1 | – | failed | 1.50 | failed | failed |")
    assert lines[-1] == "- seed=1: ValueError: two lines"
