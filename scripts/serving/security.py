"""Who may talk to the service, and what the page may do."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import JSONResponse

SESSION_COOKIE = "session"
TOKEN_COOKIE = "token"
LARGEST_UPLOAD_BYTES = 300 * 2**20

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
    """Checks every request before anything else sees it.

    Args:
        hosts: values of the Host header that are this service; a page elsewhere that resolves its own name to this
            machine is thereby refused.
        token: what a browser must bring once, as ``/?token=...``; none on loopback.
    """

    def __init__(self, hosts: set[str], token: str = "") -> None:
        self.hosts = hosts
        self.token = token

    async def __call__(self, request: Request, call_next: Next) -> Response:
        """The middleware."""
        refusal = self._refusal(request)
        response = refused(*refusal) if refusal else await call_next(request)
        response.headers.update(HEADERS)
        if not refusal and SESSION_COOKIE not in request.cookies:
            response.set_cookie(SESSION_COOKIE, secrets.token_urlsafe(24), httponly=True, samesite="strict")
        if not refusal and self.token and self.token_of(request) == "query":
            response.set_cookie(TOKEN_COOKIE, self.token, httponly=True, samesite="strict")
        return response

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if host not in self.hosts:
            return 421, "this name is not the service's"
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests from other pages are refused"
        if request.method not in ("GET", "HEAD") and request.headers.get("sec-fetch-site", "same-origin") not in (
            "same-origin",
            "none",
        ):
            return 403, "requests from other pages are refused"
        if self.token and request.url.path != "/healthz" and not self.token_of(request):
            return 401, "open the address with the token that was printed when the service started"
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > LARGEST_UPLOAD_BYTES:
            return 413, f"the upload is larger than {LARGEST_UPLOAD_BYTES // 2**20} MB"
        if request.method in ("POST", "PUT") and "content-length" not in request.headers:
            return 411, "the upload does not say how large it is"
        return None

    def token_of(self, request: Request) -> str:
        """Where the right token came from: ``query``, ``header``, ``cookie``, or an empty string for nowhere."""
        for place, value in (
            ("query", request.query_params.get("token")),
            ("header", request.headers.get("authorization", "").removeprefix("Bearer ") or None),
            ("cookie", request.cookies.get(TOKEN_COOKIE)),
        ):
            if value is not None and secrets.compare_digest(value, self.token):
                return place
        return ""


def refused(status: int, reason: str) -> JSONResponse:
    """An error as the page shows it: one line."""
    return JSONResponse({"error": reason}, status)
