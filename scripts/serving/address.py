"""Where a service is reached: its socket, its address, and who may talk to it."""

from __future__ import annotations

import ipaddress
import secrets
import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI

from scripts.errors import UserError
from scripts.serving.limits import check_port
from scripts.serving.security import Guard

LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = ("", "0.0.0.0")


def bind(host: str, port: int, name: str = "") -> tuple[socket.socket, Guard, str]:
    """A socket, who may talk to what serves there, and its address.

    Bound to this machine, no token is needed; bound to an address that others reach, the address carries one. Bound to
    all addresses, the one told is that under which others reach the machine; each of its addresses is answered.

    Args:
        host: address to bind to.
        port: 0 for a free one.
        name: under which a proxy offers the service; it needs the token too.

    Raises:
        UserError: the port is none or taken, or the address is not this machine's.
    """
    check_port(port)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise UserError(f"{host}:{port} cannot be served on ({error.strerror}); choose another --port") from error
    port = listener.getsockname()[1]
    local = is_loopback(host) and not name
    token = "" if local else secrets.token_urlsafe(24)
    shown = own_address() if host in EVERY_ADDRESS else host
    known = {"localhost", LOOPBACK, shown, host, *(() if local else (socket.gethostname(), socket.getfqdn()))}
    hosts = {f"{one}:{port}".lower() for one in known} | {one.lower() for one in known if port == 80}
    guard = Guard(hosts | ({name.lower()} if name else set()), token)
    return listener, guard, f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def own_address() -> str:
    """The address under which others most likely reach this machine: that of its route to elsewhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # An address of the range for documentation; choosing a route sends nothing.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def run_server(app: FastAPI, listener: socket.socket) -> None:
    """Until SIGINT or SIGTERM. No access log: what is asked for is nobody's business."""
    # Until uvicorn takes the signal over, the end by it is as orderly as any.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
