"""From waiting to done: one job after the other, in a process that may die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import UserError
from scripts.io.atomic import NoRoomError
from scripts.io.documents import read_json
from scripts.serving.engine import Engine, EngineDiedError, EngineTimeoutError
from scripts.serving.security import log_failure
from scripts.serving.spool import OUTPUT, STUDY, Spool, State, sync
from scripts.serving.uploads import NAMES_FILE, in_user_words

if TYPE_CHECKING:
    from scripts.job.run import Networks

POLL_S = 0.2
# After the disk has taken nothing.
TROUBLE_S = 10.0
Observer = Callable[[str, float], None]


def process(folder: str) -> None:
    """Reconstruct a job's study into its output folder; runs in the engine's process.

    Raises:
        UserError: it cannot be done; the line says why and names no folder of this machine.
    """
    from scripts.deploy.study import job_of_folder
    from scripts.job.options import OutputOptions
    from scripts.job.run import run_job

    study = Path(folder) / STUDY
    try:
        run_job(job_of_folder(study), Path(folder) / OUTPUT, _networks(), OutputOptions(dicom=True))
    except NoRoomError:
        raise
    except UserError as error:
        names = read_json(study / NAMES_FILE) if (study / NAMES_FILE).is_file() else {}
        raise UserError(in_user_words(str(error), study, names)) from error


class Worker:
    """Takes jobs from a spool until it is stopped.

    Args:
        spool: the jobs.
        engine: whose process computes.
        function: of the engine's package, given the job's folder.
        then: where a computed job goes.
        observe: told of every ended job: its state and its seconds.
    """

    def __init__(
        self,
        spool: Spool,
        engine: Engine,
        function: str = "worker.process",
        then: State = State.DONE,
        observe: Observer = lambda state, seconds: None,
    ) -> None:
        self.spool, self.engine, self.function, self.then, self.observe = spool, engine, function, then, observe
        self._stopping = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        """Until `stop`; what the disk does not take now is tried again."""
        try:
            while not self._stopping.is_set():
                try:
                    self.spool.take_up()
                    job = self.spool.take()
                    if job is None:
                        await self._pause(POLL_S)
                    else:
                        await self._do(job)
                except (OSError, NoRoomError) as error:
                    log_failure(error)
                    await self._pause(TROUBLE_S)
        finally:
            self.ended = True

    async def _do(self, job: Path) -> None:
        started = time.perf_counter()
        state = self.then
        try:
            await self.engine.call(self.function, str(job))
            # Moved before it is on the disk, half a result could be sent after a power failure.
            await asyncio.to_thread(sync, job)
            self.spool.move(job.name, State.WORKING, self.then)
        except NoRoomError:
            raise
        except UserError as error:
            self.spool.fail(job.name, str(error))
            state = State.FAILED
        except EngineTimeoutError:
            self.spool.fail(job.name, f"not done after {self.engine.limit_s / 60:.0f} minutes, and ended")
            state = State.FAILED
        except EngineDiedError:
            self.spool.count_attempt(job.name)
            state = self.spool.give_back(job.name)
        except asyncio.CancelledError:
            self.spool.give_back(job.name)
            raise
        self.observe(state, time.perf_counter() - started)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def stop(self) -> None:
        """Take no more jobs."""
        self._stopping.set()


def tell_failure(task: asyncio.Task[Any]) -> None:
    """Log what has ended a task that should have gone on; to be called when it is done."""
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        log_failure(error)


async def finish(task: asyncio.Task[None], worker: Worker, grace_s: float) -> None:
    """Let the running job end if it does so in time; otherwise it waits again."""
    worker.stop()
    _, late = await asyncio.wait([task], timeout=grace_s)
    for one in late:
        one.cancel()
    await asyncio.gather(task, return_exceptions=True)


@cache
def _networks() -> Networks:
    """Kept from job to job."""
    from scripts.job.run import Networks

    return Networks()
