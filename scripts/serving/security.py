"""Who may talk to the service, and what the page may do."""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import traceback
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

LARGEST_UPLOAD_BYTES = 300 * 2**20
# Of all requests that are being received or answered.
MOST_RECEIVED_BYTES = 4 * LARGEST_UPLOAD_BYTES
# Digits of a Content-Length that can be read at all.
LENGTH_DIGITS = 15
UNFORESEEN = "the service failed at this; everything else is kept, try once more or tell who runs it"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Next = Callable[[Request], Awaitable[Response]]


class Guard:
    """Checks every request before anything else sees it, and answers where something unforeseen happens.

    Args:
        hosts: values of the Host header that are this service, in lower case; a page elsewhere that resolves its own
            name to this machine is thereby refused. With a token, the address at which a connection arrives is one too.
        token: what a browser must bring once, as ``/?token=...``; none on loopback.
    """

    def __init__(self, hosts: set[str], token: str = "") -> None:
        self.hosts = hosts
        self.token = token
        self._receiving = 0

    async def __call__(self, request: Request, call_next: Next) -> Response:
        """The middleware."""
        refusal = self._refusal(request)
        response = refused(*refusal) if refusal else await self._answer(request, call_next)
        response.headers.update(HEADERS)
        if not refusal:
            secure = request.url.scheme == "https"
            if not session_of(request):
                name, value = _cookie("session", request), secrets.token_urlsafe(24)
                response.set_cookie(name, value, httponly=True, samesite="strict", secure=secure)
            if self.token and self.token_of(request) == "query":
                name = _cookie("token", request)
                response.set_cookie(name, self.token, httponly=True, samesite="strict", secure=secure)
        return response

    async def _answer(self, request: Request, call_next: Next) -> Response:
        length = int(request.headers.get("content-length", "0"))
        if length and self._receiving + length > MOST_RECEIVED_BYTES:
            return refused(503, "too much is being sent at once; try again in a moment", retry=True)
        self._receiving += length
        try:
            return await call_next(request)
        except ClientDisconnect:
            return refused(400, "the request ended early")
        except Exception as error:
            log_failure(error)
            return refused(500, UNFORESEEN, retry=True)
        finally:
            self._receiving -= length

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if host.lower() not in self.hosts and not (self.token and host == _arrived_at(request)):
            return 421, "this name is not the service's"
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"{request.url.scheme}://{host.lower()}":
            return 403, "requests from other pages are refused"
        if request.method not in ("GET", "HEAD") and request.headers.get("sec-fetch-site", "same-origin") not in (
            "same-origin",
            "none",
        ):
            return 403, "requests from other pages are refused"
        if self.token and request.url.path != "/healthz" and not self.token_of(request):
            return 401, "open the address with the token that was printed when the service started"
        length = request.headers.get("content-length", "0")
        readable = length.isascii() and length.isdecimal() and len(length) <= LENGTH_DIGITS
        if not readable or int(length) > LARGEST_UPLOAD_BYTES:
            return 413, f"the upload is larger than {LARGEST_UPLOAD_BYTES // 2**20} MB"
        if request.method in ("POST", "PUT") and "content-length" not in request.headers:
            return 411, "the upload does not say how large it is"
        return None

    def token_of(self, request: Request) -> str:
        """Where the right token came from: ``query``, ``header``, ``cookie``, or an empty string for nowhere."""
        for place, value in (
            ("query", request.query_params.get("token")),
            ("header", request.headers.get("authorization", "").removeprefix("Bearer ") or None),
            ("cookie", request.cookies.get(_cookie("token", request))),
        ):
            if value is not None and same(value, self.token):
                return place
        return ""


def session_of(request: Request) -> str:
    """The browser's session; empty if it has brought none."""
    return request.cookies.get(_cookie("session", request), "")


def _cookie(kind: str, request: Request) -> str:
    """A cookie's name. Browsers send the cookies of a host to all of its ports: two services would share them."""
    return f"{kind}-{request.url.port or (443 if request.url.scheme == 'https' else 80)}"


def _arrived_at(request: Request) -> str:
    """The address of this machine that a connection was made to, as in a Host header; empty if it is not an address."""
    address, port = request.scope.get("server") or ("", None)
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return ""
    return address if port == 80 else f"{address}:{port}"


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell how much of them is."""
    # As bytes: texts are compared if they are ASCII only.
    return secrets.compare_digest(*(text.encode("utf-8", "surrogatepass") for text in (one, other)))


def refused(status: int, reason: str, retry: bool = False) -> JSONResponse:
    """An error as the page shows it: one line, and whether the same request may succeed if it is made again."""
    return JSONResponse({"error": reason, **({"retry": True} if retry else {})}, status)


def tell(line: str) -> None:
    """Log what who runs the service should know; the line names no patient."""
    logging.getLogger("uvicorn.error").warning(line)


def log_failure(error: Exception) -> None:
    """Tell who runs the service what failed and where, without the error's text, which may name a patient."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno:
        kind += f" ({os.strerror(error.errno)})"
    logging.getLogger("uvicorn.error").error("%s at %s", kind, place)
