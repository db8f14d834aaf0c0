from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Save = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def save() -> Save:
    """Writes a mask as a black and white picture, its hole white, and returns the path."""

    def save(path: Path, hole: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(hole.astype(np.uint8) * 255).save(path)
        return path

    return save


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder
