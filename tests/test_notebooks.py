"""The notebooks run from top to bottom."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# How many pictures each notebook shows.
NOTEBOOKS = {"csa_layer": 2, "super_resolution": 1, "train_and_inpaint": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_and_shows_its_pictures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the notebook extra is not installed")
    client = pytest.importorskip("nbclient", reason="the notebook extra is not installed")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs"), "strip the outputs: nbstripout notebooks/*.ipynb"
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += '\ntraining_time = {"seconds": 3}'
    client.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == NOTEBOOKS[name]
