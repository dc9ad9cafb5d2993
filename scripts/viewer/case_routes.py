"""Routes of an open case: its films, marks, vertebrae, measurements and exports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, StreamingResponse

from scripts.errors import UserError
from scripts.serving.engine import QueueWatcher
from scripts.serving.security import session_of
from scripts.viewer.cases import OPENING_S, Cases
from scripts.viewer.choice import picture_file
from scripts.viewer.requests import NotFoundError, level_in_path, sent_json, sent_levels, stored_file
from scripts.viewer.stream import LINES, stream_levels

KEY = re.compile("[0-9a-f]{16}")


def case_routes(cases: Cases) -> APIRouter:
    """The routes.

    Args:
        cases: of all browsers.
    """
    router = APIRouter()

    @router.get("/api/cases/{name}")
    async def describe(request: Request, name: str) -> dict[str, Any]:
        return {"id": name, **await cases.ask(cases.owned(request, name), "the case", "case.describe")}

    @router.delete("/api/cases/{name}")
    async def close(request: Request, name: str) -> dict[str, str]:
        if cases.store.find(name, session_of(request)) is None:
            raise NotFoundError
        cases.store.remove(name)
        return {"status": "closed"}

    @router.get("/api/cases/{name}/{view}.png")
    async def film(request: Request, name: str, view: str) -> FileResponse:
        if view not in ("ap", "lat"):
            raise NotFoundError
        return stored_file(picture_file(cases.owned(request, name).folder, view), "image/png")

    @router.put("/api/cases/{name}/marks")
    async def set_marks(request: Request, name: str) -> dict[str, Any]:
        case = cases.owned(request, name)
        sent = await sent_json(request, "the marks")
        if not isinstance(sent, dict) or "views" not in sent:
            raise UserError("the marks are no JSON document with 'views'")
        return await cases.ask(case, "the marks", "case.set_marks", sent, limit_s=OPENING_S)

    @router.post("/api/cases/{name}/reconstruct")
    async def reconstruct(request: Request, name: str) -> StreamingResponse:
        case = cases.owned(request, name)
        levels = sent_levels(await sent_json(request, "the levels"))
        cases.store.make_room()
        case.cancelled = False

        async def compute(level: str, on_queue: QueueWatcher) -> dict[str, Any]:
            return await cases.ask(case, level, "case.reconstruct_level", level, on_queue=on_queue)

        async def cancelled() -> bool:
            return case.cancelled or await request.is_disconnected()

        return StreamingResponse(stream_levels(levels, compute, cancelled), media_type=LINES)

    @router.delete("/api/cases/{name}/reconstruct")
    async def cancel(request: Request, name: str) -> dict[str, str]:
        cases.owned(request, name).cancelled = True
        return {"status": "cancelling"}

    @router.get("/api/cases/{name}/mesh/{level}")
    async def mesh(request: Request, name: str, level: str, key: str) -> FileResponse:
        if not KEY.fullmatch(key):
            raise NotFoundError
        path = cases.owned(request, name).folder / f"{level_in_path(level)}.{key}.mesh"
        return stored_file(path, "application/octet-stream")

    @router.get("/api/cases/{name}/measurements")
    async def measurements(request: Request, name: str, levels: str) -> dict[str, Any]:
        wanted = sent_levels({"levels": levels.split(",")})
        return await cases.ask(cases.owned(request, name), "the measurements", "measure.measure", wanted)

    @router.get("/api/cases/{name}/export/{kind}")
    async def download(request: Request, name: str, kind: str, levels: str) -> FileResponse:
        wanted = sent_levels({"levels": levels.split(",")})
        case = cases.owned(request, name)
        cases.store.make_room()
        path = Path(await cases.ask(case, "the export", "export.export", kind, wanted))
        return stored_file(path, "application/octet-stream", path.name)

    @router.get("/api/cases/{name}/session")
    async def session(request: Request, name: str) -> FileResponse:
        path = cases.owned(request, name).folder / "annotations.json"
        return FileResponse(path, media_type="application/json", filename="annotations.json")

    return router
