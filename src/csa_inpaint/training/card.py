"""The model card: what a model is, how it is used and how it scores."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from csa_inpaint.evaluation.tables import ALL, heading, number, rows_as_markdown
from csa_inpaint.training.module import Inpainter

SCORES_FILE = "scores.json"  # in an evaluation's folder
FOLDERS = re.compile(r"/[^\s,)'\"]*/")  # of a path, which is cut down to its last part
# Read by model hubs.
FRONT_MATTER = """---
library_name: csa_inpaint
pipeline_tag: image-to-image
tags:
- image-inpainting
---"""
USE = """## Use

```python
from PIL import Image
from csa_inpaint import inpaint, load_model

model = load_model("PATH")  # this file or folder
inpaint(model, Image.open("photo.jpg"), Image.open("hole.png")).save("filled.png")
```

Masks are white in the hole, and known pixels come back unchanged. `python -m csa_inpaint.predict`
fills folders, and `python -m csa_inpaint.train +experiment=finetune init_from=PATH` trains further.
"""


def model_card(
    model: Inpainter, precision: str, evaluation: str | None = None, about: str | None = None
) -> str:
    """The card as Markdown, with the header that model hubs read.

    Args:
        model: the model that the card is of.
        precision: type of the numbers in its file.
        evaluation: the folder of an evaluation of the model; None leaves the scores out.
        about: a Markdown file that the card takes in: data, licences, limits; None for none.

    Raises:
        FileNotFoundError: the evaluation or ``about`` is not there.
        ValueError: the scores are damaged.
    """
    generator = model.hparams["generator"]
    size = model.trained_size
    facts = {
        "Generator": f"`{generator['_target_']}`",
        "Settings": ", ".join(
            f"{key} {value}"
            for key, value in generator.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ),
        "Parameters": f"{sum(p.numel() for p in model.generator.parameters()):,}",
        "Numbers": precision,
        "Trained at": "a size that is not recorded" if size is None else f"{size} pixels",
        "Loss terms": ", ".join(model.hparams["losses"]),
    }
    parts = [FRONT_MATTER, "# Image inpainting model"]
    if about is not None:
        parts.append(_read(Path(about)).strip())
    parts.append("\n".join(f"- {name}: {text}" for name, text in facts.items() if text))
    if evaluation is not None:
        parts.append(_scores(Path(evaluation) / SCORES_FILE))
    return "\n\n".join([*parts, USE])


def _scores(path: Path) -> str:
    """The tables of an evaluation, without the paths that its own files name."""
    content = json.loads(_read(path))
    try:
        groups: Mapping[str, Any] = content["scores"]
        height, width = content["size"]
        title = (
            f"{content['data']}, {content['split']}, {height}x{width} pixels, "
            f"masks: {content['masks']}"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no scores of csa_inpaint.evaluate: {error!r}") from error
    lines = ["## Scores", "", f"{FOLDERS.sub('', title)}.", ""]
    if len(groups) == 2:  # the only bin is all that there is
        groups = {ALL: groups[ALL]}
    for holes, group in groups.items():
        methods = {name: scores for name, scores in group.items() if name != "images"}
        columns = [score for score in next(iter(methods.values())) if score not in content["gaps"]]
        lines += [f"Holes {holes}, {group['images']} samples:", ""]
        rows = [
            [name, *(number(score, scores[score]) for score in columns)]
            for name, scores in methods.items()
        ]
        lines += [*rows_as_markdown(["method", *map(heading, columns)], rows), ""]
    return "\n".join(lines).strip()


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} for the model card")
    return path.read_text()
