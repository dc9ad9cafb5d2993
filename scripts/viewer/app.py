"""The service behind the page: thin routes to `scripts.viewer.case` in the engine's process."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from scripts.errors import UserError
from scripts.io.documents import SMALL_BYTES, parse_json
from scripts.levels import LEVEL_NUMBERS
from scripts.paths import BUNDLE_ROOT
from scripts.serving.answers import protect
from scripts.serving.engine import Engine, EngineError, Told
from scripts.serving.room import used_bytes
from scripts.serving.security import Guard, refused, session_of
from scripts.serving.uploads import given_name, in_user_words, save_candidate
from scripts.viewer.choice import chosen_files, drop_others, picture_file, put_in_place, reading_options
from scripts.viewer.store import MOST_CANDIDATE_BYTES, MOST_CANDIDATES, Store, StoredCase, StoreFullError
from scripts.viewer.stream import stream_levels, stream_steps

STATIC = Path(__file__).with_name("static")
SAMPLE = BUNDLE_ROOT / "docs" / "sample"
LINES = "application/x-ndjson"
KEY = re.compile("[0-9a-f]{16}")
# Films of any origin are read, and marks found on them; a vertebra is made, the spine measured or exported.
OPENING_S, COMPUTING_S = 90.0, 300.0
SAMPLE_FILES = {"ap": "ap.nii.gz", "lat": "lat.nii.gz", "annotations": "annotations.json"}


class NotFoundError(Exception):
    """No such case, level or file, or not this browser's."""


def create_app(guard: Guard, first: dict[str, Any] | None = None, engine: Engine | None = None) -> FastAPI:
    """The application.

    Args:
        guard: who may talk to it.
        first: the case that the page opens with, as ``ap``, ``lat``, ``annotations``, ``geometry`` (paths),
            ``spacing``, ``turn``, ``mirror``, ``invert``; the sample patient if None.
        engine: whose functions do the work; a new one if None.
    """
    engine = engine or Engine("scripts.viewer", COMPUTING_S, "case.warm_up")
    store = Store()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(engine.call("case.warm_up"))
        yield
        warming.cancel()
        engine.stop()
        store.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.engine, app.state.store = engine, store
    protect(app, guard)

    @app.exception_handler(StoreFullError)
    async def no_place(_: Request, error: StoreFullError) -> JSONResponse:
        return refused(
            503, "there is no room for more films, all that are open are in use; try again later", retry=True
        )

    @app.exception_handler(NotFoundError)
    async def not_found(_: Request, error: NotFoundError) -> JSONResponse:
        return refused(404, "no such case; open it again")

    def owned(request: Request, name: str) -> StoredCase:
        found = store.find(name, session_of(request))
        if found is None or found.candidates is not None:
            raise NotFoundError
        return found

    def collection(request: Request, name: str) -> tuple[StoredCase, dict[str, str]]:
        found = store.find(name, session_of(request))
        if found is None or found.candidates is None:
            raise NotFoundError
        return found, found.candidates

    async def ask(case: StoredCase, what: str, function: str, *arguments: Any, **how: Any) -> Any:
        """The engine about a case; paths of the service's folders say nothing to the user and are nobody's business.

        Args:
            case: of which the engine is given the folder.
            what: is asked for, in words, for errors.
            function: see `Engine.call`.
            arguments: of the function, after the folder.
            how: further arguments of `Engine.call`.
        """
        try:
            return await engine.call(function, case.folder, *arguments, **how)
        except UserError as error:
            raise UserError(in_user_words(str(error), case.folder, case.names)) from error
        except EngineError as error:
            raise type(error)(what) from error

    def new_case(request: Request, size: int = 0) -> tuple[str, StoredCase]:
        owner = session_of(request)
        if not owner:
            raise UserError("this browser keeps no cookies; they are needed to keep two browsers apart")
        return store.create(owner, size)

    async def opened(request: Request, about: dict[str, Any]) -> dict[str, Any]:
        name, case = new_case(request)
        try:
            wanted = dict(about)
            for key, value in about.items():
                if isinstance(value, Path):
                    wanted[key] = f"{key}{''.join(value.suffixes[-2:]) if value.name.endswith('.gz') else value.suffix}"
                    shutil.copyfile(value, case.folder / wanted[key])
                    case.names[wanted[key]] = str(value)
            described = await ask(case, "opening the films", "case.open_case", wanted, limit_s=OPENING_S)
        except BaseException:
            store.remove(name)
            raise
        return {"id": name, **described}

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.post("/api/first")
    async def open_first(request: Request) -> dict[str, Any]:
        return await opened(request, first or {key: SAMPLE / file for key, file in SAMPLE_FILES.items()})

    @app.post("/api/sample")
    async def open_sample(request: Request) -> dict[str, Any]:
        return await opened(request, {key: SAMPLE / file for key, file in SAMPLE_FILES.items()})

    @app.post("/api/candidates")
    async def collect(request: Request) -> dict[str, Any]:
        name, case = new_case(request)
        case.candidates = {}
        return {"id": name, "most_files": MOST_CANDIDATES}

    @app.post("/api/candidates/{name}")
    async def add_candidate(request: Request, name: str, file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        case, candidates = collection(request, name)
        if len(candidates) >= MOST_CANDIDATES:
            raise UserError(f"more than {MOST_CANDIDATES} files; choose the folder of one study or the two films")
        size = int(request.headers["content-length"])
        if used_bytes(case.folder) + size > MOST_CANDIDATE_BYTES:
            raise UserError(f"more than {MOST_CANDIDATE_BYTES // 2**20} MB of films; choose the two films")
        store.make_room(size)
        kept = save_candidate(file, case.folder, str(len(candidates) + 1))
        candidates[kept] = case.names[kept] = given_name(file) or kept
        try:
            arguments = ("candidates.inspect", kept, candidates[kept])
            found: dict[str, Any] = await ask(case, candidates[kept], *arguments, limit_s=OPENING_S)
        except BaseException:
            (case.folder / kept).unlink(missing_ok=True)
            raise
        return found

    @app.get("/api/candidates/{name}/{file}.png")
    async def candidate_picture(request: Request, name: str, file: str) -> FileResponse:
        case, candidates = collection(request, name)
        if file not in candidates:
            raise NotFoundError
        return _file(picture_file(case.folder, file), "image/png")

    @app.post("/api/candidates/{name}/case")
    async def open_chosen(request: Request, name: str) -> StreamingResponse:
        case, candidates = collection(request, name)
        sent = await sent_json(request, "the chosen films")
        files = chosen_files(sent, [file for file in candidates if (case.folder / file).is_file()])
        placed = put_in_place(case.folder, files)
        case.names |= {placed[key]: candidates[file] for key, file in files.items()}
        wanted = placed | reading_options(sent)

        async def read(step: str, told: Told) -> dict[str, Any]:
            await ask(case, step, "case.read_case", wanted, limit_s=OPENING_S, told=told)
            return {}

        async def mark(step: str, told: Told) -> dict[str, Any]:
            described = await ask(case, step, "case.mark_case", limit_s=OPENING_S, told=told)
            case.candidates = None
            drop_others(case.folder, candidates)
            return {"case": {"id": name, **described}}

        marking = "reading the marks" if "annotations" in files else "finding the vertebrae"
        return StreamingResponse(stream_steps({"reading the films": read, marking: mark}), media_type=LINES)

    @app.get("/api/cases/{name}")
    async def describe(request: Request, name: str) -> dict[str, Any]:
        return {"id": name, **await ask(owned(request, name), "the case", "case.describe")}

    @app.delete("/api/cases/{name}")
    async def close(request: Request, name: str) -> dict[str, str]:
        if store.find(name, session_of(request)) is None:
            raise NotFoundError
        store.remove(name)
        return {"status": "closed"}

    @app.get("/api/cases/{name}/{view}.png")
    async def film(request: Request, name: str, view: str) -> FileResponse:
        if view not in ("ap", "lat"):
            raise NotFoundError
        return _file(picture_file(owned(request, name).folder, view), "image/png")

    @app.put("/api/cases/{name}/marks")
    async def set_marks(request: Request, name: str) -> dict[str, Any]:
        case = owned(request, name)
        sent = await sent_json(request, "the marks")
        if not isinstance(sent, dict) or "views" not in sent:
            raise UserError("the marks are no JSON document with 'views'")
        return await ask(case, "the marks", "case.set_marks", sent, limit_s=OPENING_S)

    @app.post("/api/cases/{name}/reconstruct")
    async def reconstruct(request: Request, name: str) -> StreamingResponse:
        case = owned(request, name)
        levels = _levels(await sent_json(request, "the levels"))
        store.make_room()
        case.cancelled = False

        async def compute(level: str, told: Told) -> dict[str, Any]:
            return await ask(case, level, "case.reconstruct_level", level, told=told)

        async def cancelled() -> bool:
            return case.cancelled or await request.is_disconnected()

        return StreamingResponse(stream_levels(levels, compute, cancelled), media_type=LINES)

    @app.delete("/api/cases/{name}/reconstruct")
    async def cancel(request: Request, name: str) -> dict[str, str]:
        owned(request, name).cancelled = True
        return {"status": "cancelling"}

    @app.get("/api/cases/{name}/mesh/{level}")
    async def mesh(request: Request, name: str, level: str, key: str) -> FileResponse:
        if not KEY.fullmatch(key):
            raise NotFoundError
        return _file(owned(request, name).folder / f"{_level(level)}.{key}.mesh", "application/octet-stream")

    @app.get("/api/cases/{name}/measurements")
    async def measurements(request: Request, name: str, levels: str) -> dict[str, Any]:
        return await ask(
            owned(request, name), "the measurements", "measure.measure", _levels({"levels": levels.split(",")})
        )

    @app.get("/api/cases/{name}/export/{kind}")
    async def download(request: Request, name: str, kind: str, levels: str) -> FileResponse:
        wanted = _levels({"levels": levels.split(",")})
        case = owned(request, name)
        store.make_room()
        path = Path(await ask(case, "the export", "export.export", kind, wanted))
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @app.get("/api/cases/{name}/session")
    async def session(request: Request, name: str) -> FileResponse:
        path = owned(request, name).folder / "annotations.json"
        return FileResponse(path, media_type="application/json", filename="annotations.json")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def sent_json(request: Request, what: str) -> Any:
    """The small document that a request holds; a large one is not even received.

    Args:
        request: of a length that the guard has seen.
        what: it is, for errors.

    Raises:
        UserError: see `parse_json`.
    """
    if int(request.headers["content-length"]) > SMALL_BYTES:
        raise UserError(f"{what}: larger than {SMALL_BYTES // 2**20} MB")
    return parse_json(await request.body(), what)


def _level(name: str) -> str:
    if name not in LEVEL_NUMBERS:
        raise NotFoundError
    return name


def _levels(body: Any) -> list[str]:
    levels = body.get("levels") if isinstance(body, dict) else None
    if not isinstance(levels, list) or not levels or not all(isinstance(n, str) and n in LEVEL_NUMBERS for n in levels):
        raise UserError("'levels' is a list of vertebra names, such as T12")
    return list(dict.fromkeys(levels))


def _file(path: Path, kind: str) -> FileResponse:
    if not path.is_file():
        raise NotFoundError
    return FileResponse(path, media_type=kind)
