"""Routes of films that are still to be chosen: each is sent by itself, inspected, and shown as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.responses import FileResponse, StreamingResponse

from scripts.errors import UserError
from scripts.films.kind import film_stem
from scripts.serving.engine import QueueWatcher
from scripts.serving.room import used_bytes
from scripts.serving.uploads import given_name, save_candidate
from scripts.viewer.cases import OPENING_S, Cases
from scripts.viewer.choice import chosen_files, drop_others, picture_file, put_in_place, reading_options
from scripts.viewer.requests import NotFoundError, sent_json, stored_file
from scripts.viewer.store import MOST_CANDIDATE_BYTES, MOST_CANDIDATES
from scripts.viewer.stream import LINES, stream_steps


def opening_routes(cases: Cases) -> APIRouter:
    """The routes.

    Args:
        cases: of all browsers.
    """
    router = APIRouter()

    @router.post("/api/candidates")
    async def collect(request: Request) -> dict[str, Any]:
        name, case = cases.new(request)
        case.candidates = {}
        return {"id": name, "most_files": MOST_CANDIDATES}

    @router.post("/api/candidates/{name}")
    async def add_candidate(request: Request, name: str, file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        case, candidates = cases.collection(request, name)
        if len(candidates) >= MOST_CANDIDATES:
            raise UserError(f"more than {MOST_CANDIDATES} files; choose the folder of one study or the two films")
        size = int(request.headers["content-length"])
        if used_bytes(case.folder) + size > MOST_CANDIDATE_BYTES:
            raise UserError(f"more than {MOST_CANDIDATE_BYTES // 2**20} MB of films; choose the two films")
        cases.store.make_room(size)
        kept = save_candidate(file, case.folder, str(len(candidates) + 1))
        candidates[kept] = case.names[kept] = given_name(file) or kept
        try:
            arguments = ("candidates.inspect", kept, candidates[kept])
            found: dict[str, Any] = await cases.ask(case, candidates[kept], *arguments, limit_s=OPENING_S)
        except BaseException:
            (case.folder / kept).unlink(missing_ok=True)
            raise
        return found

    @router.get("/api/candidates/{name}/{file}.png")
    async def candidate_picture(request: Request, name: str, file: str) -> FileResponse:
        case, candidates = cases.collection(request, name)
        if file not in candidates:
            raise NotFoundError
        return stored_file(picture_file(case.folder, file), "image/png")

    @router.post("/api/candidates/{name}/case")
    async def open_chosen(request: Request, name: str) -> StreamingResponse:
        case, candidates = cases.collection(request, name)
        sent = await sent_json(request, "the chosen films")
        files = chosen_files(sent, [file for file in candidates if (case.folder / file).is_file()])
        placed = put_in_place(case.folder, files)
        case.names |= {placed[key]: candidates[file] for key, file in files.items()}
        title = film_stem(Path(candidates[files["ap"]]).name)
        wanted = placed | reading_options(sent) | {"title": title}

        async def read(step: str, on_queue: QueueWatcher) -> dict[str, Any]:
            await cases.ask(case, step, "case.read_case", wanted, limit_s=OPENING_S, on_queue=on_queue)
            return {}

        async def mark(step: str, on_queue: QueueWatcher) -> dict[str, Any]:
            described = await cases.ask(case, step, "case.mark_case", limit_s=OPENING_S, on_queue=on_queue)
            case.candidates = None
            drop_others(case.folder, candidates)
            return {"case": {"id": name, **described}}

        marking = "reading the marks" if "annotations" in files else "finding the vertebrae"
        return StreamingResponse(stream_steps({"reading the films": read, marking: mark}), media_type=LINES)

    return router
