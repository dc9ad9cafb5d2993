"""The service behind the page: thin routes to `scripts.viewer.case` in the engine's process."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import UploadFile as FormFile
from starlette.middleware.base import BaseHTTPMiddleware

from scripts.errors import UserError
from scripts.io.documents import parse_json
from scripts.levels import LEVEL_NUMBERS
from scripts.paths import BUNDLE_ROOT
from scripts.serving.engine import NOT_STORED, Engine, EngineBusyError, EngineDiedError
from scripts.serving.security import SESSION_COOKIE, Guard, refused
from scripts.serving.uploads import FILM_SUFFIXES, TEXT_SUFFIXES, given_name, in_user_words, save_upload
from scripts.viewer.store import Store, StoredCase

STATIC = Path(__file__).with_name("static")
SAMPLE = BUNDLE_ROOT / "docs" / "sample"
KEY = re.compile("[0-9a-f]{16}")
SAMPLE_FILES = {"ap": "ap.nii.gz", "lat": "lat.nii.gz", "annotations": "annotations.json"}


class NotFoundError(Exception):
    """No such case, level or file, or not this browser's."""


def create_app(guard: Guard, first: dict[str, Any] | None = None) -> FastAPI:
    """The application.

    Args:
        guard: who may talk to it.
        first: the case that the page opens with, as ``ap``, ``lat``, ``annotations``, ``geometry`` (paths),
            ``spacing``, ``mirror``, ``invert``; the sample patient if None.
    """
    engine, store = Engine(), Store()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(engine.call("case.warm_up"))
        yield
        warming.cancel()
        engine.stop()
        store.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.engine, app.state.store = engine, store
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)

    @app.exception_handler(UserError)
    async def bad_input(_: Request, error: UserError) -> JSONResponse:
        return refused(400, str(error))

    @app.exception_handler(OSError)
    async def no_room(_: Request, error: OSError) -> JSONResponse:
        return refused(507, NOT_STORED)

    @app.exception_handler(EngineDiedError)
    async def died(_: Request, error: EngineDiedError) -> JSONResponse:
        return refused(503, "the engine stopped and is being started again; try once more")

    @app.exception_handler(EngineBusyError)
    async def busy(_: Request, error: EngineBusyError) -> JSONResponse:
        return refused(429, "too much is waiting; try again in a moment")

    @app.exception_handler(NotFoundError)
    async def not_found(_: Request, error: NotFoundError) -> JSONResponse:
        return refused(404, "no such case; open it again")

    def owned(request: Request, name: str) -> StoredCase:
        found = store.find(name, request.cookies.get(SESSION_COOKIE, ""))
        if found is None:
            raise NotFoundError
        return found

    async def ask(case: StoredCase, function: str, *arguments: Any) -> Any:
        """The engine about a case; paths of the service's folders say nothing to the user and are nobody's business."""
        try:
            return await engine.call(function, case.folder, *arguments)
        except UserError as error:
            raise UserError(in_user_words(str(error), case.folder, case.names)) from error

    async def opened(request: Request, files: dict[str, Any]) -> dict[str, Any]:
        owner = request.cookies.get(SESSION_COOKIE, "")
        if not owner:
            raise UserError("this browser keeps no cookies; they are needed to keep two browsers apart")
        name, case = store.create(owner)
        try:
            wanted = {}
            for key, value in files.items():
                # FastAPI declares files as its own class and passes optional ones as Starlette's, its parent.
                if isinstance(value, FormFile):
                    suffixes = FILM_SUFFIXES if key in ("ap", "lat") else TEXT_SUFFIXES
                    wanted[key] = save_upload(value, case.folder, key, suffixes)
                    case.names[wanted[key]] = given_name(value) or wanted[key]
                elif isinstance(value, Path):
                    wanted[key] = f"{key}{''.join(value.suffixes[-2:]) if value.name.endswith('.gz') else value.suffix}"
                    shutil.copyfile(value, case.folder / wanted[key])
                    case.names[wanted[key]] = str(value)
                else:
                    wanted[key] = value
            described = await ask(case, "case.open_case", wanted)
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

    @app.post("/api/cases")
    async def open_upload(
        request: Request,
        ap: Annotated[UploadFile, File()],
        lat: Annotated[UploadFile, File()],
        annotations: Annotated[UploadFile | None, File()] = None,
        geometry: Annotated[UploadFile | None, File()] = None,
        options: Annotated[str, Form()] = "{}",
    ) -> dict[str, Any]:
        files: dict[str, Any] = {"ap": ap, "lat": lat, **_film_options(options)}
        files |= {key: value for key, value in (("annotations", annotations), ("geometry", geometry)) if value}
        return await opened(request, files)

    @app.get("/api/cases/{name}")
    async def describe(request: Request, name: str) -> dict[str, Any]:
        return {"id": name, **await ask(owned(request, name), "case.describe")}

    @app.delete("/api/cases/{name}")
    async def close(request: Request, name: str) -> dict[str, str]:
        owned(request, name)
        store.remove(name)
        return {"status": "closed"}

    @app.get("/api/cases/{name}/{view}.png")
    async def film(request: Request, name: str, view: str) -> FileResponse:
        if view not in ("ap", "lat"):
            raise NotFoundError
        return _file(owned(request, name).folder / f"{view}.png", "image/png")

    @app.put("/api/cases/{name}/marks")
    async def set_marks(request: Request, name: str) -> dict[str, Any]:
        case = owned(request, name)
        sent = parse_json(await request.body(), "the marks")
        if not isinstance(sent, dict) or "views" not in sent:
            raise UserError("the marks are no JSON document with 'views'")
        return await ask(case, "case.set_marks", sent["views"], bool(sent.get("levels_uncertain")))

    @app.post("/api/cases/{name}/reconstruct")
    async def reconstruct(request: Request, name: str) -> StreamingResponse:
        case = owned(request, name)
        levels = _levels(parse_json(await request.body(), "the levels"))
        case.cancelled = False

        async def lines() -> AsyncIterator[str]:
            for done, level in enumerate(levels, start=1):
                if case.cancelled or await request.is_disconnected():
                    yield json.dumps({"cancelled": True, "done": done - 1, "total": len(levels)}) + "\n"
                    return
                try:
                    result = await ask(case, "case.reconstruct_level", level)
                except UserError as error:
                    result = {"level": level, "error": str(error)}
                except EngineDiedError:
                    result = {"level": level, "error": "the engine stopped and is being started again; try once more"}
                except EngineBusyError:
                    result = {"level": level, "error": "too much is waiting; try again in a moment"}
                yield json.dumps({**result, "done": done, "total": len(levels)}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

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
        return await ask(owned(request, name), "measure.measure", _levels({"levels": levels.split(",")}))

    @app.get("/api/cases/{name}/export/{kind}")
    async def download(request: Request, name: str, kind: str, levels: str) -> FileResponse:
        wanted = _levels({"levels": levels.split(",")})
        path = Path(await ask(owned(request, name), "export.export", kind, wanted))
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @app.get("/api/cases/{name}/session")
    async def session(request: Request, name: str) -> FileResponse:
        path = owned(request, name).folder / "annotations.json"
        return FileResponse(path, media_type="application/json", filename="annotations.json")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _level(name: str) -> str:
    if name not in LEVEL_NUMBERS:
        raise NotFoundError
    return name


def _levels(body: Any) -> list[str]:
    levels = body.get("levels") if isinstance(body, dict) else None
    if not isinstance(levels, list) or not levels or not all(name in LEVEL_NUMBERS for name in levels):
        raise UserError("'levels' is a list of vertebra names, such as T12")
    return list(dict.fromkeys(levels))


def _film_options(text: str) -> dict[str, Any]:
    """What the page may say of the films besides the files."""
    try:
        given = parse_json(text, "the options of the films")
        spacing = [float(value) for value in given.get("spacing") or []]
        options: dict[str, Any] = {key: [str(v) for v in given.get(key) or []] for key in ("mirror", "invert")}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError("the options of the films cannot be read") from error
    if spacing:
        options["spacing"] = (spacing * 2)[:2]
    return options


def _file(path: Path, kind: str) -> FileResponse:
    if not path.is_file():
        raise NotFoundError
    return FileResponse(path, media_type=kind)
