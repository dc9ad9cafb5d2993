"""A running service and a browser for the viewer's tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


@contextmanager
def service(*options: str) -> Iterator[str]:
    """``python -m scripts view`` in a process of its own; its address."""
    command = [sys.executable, "-m", "scripts", "view", "--port", "0", "--browser", "False", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.match(r"(http://\S+)", line)
        assert found, f"the service said: {line!r}"
        wait_until_healthy(found[1])
        yield found[1]
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def served(app: FastAPI, listener: socket.socket) -> Iterator[str]:
    """An application of this process, answered in a thread; its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        wait_until_healthy(address)
        yield address
    finally:
        server.should_exit = True
        thread.join(60)


def browser(address: str) -> httpx.Client:
    """A client with the cookies of a browser that has loaded the page."""
    # A connection that has been idle is closed by the server, which a browser tries again and this client does not.
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.Client(base_url=address, timeout=300, limits=limits)
    client.get("/").raise_for_status()
    return client


Files = dict[str, tuple[str, bytes | str]]


def collected(client: httpx.Client) -> str:
    """The path of new candidates."""
    return f"/api/candidates/{client.post('/api/candidates').raise_for_status().json()['id']}"


def sent(client: httpx.Client, path: str, name: str, content: bytes | str) -> httpx.Response:
    """The answer to one candidate."""
    return client.post(path, files={"file": (name, content)})


def open_films(client: httpx.Client, files: Files, **options: Any) -> dict[str, Any]:
    """The last line of the answer to films that were sent and chosen, or why one of them is none.

    Args:
        client: a browser.
        files: ``ap``, ``lat`` and what else there is, with the user's names.
        options: how the films are to be read.
    """
    path = collected(client)
    wanted: dict[str, Any] = dict(options)
    for key, (name, content) in files.items():
        answer = sent(client, path, name, content).json()
        if "error" in answer or answer["file"]["kind"] == "other":
            return answer if "error" in answer else {"error": f"{name}: {answer['file']['reason']}"}
        wanted[key] = answer["file"]["name"]
    answer = client.post(f"{path}/case", json=wanted)
    return json.loads(answer.text.splitlines()[-1])


def engines(of_service: int | None = None) -> list[int]:
    """Process ids of the engine of one service, or of all services that these tests started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            service_id = parent(int(folder.name))
            wanted = of_service == service_id if of_service else parent(service_id) == os.getpid()
        except (OSError, IndexError):
            continue
        if b"spawn_main" in command and wanted:
            found.append(int(folder.name))
    return found


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def wait_until_healthy(address: str) -> None:
    base = address.split("?")[0]
    for _ in range(300):
        try:
            if httpx.get(f"{base}healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the service never answered")


def wait_for(condition: object, seconds: float = 120.0) -> None:
    """Until ``condition()`` is true. Playwright's own waiting needs eval, which the page's policy forbids."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")
