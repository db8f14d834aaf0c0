"""What an evaluation keeps of each sample, written down as it goes and read when it goes on."""

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csa_inpaint.evaluation.metrics import BINS

TRUTH = "truth"  # stands among the methods where features and pictures of the truth are kept


@dataclass(frozen=True)
class Record:
    """The scores of one sample.

    Args:
        number: of the sample in its source.
        name: of the sample: unique, without an extension.
        image: the picture's file.
        digest: of its pixels and its mask.
        hole_ratio: share of the picture that the hole covers.
        scores: by method and score.
        features: of the hole's crop by KID score and method, the truth's among them; float32 in
            base 64.
    """

    number: int
    name: str
    image: str
    digest: str
    hole_ratio: float
    scores: dict[str, dict[str, float]]
    features: dict[str, dict[str, str]]

    @property
    def holes(self) -> str | None:
        """The name of the bin that the hole's ratio lies in, None outside all of them."""
        for low, high in BINS:
            if low < self.hole_ratio <= high:
                return bin_name(low, high)
        return None


def bin_name(low: float, high: float) -> str:
    """A bin as tables name it: ``(0.1, 0.2]``."""
    return f"({low:g}, {high:g}]"


def encode(features: Tensor) -> str:
    """A vector as text."""
    return base64.b64encode(features.float().cpu().numpy().tobytes()).decode()


def decode(texts: Iterable[str]) -> Tensor:
    """Vectors from their texts: (N, D)."""
    rows = [np.frombuffer(base64.b64decode(text), dtype=np.float32) for text in texts]
    return torch.from_numpy(np.stack(rows))


class Journal:
    """The records of an evaluation in its folder, a file for each process.

    A record is a line, written as soon as its sample is scored. An evaluation that was interrupted
    reads them and leaves those samples out. All processes need to see the same folder.

    Args:
        folder: of the evaluation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "progress"

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write down what decides the scores, or compare it with what an earlier start wrote.

        Raises:
            ValueError: the folder holds an evaluation with other settings.
        """
        path = self.folder / "settings.json"
        wanted = json.loads(json.dumps(settings))  # as JSON gives it back
        before = json.loads(path.read_text()) if path.is_file() else wanted
        changed = [key for key in before | wanted if before.get(key) != wanted.get(key)]
        if changed:
            raise ValueError(
                f"{self.folder.parent} holds an evaluation with other settings "
                f"({', '.join(sorted(changed))}): restore these, or choose another folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        # Written beside and moved: other processes see all of it or nothing.
        part = path.with_name(f"{path.stem}-{os.getpid()}.part")
        part.write_text(json.dumps(wanted, indent=1))
        part.replace(path)

    def append(self, records: Iterable[Record], rank: int) -> None:
        """Write records down, in the file of this process."""
        lines = [json.dumps(asdict(record)) for record in records]
        with (self.folder / f"records_{rank}.jsonl").open("a") as file:
            # The line break in front ends what an interrupted process may have left.
            file.write("\n" + "\n".join(lines) + "\n")

    def read(self) -> list[Record]:
        """All records so far, in the order of their samples."""
        records: dict[int, Record] = {}
        for path in sorted(self.folder.glob("records_*.jsonl")):
            for line in filter(None, path.read_text().splitlines()):
                try:
                    record = Record(**json.loads(line))
                except json.JSONDecodeError:
                    continue  # half a line, which a process left that was ended as it wrote
                records[record.number] = record
        return [records[number] for number in sorted(records)]


def mean(values: Iterable[float]) -> float:
    """The mean, summed without rounding: independent of the order; NaN of nothing."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan
