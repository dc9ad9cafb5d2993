"""Reconstruction as a service: films are handed in, wait their turn, and are fetched as a zip."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import FormData, QueryParams

from scripts.deploy.study import ANCHOR_FILE
from scripts.deploy.worker import Worker, finish, tell_failure
from scripts.errors import UserError
from scripts.io.documents import write_json
from scripts.localization.anchors import parse_anchors
from scripts.serving.address import bind, run_server
from scripts.serving.answers import protect
from scripts.serving.engine import Engine
from scripts.serving.limits import check_above, check_port
from scripts.serving.security import Guard, log_failure, refused
from scripts.serving.spool import OUTPUT, REASON, Spool, SpoolFullError, State
from scripts.serving.uploads import FILM_SUFFIXES, NAMES_FILE, TEXT_SUFFIXES, given_name, save_upload

GRACE_S = 60.0
SWEEP_S = 600.0
RETRY_AFTER_S = "30"
STOPPED = "the worker has stopped"
FIELDS = ("ap", "lat", "annotations", "geometry", "anchor")
SECONDS = (2, 5, 10, 20, 40, 80, 160, 320)


class NoSuchJobError(Exception):
    """No job has this name."""


def create_service(guard: Guard, spool: Spool, keep_hours: float = 24.0, engine: Engine | None = None) -> FastAPI:
    """The application.

    Args:
        guard: who may talk to it.
        spool: opened by the caller.
        keep_hours: how long results stay.
        engine: whose ``worker.process`` computes; a new one of ours if None.
    """
    engine = engine or Engine("scripts.deploy")
    registry = CollectorRegistry()
    ended = Counter("jobs_ended", "Jobs by how they ended", ["state"], registry=registry)
    seconds = Histogram("job_seconds", "Time in the engine", buckets=SECONDS, registry=registry)
    refusals = Counter("jobs_refused", "Jobs refused for want of room", registry=registry)
    for state in (State.WAITING, State.WORKING):
        gauge = Gauge(f"jobs_{state}", f"Jobs {state}", registry=registry)
        gauge.set_function(lambda state=state: spool.count(state))

    def observe(state: str, duration: float) -> None:
        ended.labels(state).inc()
        seconds.observe(duration)

    worker = Worker(spool, engine, observe=observe)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        working = asyncio.create_task(worker.run())
        working.add_done_callback(tell_failure)
        sweeping = asyncio.create_task(_sweep(spool, keep_hours))
        yield
        sweeping.cancel()
        await finish(working, worker, app.state.grace_s)
        engine.stop()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.grace_s = GRACE_S
    protect(app, guard)

    @app.exception_handler(NoSuchJobError)
    async def not_found(_: Request, error: NoSuchJobError) -> JSONResponse:
        return refused(404, "no such job; results are kept for a limited time")

    @app.exception_handler(SpoolFullError)
    async def full(_: Request, error: SpoolFullError) -> JSONResponse:
        refusals.inc()
        answer = refused(429, str(error), retry=True)
        answer.headers["Retry-After"] = RETRY_AFTER_S
        return answer

    def found(name: str) -> tuple[State, Path]:
        job = spool.find(name)
        if job is None:
            raise NoSuchJobError
        return job

    @app.get("/healthz")
    async def health() -> JSONResponse:
        alive = not worker.ended
        return JSONResponse({"status": "ok" if alive else STOPPED}, 200 if alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/jobs")
    async def hand_in(
        request: Request,
        ap: Annotated[UploadFile, File()],
        lat: Annotated[UploadFile, File()],
        annotations: Annotated[UploadFile | None, File()] = None,
        geometry: Annotated[UploadFile | None, File()] = None,
        anchor: Annotated[str, Form()] = "",
    ) -> Response:
        if worker.ended:
            return refused(503, f"{STOPPED}: tell who runs the service", retry=True)
        _check_fields(await request.form(), request.query_params)
        anchors = parse_anchors(anchor)

        def write(study: Path) -> None:
            names: dict[str, str] = {}
            for name, upload, suffixes in (
                ("ap", ap, FILM_SUFFIXES),
                ("lat", lat, FILM_SUFFIXES),
                ("annotations", annotations, (".json",)),
                ("geometry", geometry, TEXT_SUFFIXES),
            ):
                if upload is not None:
                    kept = save_upload(upload, study, name, suffixes)
                    names[kept] = given_name(upload) or kept
            write_json(study / NAMES_FILE, names)
            if anchors:
                (study / ANCHOR_FILE).write_text(",".join(str(one) for one in anchors))

        name = spool.accept(write)
        return JSONResponse({"id": name, "state": State.WAITING, "before": spool.position(name)}, 202)

    @app.get("/jobs/{name}")
    async def describe(name: str) -> dict[str, Any]:
        state, folder = found(name)
        answer: dict[str, Any] = {"id": name, "state": state}
        if state is State.WAITING:
            answer["before"] = spool.position(name)
        if state is State.FAILED:
            answer["error"] = (folder / REASON).read_text(encoding="utf-8").strip()
        return answer

    @app.get("/jobs/{name}/result")
    async def result(name: str) -> Response:
        state, folder = found(name)
        if state is not State.DONE:
            return refused(409, f"the job is {state}")
        return FileResponse(_zipped(folder), media_type="application/zip", filename="spine.zip")

    @app.delete("/jobs/{name}")
    async def forget(name: str) -> Response:
        state, _ = found(name)
        if not spool.remove(name):
            return refused(409, f"the job is {state}")
        return JSONResponse({"status": "forgotten"})

    return app


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8766,
    capacity: int = 32,
    keep_hours: float = 24.0,
    most_gb: float = 50.0,
    name: str = "",
) -> None:
    """Serve until interrupted; a running job is finished first, or waits for the next start.

    Args:
        folder: the spool's.
        host: address to bind to; on one that others reach a token is asked for.
        port: 0 for a free one.
        capacity: jobs that may wait.
        keep_hours: how long results stay.
        most_gb: how large the spool may become.
        name: host name under which a proxy offers the service; it needs the token too.

    Raises:
        UserError: a number cannot be worked with, the port is taken, the address is not this machine's, or another
            process uses the spool.
    """
    check_port(port)
    check_above("--capacity", capacity, 1, inclusive=True)
    check_above("--keep-hours", keep_hours, 0)
    check_above("--most-gb", most_gb, 0)
    spool = Spool(folder, capacity, most_gb * 1e9)
    with spool.opened():
        listener, guard, address = bind(host, port, name)
        print(f"{address}  (Ctrl+C ends it)", flush=True)
        run_server(create_service(guard, spool, keep_hours), listener)


def _check_fields(form: FormData, query: QueryParams) -> None:
    """Refuse what would be ignored: a field that is unknown, misspelt or given twice, and options in the address."""
    names = [name for name, _ in form.multi_items()]
    unknown = [*(name for name in names if name not in FIELDS), *(name for name in query if name != "token")]
    if unknown:
        shown = ", ".join("".join(c for c in name if c.isprintable())[:40] for name in unknown[:5])
        raise UserError(f"unknown: {shown}; the fields of the form are {', '.join(FIELDS)}")
    twice = [name for name in FIELDS if names.count(name) > 1]
    if twice:
        raise UserError(f"given twice: {', '.join(twice)}")


def _zipped(folder: Path) -> Path:
    """The output as one zip, made once."""
    path = folder / "spine.zip"
    if not path.is_file():
        made = path.with_suffix(".part")
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((folder / OUTPUT).rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder / OUTPUT).as_posix())
        made.rename(path)
    return path


async def _sweep(spool: Spool, keep_hours: float) -> None:
    with suppress(asyncio.CancelledError):
        while True:
            try:
                spool.forget_older_than(keep_hours * 3600)
            except OSError as error:
                log_failure(error)
            await asyncio.sleep(SWEEP_S)
