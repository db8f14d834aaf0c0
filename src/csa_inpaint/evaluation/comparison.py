"""Paired comparison: per-picture scores of several evaluations, differences and their intervals."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csa_inpaint.evaluation.metrics import BINS
from csa_inpaint.evaluation.records import bin_name
from csa_inpaint.evaluation.tables import ALL, COLUMNS

_CHUNK = 500  # resamples computed at a time


class Sample(NamedTuple):
    """What identifies a sample in two evaluations."""

    name: str
    image: str
    digest: str
    hole_ratio: float


@dataclass(frozen=True)
class Run:
    """The per-picture scores of one method in one evaluation.

    Args:
        folder: of the evaluation.
        method: of its methods.
        samples: in the evaluation's order.
        scores: by name, one for each sample.
    """

    folder: Path
    method: str
    samples: tuple[Sample, ...]
    scores: dict[str, npt.NDArray[np.float64]]


class Difference(NamedTuple):
    """How much a run's mean score differs from the reference's."""

    holes: str
    images: int
    score: str
    reference: float
    value: float
    difference: float
    low: float  # of the confidence interval of the difference
    high: float


def read_run(text: str) -> Run:
    """An evaluation's scores.

    Args:
        text: the folder, or ``FOLDER:METHOD``. Without a method it is the composite, or the only
            one that there is.

    Raises:
        FileNotFoundError: there is no such folder, or no finished evaluation in it.
        ValueError: there is no such method, or several and none is the composite.
    """
    folder, method = Path(text), ""
    if not folder.exists() and ":" in text:
        start, _, method = text.rpartition(":")
        folder = Path(start)
    path = folder / "per_image.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: {folder} is no folder of a finished csa_inpaint.evaluate"
        )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    if not method and ("composite" in methods or len(methods) == 1):
        method = "composite" if "composite" in methods else methods[0]
    if method not in methods:
        raise ValueError(
            f"{text}: which method is meant? {folder} has {', '.join(methods)}: write "
            f"{folder}:{methods[0]}"
        )
    own = [row for row in rows if row["method"] == method]
    samples = tuple(
        Sample(row["name"], row["image"], row["digest"], float(row["hole_ratio"])) for row in own
    )
    names = [name for name in rows[0] if name not in COLUMNS]
    scores = {name: np.array([float(row[name]) for row in own]) for name in names}
    return Run(folder, method, samples, scores)


def check_same_samples(runs: Sequence[Run]) -> None:
    """Refuse to compare evaluations of different pictures or masks.

    Raises:
        ValueError: names, pixels or masks of the samples differ.
    """
    first, *others = runs
    for other in others:
        here, there = ({s.name: s.digest for s in run.samples} for run in (first, other))
        differing = [name for name in here | there if here.get(name) != there.get(name)]
        if differing:
            raise ValueError(
                f"{first.folder} and {other.folder} were evaluated on different pictures or masks: "
                f"{len(differing)} of {len(here | there)} samples differ, {differing[0]} for one. "
                "Evaluate both on one benchmark (benchmark=NAME)"
            )


def in_order_of(reference: Run, run: Run, score: str) -> npt.NDArray[np.float64]:
    """The run's values of a score, in the order of the reference's samples."""
    values = dict(zip((s.name for s in run.samples), run.scores[score], strict=True))
    return np.array([values[sample.name] for sample in reference.samples])


def differences(
    reference: Run, run: Run, scores: Sequence[str], confidence: float, resamples: int, seed: int
) -> list[Difference]:
    """Differences of the means over all samples and in each bin, with bootstrap intervals."""
    holes = {ALL: np.ones(len(reference.samples), dtype=np.bool_)}
    ratios = np.array([sample.hole_ratio for sample in reference.samples])
    holes |= {bin_name(low, high): (low < ratios) & (ratios <= high) for low, high in BINS}
    images = np.array([sample.image for sample in reference.samples])
    found = []
    for name, members in holes.items():
        if not members.any() or (name != ALL and members.all()):
            continue
        for score in scores:
            one, other = reference.scores[score], in_order_of(reference, run, score)
            low, high = bootstrap(
                (other - one)[members], images[members], confidence, resamples, seed
            )
            means = float(one[members].mean()), float(other[members].mean())
            change = float((other - one)[members].mean())
            found.append(Difference(name, int(members.sum()), score, *means, change, low, high))
    return found


def bootstrap(
    values: npt.NDArray[np.float64],
    images: npt.NDArray[np.str_],
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean of paired differences (Efron, 1979).

    Pictures are drawn with replacement, each with all its samples: several masks of one picture are
    not independent.

    Args:
        values: a difference for each sample.
        images: the picture of each sample.
        confidence: of the interval, between 0 and 1.
        resamples: how often as many pictures are drawn as there are.
        seed: of the draws.

    Returns:
        The lower and the upper end.

    Shape: (N,), (N,)
    """
    _, groups = np.unique(images, return_inverse=True)
    sums, counts = np.bincount(groups, values), np.bincount(groups).astype(np.float64)
    rng = np.random.default_rng(seed)
    even = np.full(len(sums), 1 / len(sums))
    means = []
    for start in range(0, resamples, _CHUNK):
        drawn = rng.multinomial(len(sums), even, size=min(_CHUNK, resamples - start))
        means.append((drawn @ sums) / (drawn @ counts))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)
