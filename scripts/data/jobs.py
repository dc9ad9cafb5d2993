"""Many independent jobs in this process, in several, or on a Dask cluster: the same results in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

import torch

from scripts.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
# Jobs handed out beyond those that run, so that no worker waits and a list of any length costs no memory.
AHEAD = 2
ATTEMPTS = 2
CRASHED = "its process died twice, most likely for want of memory"


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
        UserError: the scheduler cannot be reached.
    """
    if scheduler:
        yield from _on_dask(function, jobs, scheduler)
    elif workers <= 1:
        for job in jobs:
            yield job, function(job)
    else:
        yield from _in_processes(function, jobs, workers)


def _in_processes(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[tuple[Job, Result | Exception]]:
    source = iter(jobs)
    suspects: list[Job] = []
    finished = False
    while not finished:
        pending: dict[Future[Result], Job] = {}
        with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
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
    for job in suspects:
        yield job, _alone(function, job)


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
        with ProcessPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
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
        source = iter(jobs)
        threads = max(sum(client.nthreads().values()), 1)
        # Results are files; a key per call keeps Dask from remembering earlier runs.
        first = {client.submit(function, job, pure=False): job for job in islice(source, threads * (1 + AHEAD))}
        running = dict(first)
        queue = as_completed(list(first))
        for future in queue:
            job = running.pop(future)
            failure = future.exception() if future.status == "error" else None
            if isinstance(failure, KilledWorker):
                yield job, UserError(CRASHED)
            else:
                yield job, future.result()
            future.release()
            for following in islice(source, 1):
                submitted = client.submit(function, following, pure=False)
                running[submitted] = following
                queue.add(submitted)
