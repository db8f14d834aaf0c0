"""The journal of an evaluation, and what a record says of its hole."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.evaluation.records import Journal, Record, mean
from csa_inpaint.evaluation.samples import spread, unique_names


@pytest.mark.parametrize(
    ("ratio", "holes"),
    [
        (0.01, None),
        (0.0101, "(0.01, 0.1]"),
        (0.1, "(0.01, 0.1]"),
        (0.25, "(0.2, 0.3]"),
        (0.6, "(0.5, 0.6]"),
        (0.61, None),
    ],
)
def test_bins_hold_their_upper_end(
    ratio: float, holes: str | None, make_record: Callable[..., Record]
) -> None:
    assert make_record(0, ratio).holes == holes


def test_journal_gives_back_its_records_in_order(
    tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    records = [make_record(n, 0.3, telea={"psnr": 1 / (n + 3), "l1": math.inf}) for n in range(5)]
    journal = Journal(tmp_path)
    journal.begin({"a": 1})
    journal.append(records[3:], rank=1)
    journal.append([records[0]], rank=0)
    journal.append(records[1:3], rank=0)
    assert Journal(tmp_path).read() == records


def test_journal_survives_half_a_line(tmp_path: Path, make_record: Callable[..., Record]) -> None:
    journal = Journal(tmp_path)
    journal.begin({})
    journal.append([make_record(0), make_record(1)], rank=0)
    path = journal.folder / "records_0.jsonl"
    path.write_text(path.read_text()[:-20])
    assert [record.number for record in journal.read()] == [0]
    journal.append([make_record(1), make_record(2)], rank=0)
    assert [record.number for record in journal.read()] == [0, 1, 2]


def test_journal_refuses_other_settings(tmp_path: Path) -> None:
    Journal(tmp_path).begin({"baselines": ["telea"], "limit": None, "same": (1, 2)})
    Journal(tmp_path).begin({"baselines": ["telea"], "limit": None, "same": (1, 2)})
    with pytest.raises(ValueError, match=r"other settings \(baselines, limit\)"):
        Journal(tmp_path).begin({"baselines": [], "limit": 3, "same": (1, 2)})


def test_mean_does_not_depend_on_the_order() -> None:
    values = [1e16, 1.0, -1e16, 3.0]
    assert mean(values) == mean(values[::-1]) == 1.0
    assert math.isnan(mean([]))


def test_names_lose_their_extension_and_stay_unique() -> None:
    assert unique_names(["a.png", "b/a.png", "b/a.jpg"]) == ["a", "b/a#1", "b/a#2"]


def test_spread_takes_numbers_over_the_whole_range() -> None:
    assert spread(10, 3) == [0, 3, 6]
    assert spread(3, None) == spread(3, 5) == [0, 1, 2]
