"""Work on many files: several processes and a progress bar."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.progress import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    task: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None, title: str
) -> Iterator[Result]:
    """Run a task on every job in several processes; yield the results in the order of the jobs.

    Args:
        task: a function that other processes can import.
        jobs: the task's arguments, one for each call.
        workers: number of processes; None for one on each core.
        title: text of the progress bar.
    """
    workers = workers or os.cpu_count() or 1
    # Ctrl-C reaches all processes: the workers ignore it, and the main process ends them.
    ignored = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.Pool(workers, signal.signal, ignored) as pool, Progress() as progress:
        yield from progress.track(pool.imap(task, jobs), total=len(jobs), description=title)
