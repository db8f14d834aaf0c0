"""Work on many files: several processes and a progress bar."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from rich.progress import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    task: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None, title: str
) -> Iterator[Result]:
    """The results of a task for every job, in their order.

    Args:
        task: a function that other processes can import.
        jobs: the task's arguments, one for each call.
        workers: number of processes; None for one on each core.
        title: text of the progress bar.

    Raises:
        RuntimeError: a process was killed.
    """
    workers = workers or os.cpu_count() or 1
    others = multiprocessing.active_children()
    executor = ProcessPoolExecutor(workers, initializer=_end_at_interrupt)
    pending = iter(jobs)
    try:
        # Before the progress bar starts a thread: the processes are forked here. A few jobs for
        # each process wait, not all of them, because every one of them takes memory.
        waiting = deque(executor.submit(task, job) for job in islice(pending, 4 * workers))
        with Progress() as progress:
            bar = progress.add_task(title, total=len(jobs))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(executor.submit(task, job) for job in islice(pending, 1))
                progress.advance(bar)
                yield result
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"{title}: a process that read files was killed, perhaps because memory ran out. "
            "Start again with fewer processes: workers=1"
        ) from error
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()  # an inherited handler might swallow a request to end


def _end_at_interrupt() -> None:
    # Ctrl-C goes to all processes. One of them says so; the others end without a traceback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(1))
