"""Logs of a run that is restarted are one log."""

import csv
from pathlib import Path

import pytest
from pytorch_lightning.utilities import rank_zero_only

from csa_inpaint.training.logs import AppendingCSVLogger, wandb_logger


def logger(folder: Path) -> AppendingCSVLogger:
    return AppendingCSVLogger(folder, name="", version="", flush_logs_every_n_steps=1)


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def test_csv_is_continued_with_new_columns(tmp_path: Path) -> None:
    logger(tmp_path).log_metrics({"a": 1.0}, step=0)
    again = logger(tmp_path)
    again.log_metrics({"a": 2.0}, step=1)
    again.log_metrics({"b": 3.0}, step=2)
    assert rows(tmp_path) == [
        {"a": "1.0", "b": "", "step": "0"},
        {"a": "2.0", "b": "", "step": "1"},
        {"a": "", "b": "3.0", "step": "2"},
    ]


def test_csv_is_cut_where_the_training_resumes(tmp_path: Path) -> None:
    first = logger(tmp_path)
    for step in range(5):
        first.log_metrics({"a": step}, step=step)
    again = logger(tmp_path)
    again.cut(3)
    again.log_metrics({"a": 7}, step=3)
    assert [(row["step"], row["a"]) for row in rows(tmp_path)] == [
        ("0", "0"), ("1", "1"), ("2", "2"), ("3", "7"),
    ]  # fmt: skip
    logger(tmp_path / "new").cut(3)
    assert not (tmp_path / "new/metrics.csv").exists()


def test_csv_row_that_comes_twice_is_written_once(tmp_path: Path) -> None:
    one = logger(tmp_path)
    for step, value in ((0, 1.0), (0, 1.0), (0, 2.0), (1, 2.0)):
        one.log_metrics({"a": value}, step=step)
    assert [(row["step"], row["a"]) for row in rows(tmp_path)] == [
        ("0", "1.0"), ("0", "2.0"), ("1", "2.0"),
    ]  # fmt: skip


def test_csv_row_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    first = logger(tmp_path)
    for step in (1, 2, 30):
        first.log_metrics({"a": 5}, step=step)
    whole = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").write_bytes(whole[: whole.rindex(b"30") + 1])  # 3 was step 30
    again = logger(tmp_path)
    again.cut(20)
    again.log_metrics({"a": 6}, step=20)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "20"]


def test_csv_is_written_by_rank_0_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    other = logger(tmp_path)
    other.log_metrics({"a": 1.0}, step=0)
    other.cut(0)
    _ = other.experiment
    assert not list(tmp_path.iterdir())


def test_wandb_id_is_the_runs(tmp_path: Path) -> None:
    first, again = (wandb_logger(tmp_path, project="p", name="n") for _ in range(2))
    assert first.version == again.version == (tmp_path / "wandb_id.txt").read_text().strip()
    (tmp_path / "other").mkdir()
    assert wandb_logger(tmp_path / "other").version != first.version
    assert wandb_logger(tmp_path, id="mine").version == "mine"
