"""Many independent jobs in this process, in several, or on a Dask cluster: the same results in each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from scripts.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
# Jobs handed out beyond those that run, so that no worker waits and a list of any length costs no memory.
AHEAD = 2
ATTEMPTS = 2
CRASHED = "its process died twice, most likely for want of memory"
# A cluster's workers may take their time to start, but not for ever.
FIRST_WORKER_S = 60


def run_jobs(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int = 1, scheduler: str = ""
) -> Iterator[tuple[Job, Result | Exception]]:
    """Results as they come, in any order.

    A job whose process dies (killed, out of memory) is tried once more, alone; then its result is a `UserError`. Any
    exception of the function itself ends the run.

    Args:
        function: of one job; importable by name.
        jobs: read as they are needed.
        workers: processes here; with one worker everything runs in this process.
        scheduler: address of a Dask scheduler, whose workers then do the jobs; they must see the same files.

    Raises:
        UserError: the scheduler cannot be reached, has no workers, or these cannot import the function.
    """
    if scheduler:
        yield from _on_dask(function, jobs, scheduler)
    elif workers <= 1:
        for job in jobs:
            yield job, function(job)
    else:
        yield from _in_processes(function, jobs, workers)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_on_one_thread, initargs=(end_with_parent, os.getpid()))


def end_with_parent(parent: int) -> None:
    """End this process as soon as its parent, of that id, has ended: a killed one cannot tell its children to stop."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_processes(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[tuple[Job, Result | Exception]]:
    source = iter(jobs)
    suspects: list[Job] = []
    finished = False
    while not finished:
        pending: dict[Future[Result], Job] = {}
        with _pool(workers) as pool:
            try:
                _submit(pool, function, islice(source, workers + AHEAD), pending, suspects)
                while pending:
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        result = future.result()
                        yield pending.pop(future), result
                        _submit(pool, function, islice(source, 1), pending, suspects)
                finished = True
            except BrokenProcessPool:
                # One process died and took the pool along; any of the jobs under way may be the reason.
                for future, job in pending.items():
                    if future.done() and not future.cancelled() and future.exception() is None:
                        yield job, future.result()
                    else:
                        suspects.append(job)
        # Now, and not at the end: a machine short of memory would let this list grow with the data.
        for job in suspects:
            yield job, _alone(function, job)
        suspects.clear()


def _submit(
    pool: ProcessPoolExecutor,
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    pending: dict[Future[Result], Job],
    suspects: list[Job],
) -> None:
    for job in jobs:
        try:
            pending[pool.submit(function, job)] = job
        except BrokenProcessPool:
            suspects.append(job)
            raise


def _alone(function: Callable[[Job], Result], job: Job) -> Result | Exception:
    for _ in range(ATTEMPTS):
        with _pool(1) as pool:
            try:
                return pool.submit(function, job).result()
            except BrokenProcessPool:
                continue
    return UserError(CRASHED)


def _on_dask(
    function: Callable[[Job], Result], jobs: Iterable[Job], scheduler: str
) -> Iterator[tuple[Job, Result | Exception]]:
    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise UserError('--scheduler needs Dask: pip install "vertebra-biplanar-reconstruction[cluster]"') from error
    try:
        client = Client(scheduler, timeout="5s")
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error})") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        except TimeoutError as error:
            raise UserError(f"--scheduler {scheduler}: no worker has joined it for {FIRST_WORKER_S} s") from error
        source = iter(jobs)
        running: dict[Any, Job] = {}
        queue = as_completed()

        def top_up() -> None:
            # Asked each time: workers join and leave. Results are files, so a name of its own for each call
            # (pure=False) keeps Dask from remembering earlier runs.
            room = (1 + AHEAD) * max(sum(client.nthreads().values()), 1) - len(running)
            for job in islice(source, max(room, 0)):
                future = client.submit(_on_one_thread, function, job, pure=False)
                running[future] = job
                queue.add(future)

        top_up()
        for future in queue:
            job = running.pop(future)
            failure = future.exception() if future.status == "error" else None
            if isinstance(failure, KilledWorker):
                yield job, UserError(CRASHED)
            elif isinstance(failure, ImportError):
                what = f"its workers cannot load this program ({failure}); start them in its folder"
                raise UserError(f"--scheduler {scheduler}: {what}") from failure
            else:
                yield job, future.result()
            future.release()
            top_up()


def _on_one_thread(function: Callable[[Job], Result], job: Job) -> Result:
    import torch  # here, so that who only wants `end_with_parent` starts quickly

    torch.set_num_threads(1)
    return function(job)
