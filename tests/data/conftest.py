from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_images() -> Callable[..., list[Path]]:
    """Writes small random JPEGs (or PNGs, by the name's suffix) and returns their paths."""

    def make(folder: Path, names: list[str], size: tuple[int, int] = (24, 20)) -> list[Path]:
        paths = []
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(list(name.encode()))
            # A few large patches: JPEG keeps these apart where it would blur single pixels.
            patches = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            patches.resize((size[1], size[0]), Image.Resampling.NEAREST).save(path)
            paths.append(path)
        return paths

    return make
