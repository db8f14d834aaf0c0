"""Loggers that go on where a run was stopped."""

import csv
import uuid
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities import rank_zero_only

WANDB_ID = "wandb_id.txt"


class AppendingCSVLogger(CSVLogger):
    """Lightning's ``metrics.csv``, which a restarted run continues instead of deleting it.

    A row that comes twice in succession is written once: a training logs a batch before it saves,
    and Lightning logs the same batch afterwards.
    """

    _row: tuple[int | None, dict[str, Any]] | None = None  # the last one

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        row = (step, dict(metrics))
        if row != self._row:
            super().log_metrics(metrics, step)
        self._row = row

    @property
    def experiment(self) -> Any:
        if self._experiment is None:
            self._start()
        return super().experiment

    @rank_zero_only
    def _start(self) -> None:
        self._experiment = _AppendingWriter(log_dir=self.log_dir)

    @rank_zero_only
    def cut(self, batches: int) -> None:
        """Remove the rows that a training which resumes after so many batches logs again."""
        self.experiment.cut(batches)


class _AppendingWriter(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Take the columns of the file that is there; Lightning's method deletes the file."""
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(newline="") as file:
                self.metrics_keys = list(csv.DictReader(file).fieldnames or [])

    def cut(self, batches: int) -> None:
        """Keep the rows of the batches before this number."""
        self._rewrite(self.metrics_keys, batches)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._rewrite(fieldnames)

    def _rewrite(self, columns: list[str], batches: int | None = None) -> None:
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        # A process that was killed may have left the beginning of a row.
        whole = path.read_text().rpartition("\n")[0].splitlines()
        rows = list(csv.DictReader(whole))
        part = path.with_name(f"{path.name}.part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(r for r in rows if batches is None or int(r["step"]) < batches)
        part.replace(path)


def wandb_logger(folder: str | Path, id: str | None = None, **options: Any) -> WandbLogger:
    """A logger whose run in Weights & Biases is the same for all starts of a run here.

    Args:
        folder: of the run. The run's id lies in it, in ``wandb_id.txt``.
        id: of the run in Weights & Biases; None takes the folder's, or a new one.
        options: arguments of Lightning's ``WandbLogger``.
    """
    return WandbLogger(save_dir=folder, id=id or _wandb_id(Path(folder)), **options)


@rank_zero_only
def _wandb_id(folder: Path) -> str:
    """The id in a run's folder, a new one at the first start."""
    path = folder / WANDB_ID
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:8] + "\n")
    return path.read_text().strip()
