"""What the benchmarks share."""

import platform
import subprocess
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def table(title: str, head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table under its title."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([f"\n## {title}\n", *lines, *(f"| {' | '.join(row)} |" for row in rows)])


def peak_memory() -> float:
    """MB of memory this process has held at most, libraries included."""
    # not ru_maxrss, which a child process takes over from its parent
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def versions() -> str:
    return f"torch {torch.__version__}, Python {platform.python_version()}"


def machine(device: str) -> str:
    """The GPU, or the kind and number of CPUs."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    cpus = Path("/proc/cpuinfo").read_text().split("\n\n")
    names = [line.split(":")[1].strip() for line in cpus[0].splitlines() if "model name" in line]
    return f"{names[0] if names else platform.machine()}, {len([c for c in cpus if c])} CPUs"


def commit() -> str:
    """The commit that is measured, and whether the library has changes on top of it."""
    folder = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        return subprocess.check_output(
            ["git", *arguments], cwd=folder, text=True, stderr=subprocess.DEVNULL
        ).strip()

    try:
        changed = git("status", "--porcelain", "--", "src", "benchmarks/*.py")
        return f"commit {git('rev-parse', '--short', 'HEAD')}{' with changes' if changed else ''}"
    except (OSError, subprocess.CalledProcessError):
        return "commit unknown"
