"""What both services share at their door: the guard, and every failure as one line with the same headers."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from scripts.errors import UserError
from scripts.io.atomic import NO_ROOM, NoRoomError
from scripts.serving.engine import NOT_STORED, EngineBusyError, EngineError
from scripts.serving.security import Guard, refused


def protect(app: FastAPI, guard: Guard) -> None:
    """Put the guard before an application and have its errors told; what is not foreseen here the guard answers."""
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)

    @app.exception_handler(UserError)
    async def bad_input(_: Request, error: UserError) -> JSONResponse:
        return refused(400, str(error))

    @app.exception_handler(OSError)
    async def no_room(_: Request, error: OSError) -> JSONResponse:
        if error.errno not in NO_ROOM:
            raise error
        return refused(507, NOT_STORED)

    @app.exception_handler(NoRoomError)
    async def no_room_for_result(_: Request, error: NoRoomError) -> JSONResponse:
        # Not its text: that names a folder of this machine.
        return refused(507, NOT_STORED)

    @app.exception_handler(EngineError)
    async def engine_failed(_: Request, error: EngineError) -> JSONResponse:
        return refused(429 if isinstance(error, EngineBusyError) else 503, str(error), retry=True)

    @app.exception_handler(HTTPException)
    async def no_route(_: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, OSError):
            # The body could not be kept in the folder of temporary files; FastAPI takes it for a bad request.
            return refused(507, NOT_STORED)
        return refused(error.status_code, " ".join(str(error.detail).split()))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        # Not its text: that repeats what was sent.
        first = error.errors()[0]
        return refused(422, f"the request is not as it should be: {first['loc'][-1]}: {first['msg']}")
