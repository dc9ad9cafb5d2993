"""The service behind the page: thin routes to `scripts.viewer.case` in the engine's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from scripts.paths import BUNDLE_ROOT
from scripts.serving.answers import protect
from scripts.serving.engine import Engine
from scripts.serving.security import Guard, refused
from scripts.viewer.case_routes import case_routes
from scripts.viewer.cases import COMPUTING_S, Cases
from scripts.viewer.opening_routes import opening_routes
from scripts.viewer.requests import NotFoundError
from scripts.viewer.store import Store, StoreFullError

STATIC = Path(__file__).with_name("static")
SAMPLE = BUNDLE_ROOT / "docs" / "sample"
SAMPLE_FILES = {"ap": "ap.nii.gz", "lat": "lat.nii.gz", "annotations": "annotations.json"}


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
    cases = Cases(store, engine)

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
            503,
            "there is no room for more films, all that are open are in use; discard some (Resume…) or try again later",
            retry=True,
        )

    @app.exception_handler(NotFoundError)
    async def not_found(_: Request, error: NotFoundError) -> JSONResponse:
        return refused(404, "no such case any more; open its films again, then Resume… brings back its marks")

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.post("/api/first")
    async def open_first(request: Request) -> dict[str, Any]:
        return await cases.open(request, first or {key: SAMPLE / file for key, file in SAMPLE_FILES.items()})

    @app.post("/api/sample")
    async def open_sample(request: Request) -> dict[str, Any]:
        return await cases.open(request, {key: SAMPLE / file for key, file in SAMPLE_FILES.items()})

    app.include_router(opening_routes(cases))
    app.include_router(case_routes(cases))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
