"""The verb ``view``: the service on this machine, and the browser at it."""

from __future__ import annotations

import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.serving.address import LOOPBACK, bind, run_server
from scripts.viewer.app import create_app


def view_case(
    first: dict[str, Any] | None, host: str = LOOPBACK, port: int = 8765, browser: bool = True, name: str = ""
) -> None:
    """Serve the interface until interrupted.

    Args:
        first: see `create_app`.
        host: address to bind to.
        port: 0 for a free one.
        browser: open one.
        name: see `bind`.

    Raises:
        UserError: see `bind`; or a file of the first case does not exist.
    """
    for key, path in (first or {}).items():
        if isinstance(path, Path) and not path.is_file():
            raise UserError(f"{path}: no such file ({key})")
    listener, guard, address = bind(host, port, name)
    app = create_app(guard, first)
    try:
        print(f"{address}  (Ctrl+C ends it)", flush=True)
        if browser:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        run_server(app, listener)
    finally:
        app.state.store.close()
    sys.stdout.flush()
