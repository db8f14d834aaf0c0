"""Fixtures of the tests that run on a Slurm of their own."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm import PACKAGES, Slurm, missing_programs, two_nodes


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm with the nodes n0 and n1."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install {PACKAGES}")
    with two_nodes(tmp_path_factory.mktemp("slurm")) as cluster:
        # The jobs run the Python of the tests.
        folder = Path(sys.executable).parent
        cluster.environment["PATH"] = f"{folder}{os.pathsep}{cluster.environment['PATH']}"
        yield cluster
