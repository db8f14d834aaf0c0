"""Which folder a training writes into, and which checkpoint it starts from."""

import json
import os
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from csa_inpaint.cli.provenance import command_line
from csa_inpaint.training import runs
from csa_inpaint.training.runs import (
    claimed,
    newest_checkpoint,
    read_starts,
    run_folder,
    run_of,
    start_point,
    write_record,
)

GOOD = {"state_dict": {"generator.weight": torch.zeros(3)}, "optimizer_states": []}


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher of the tests is seen."""
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process belongs to a job that Slurm has started again."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")


def make_run(
    folder: Path,
    *files: str,
    job: str | None = None,
    time: str = "2026-01-01",
    command: str | None = None,
) -> Path:
    """A run's folder with checkpoints; a later file is newer."""
    (folder / "checkpoints").mkdir(parents=True)
    start = {"job": job, "time": time, "command": command or command_line("csa_inpaint.train")}
    record = {"starts": [{"job": "another"}, start]}
    (folder / "run.json").write_text(json.dumps(record))
    for age, name in enumerate(files):
        torch.save(GOOD, folder / "checkpoints" / name)
        os.utime(folder / "checkpoints" / name, (1000 + age, 1000 + age))
    return folder


# --- the folder ----------------------------------------------------------------------------------


def test_run_folder_of_a_new_training_is_new(tmp_path: Path) -> None:
    make_run(tmp_path / "photos/old", "last.ckpt")
    for checkpoint in (None, "auto"):
        folder = Path(run_folder(str(tmp_path), "photos", checkpoint))
        assert folder.parent == tmp_path / "photos"
        assert not folder.exists()


def test_run_folder_of_a_continued_training_is_the_runs(tmp_path: Path) -> None:
    old = make_run(tmp_path / "photos/old", "last.ckpt")
    new = make_run(tmp_path / "faces/new", "last-1.ckpt")
    os.utime(new / "checkpoints/last-1.ckpt", (2000, 2000))  # its last.ckpt was being written
    assert run_folder(str(tmp_path), "photos", "last") == str(new)
    for path in (old, old / "checkpoints/last.ckpt"):
        assert run_folder(str(tmp_path), "photos", str(path)) == str(old)


def test_run_folder_of_a_training_from_an_older_state_is_new(tmp_path: Path) -> None:
    old = make_run(tmp_path / "photos/old", "best.ckpt", "last.ckpt")
    folder = run_folder(str(tmp_path), "photos", str(old / "checkpoints/best.ckpt"))
    assert folder != str(old)
    assert run_of(tmp_path / "elsewhere/last.ckpt") is None


@pytest.mark.usefixtures("restarted")
@pytest.mark.parametrize("checkpoint", [None, "last", "auto", "somewhere/last.ckpt"])
def test_run_folder_of_a_restarted_job_is_that_of_its_start(
    checkpoint: str | None, tmp_path: Path
) -> None:
    mine = make_run(tmp_path / "photos/b", job="slurm 7.0", time="2026-01-02")
    make_run(tmp_path / "photos/a", job="slurm 7.0", time="2026-01-01")  # an older cluster's job 7
    make_run(tmp_path / "photos/c", "last.ckpt", job="slurm 8.0", time="2026-01-03")
    other = "python -m csa_inpaint.train seed=1"  # another training of the same job
    make_run(tmp_path / "photos/d", job="slurm 7.0", time="2026-01-04", command=other)
    (tmp_path / "photos/e").mkdir()
    (tmp_path / "photos/e/run.json").touch()  # cut off by a full disk
    assert run_folder(str(tmp_path), "photos", checkpoint) == str(mine)


@pytest.mark.usefixtures("restarted")
def test_run_folder_of_a_job_that_left_nothing_is_new(tmp_path: Path) -> None:
    folder = Path(run_folder(str(tmp_path), "photos", None))
    assert folder.parent == tmp_path / "photos"


# --- the checkpoint ------------------------------------------------------------------------------


def test_newest_checkpoint_passes_over_a_file_that_was_cut(tmp_path: Path) -> None:
    run = make_run(tmp_path, "best.ckpt", "last-1.ckpt", "last.ckpt")
    last, before = (run / "checkpoints" / name for name in ("last.ckpt", "last-1.ckpt"))
    assert newest_checkpoint(run) == last
    last.write_bytes(last.read_bytes()[:-30])
    os.utime(before, (9000, 9000))  # a copy, say
    with pytest.warns(UserWarning, match=r"last\.ckpt cannot be read.*in favour of.*last-1\.ckpt"):
        assert newest_checkpoint(run) == before
    before.write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)last\.ckpt cannot.*last-1\.ckpt cannot"):
        newest_checkpoint(run)


def test_newest_checkpoint_takes_no_file_that_is_being_written(tmp_path: Path) -> None:
    run = make_run(tmp_path, "last.ckpt", "last.ckpt.part", "best.ckpt")
    assert newest_checkpoint(run) == run / "checkpoints/last.ckpt"
    assert newest_checkpoint(make_run(tmp_path / "empty")) is None


def test_start_point_is_what_was_chosen(tmp_path: Path) -> None:
    old = make_run(tmp_path / "old", "last.ckpt", "best.ckpt")
    last, best = (old / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    new = tmp_path / "new"
    for choice, found in ((None, None), ("auto", None), ("last", last), (old, last), (best, best)):
        given = None if choice is None else str(choice)
        assert start_point(given, tmp_path, new) == found


def test_start_point_in_a_begun_run(tmp_path: Path) -> None:
    old = make_run(tmp_path / "old", "last.ckpt")
    mine = make_run(tmp_path / "mine", "last-1.ckpt")
    own = mine / "checkpoints/last-1.ckpt"
    os.utime(own, (10, 10))
    for choice in ("last", "auto", str(mine)):
        assert start_point(choice, tmp_path, mine) == own
    for choice in (None, str(old)):
        with pytest.raises(FileExistsError, match="mine is another run's folder"):
            start_point(choice, tmp_path, mine)


def test_start_point_before_the_first_checkpoint(tmp_path: Path) -> None:
    begun = make_run(tmp_path / "begun")
    assert start_point("auto", tmp_path, begun) is None
    for choice in ("last", str(begun)):
        with pytest.raises(FileNotFoundError, match=r"begun has no checkpoints/last\.ckpt yet"):
            start_point(choice, tmp_path, begun)


@pytest.mark.usefixtures("restarted")
def test_start_point_of_a_restarted_job_is_its_own_state(tmp_path: Path) -> None:
    old = make_run(tmp_path / "old", "last.ckpt")
    mine = make_run(tmp_path / "mine", "last.ckpt")
    for choice in (None, "last", str(old / "checkpoints/last.ckpt")):
        assert start_point(choice, tmp_path, mine) == mine / "checkpoints/last.ckpt"
    # Before its first checkpoint the job starts where it started at first.
    begun = make_run(tmp_path / "begun")
    assert start_point(None, tmp_path, begun) is None
    os.utime(old / "checkpoints/last.ckpt", (9000, 9000))
    for choice in (str(old), "last"):
        assert start_point(choice, tmp_path, begun) == old / "checkpoints/last.ckpt"


def test_start_point_that_is_none_is_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="checkpoint=last: no run under"):
        start_point("last", tmp_path, tmp_path / "new")
    with pytest.raises(FileNotFoundError, match=r"no file absent\.ckpt"):
        start_point("absent.ckpt", tmp_path, tmp_path / "new")
    torch.save({"state_dict": GOOD["state_dict"]}, tmp_path / "weights.ckpt")
    with pytest.raises(ValueError, match=r"holds weights only.*init_from=.*weights\.ckpt"):
        start_point(str(tmp_path / "weights.ckpt"), tmp_path, tmp_path / "new")


def test_folder_is_claimed_by_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PATIENCE", 0.1)
    with claimed(tmp_path):
        message = f"another process trains in {tmp_path}: stop it"
        with pytest.raises(RuntimeError, match=message), claimed(tmp_path):
            pass
    with claimed(tmp_path):
        pass


# --- what a run says about itself ----------------------------------------------------------------


def config(**settings: object) -> object:
    return OmegaConf.create({"checkpoint": None, "init_from": None, "seed": 0, **settings})


def test_record_keeps_every_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(config(init_from="a.ckpt"), tmp_path, None)
    last = tmp_path / "checkpoints/last.ckpt"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    write_record(config(checkpoint=str(last)), tmp_path, last)
    first, second = read_starts(tmp_path)
    assert first["job"] is None
    assert first["checkpoint"] is None
    assert second["job"] == "slurm 7.batch"
    assert second["checkpoint"] == str(last)
    assert first["versions"] == second["versions"]
    # The configuration repeats the whole run.
    assert OmegaConf.load(tmp_path / "config.yaml").init_from == "a.ckpt"
    assert OmegaConf.load(tmp_path / "config.yaml").checkpoint is None
    assert not list(tmp_path.glob("config_*.yaml"))


def test_record_keeps_the_settings_of_before(tmp_path: Path) -> None:
    write_record(config(), tmp_path, None)
    write_record(config(seed=1), tmp_path, tmp_path / "checkpoints/last.ckpt")
    assert OmegaConf.load(tmp_path / "config.yaml").seed == 1
    assert OmegaConf.load(tmp_path / "config_1.yaml").seed == 0


def test_record_of_version_0_1_is_the_first_start(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"command": "python", "versions": {}}')
    write_record(config(), tmp_path, tmp_path / "checkpoints/last.ckpt")
    first, second = read_starts(tmp_path)
    assert first == {"command": "python", "versions": {}}
    assert second["command"].startswith("python -m csa_inpaint.train")


def test_record_claims_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(command: str) -> dict[str, object]:
        (tmp_path / "run.json").write_text('{"starts": []}')
        return {}

    monkeypatch.setattr(runs, "provenance", meanwhile)
    monkeypatch.setattr(Path, "exists", lambda path: False)  # as it was before
    with pytest.raises(FileExistsError, match="is another run's folder"):
        write_record(config(), tmp_path, None)


def test_start_point_passes_over_a_damaged_file_that_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "photos/a", "last-1.ckpt", "last.ckpt")
    last = run / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"passed over in favour of .*last-1\.ckpt"):
        assert start_point(str(last), tmp_path, run) == run / "checkpoints/last-1.ckpt"
    last.unlink()  # killed between two renames
    assert start_point(str(last), tmp_path, run) == run / "checkpoints/last-1.ckpt"
