"""Tables: means over groups of holes, the published figures, gaps."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from csa_inpaint.evaluation.metrics import SCORES
from csa_inpaint.evaluation.perceptual import kernel_distance
from csa_inpaint.evaluation.published import PUBLISHED
from csa_inpaint.evaluation.records import Record, encode
from csa_inpaint.evaluation.tables import ALL_SCORES, Report, groups, markdown, number, write

ABOUT = {"data": "Folder", "split": "test split", "masks": "CenterMask()", "size": [64, 48]}


@pytest.fixture
def records(make_record: Callable[..., Record]) -> list[Record]:
    """Three small holes, one large one and one outside all bins."""
    ratios = (0.15, 0.2, 0.11, 0.45, 0.9)
    return [
        make_record(
            n,
            ratio,
            telea=dict.fromkeys(SCORES, float(n)),
            composite=dict.fromkeys(SCORES, 10.0 * n),
        )
        for n, ratio in enumerate(ratios)
    ]


def report(records: list[Record], **settings: str) -> Report:
    gaps = {score: "no weights" for score in ALL_SCORES if score not in SCORES}
    return Report(ABOUT, groups(records, SCORES), gaps, **settings)


def test_groups_are_all_and_the_bins(records: list[Record]) -> None:
    found = groups(records, SCORES)
    assert [(g.holes, g.images, g.scores["telea"]["psnr"]) for g in found] == [
        ("all", 5, 2.0),
        ("(0.1, 0.2]", 3, 1.0),
        ("(0.4, 0.5]", 1, 3.0),
    ]
    assert found[0].scores["composite"]["hole_l1"] == 20


def test_kid_is_of_all_features_of_a_group(make_record: Callable[..., Record]) -> None:
    torch.manual_seed(0)
    truth, other = torch.rand(6, 4), torch.rand(6, 4)
    records = [
        Record(
            n, str(n), "", "", 0.15 if n < 4 else 0.35, {"telea": {"psnr": 1.0}},
            {"kid_alex": {"truth": encode(truth[n]), "telea": encode(other[n])}},
        )
        for n in range(6)
    ]  # fmt: skip
    whole, first, second = groups(records, ["psnr", "kid_alex"])
    assert whole.scores["telea"]["kid_alex"] == pytest.approx(kernel_distance(truth, other))
    small = kernel_distance(truth[:4], other[:4])
    assert first.scores["telea"]["kid_alex"] == pytest.approx(small)
    assert second.images == 2


def test_files_hold_every_score(records: list[Record], tmp_path: Path) -> None:
    write(report(records), records, tmp_path)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [(row["method"], row["holes"], row["images"]) for row in rows[:3]] == [
        ("telea", "all", "5"),
        ("composite", "all", "5"),
        ("telea", "(0.1, 0.2]", "3"),
    ]
    assert float(rows[1]["psnr"]) == 20
    assert rows[1]["lpips_alex"] == ""
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["scores"]["(0.4, 0.5]"]["composite"]["ssim"] == 30
    assert content["gaps"]["lpips_alex"] == "no weights"
    assert content["split"] == "test split"
    each = list(csv.DictReader((tmp_path / "per_image.csv").open()))
    assert len(each) == 10
    assert (each[3]["name"], each[3]["method"], float(each[3]["psnr"])) == ("1", "composite", 10)
    assert float(each[3]["hole_ratio"]) == 0.2


def test_markdown_says_what_was_scored_and_what_was_not(records: list[Record]) -> None:
    text = markdown(report(records))
    assert text.startswith("# Folder, test split: 5 samples of 64x48, masks: CenterMask()")
    lines = text.splitlines()
    assert "## Holes (0.1, 0.2]: 3 samples" in lines
    assert "- LPIPS vgg: no weights" in lines
    (row,) = [line for line in lines if line.startswith("| composite | 20.000 |")]
    assert row.endswith("| – | – | – | – |")
    assert "published" not in text


def test_published_figures_stand_beside_scores_of_their_bin(records: list[Record]) -> None:
    lines = markdown(report(records, published="celeba_irregular")).splitlines()
    table = [line for line in lines if line.startswith("| (")]
    assert len(table) == 12 + 2 * 2  # two of the four bins hold samples here
    assert table[2] == "| (0.1, 0.2] | CSA, published | 0.720 | 0.040 | 34.69 | 0.989 |"
    assert table[3] == "| (0.1, 0.2] | telea, here | 1.000 | 1.000 | 1.00 | 1.000 |"
    centre = markdown(report(records, published="celeba_center")).splitlines()
    assert "| all | CSA, published | 1.830 | 0.270 | 26.54 | 0.931 |" in centre
    assert "| all | composite, here | 20.000 | 20.000 | 20.00 | 20.000 |" in centre


def test_published_figures_follow_from_each_other() -> None:
    # PSNR is a mean over pictures: 10 log10(1 / L2) lies below it, by less than 2 dB.
    for figure in (figure for table in PUBLISHED.values() for figure in table):
        from_l2 = -10 * torch.tensor(figure.l2 / 100).log10()
        assert 0 < figure.psnr - from_l2 < 2, figure


def test_numbers_have_the_digits_of_their_score() -> None:
    assert number("hole_psnr", 21.234) == "21.23"
    assert number("lpips_alex", 0.28951) == "0.290"
    assert number("kid_inception", 0.0012345) == "0.00123"
    assert number("l1", None) == "–"
