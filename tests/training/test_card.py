"""The model card: facts, scores and a text of one's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from csa_inpaint import CSAInpainter
from csa_inpaint.training.card import model_card

SCORES = {"psnr": 23.456, "lpips_alex": None}
EVALUATION: dict[str, Any] = {
    "data": "photos in /home/somebody/photos",
    "split": "test split",
    "size": [128, 192],
    "masks": "FolderMask(root=/home/somebody/masks)",
    "directory": "/home/somebody",
    "gaps": {"lpips_alex": "no weights"},
    "scores": {
        "all": {"images": 7, "composite": SCORES, "telea": {**SCORES, "psnr": 22.0}},
        "(0.1, 0.2]": {"images": 3, "composite": SCORES},
    },
}


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    (tmp_path / "scores.json").write_text(json.dumps(EVALUATION))
    return tmp_path


def test_card_tells_what_the_model_is(trained_module: CSAInpainter) -> None:
    card = model_card(trained_module, "float16")
    assert card.startswith("---\nlibrary_name: csa_inpaint\n")
    assert "width 4, depth 4" in card
    assert "Numbers: float16" in card
    assert "Trained at: 64 pixels" in card
    assert "## Scores" not in card


def test_card_shows_the_scores_without_folders(
    trained_module: CSAInpainter, evaluation: Path
) -> None:
    card = model_card(trained_module, "float32", str(evaluation))
    assert "photos in photos, test split, 128x192 pixels, masks: FolderMask(root=masks)." in card
    assert "Holes all, 7 samples:" in card
    assert "| method | PSNR |\n" in card
    assert "| telea | 22.00 |" in card
    assert "somebody" not in card
    assert "LPIPS" not in card  # a gap


def test_card_shows_an_only_bin_once(trained_module: CSAInpainter, evaluation: Path) -> None:
    scores = {**EVALUATION["scores"], "(0.2, 0.3]": {"images": 4, "composite": SCORES}}
    for groups, tables in ((scores, 3), (EVALUATION["scores"], 1)):
        content = json.dumps({**EVALUATION, "scores": groups})
        (evaluation / "scores.json").write_text(content)
        assert model_card(trained_module, "float32", str(evaluation)).count("| method") == tables


def test_card_takes_in_a_text(trained_module: CSAInpainter, tmp_path: Path) -> None:
    (tmp_path / "about.md").write_text("Trained on mountains.\n")
    card = model_card(trained_module, "float32", about=str(tmp_path / "about.md"))
    assert "# Image inpainting model\n\nTrained on mountains.\n\n- Generator" in card


def test_card_names_what_is_missing(trained_module: CSAInpainter, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scores\.json for the model card"):
        model_card(trained_module, "float32", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"absent\.md"):
        model_card(trained_module, "float32", about=str(tmp_path / "absent.md"))
    (tmp_path / "scores.json").write_text('{"scores": {}}')
    with pytest.raises(ValueError, match=r"scores\.json holds no scores of csa_inpaint\.evaluate"):
        model_card(trained_module, "float32", str(tmp_path))
