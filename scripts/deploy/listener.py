"""A DICOM node: receives studies, hands pairs of films to the worker, sends the results on.

A C-STORE is answered with success only when the film is on the disk, so that a sender which follows the standard and
repeats what was not confirmed loses nothing, whatever is killed.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    Verification,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from scripts.deploy.forwarding import forward
from scripts.deploy.inbox import Inbox
from scripts.deploy.sender import Peer
from scripts.deploy.worker import TROUBLE_S, Worker, finish, tell_failure
from scripts.errors import UserError
from scripts.films.geometry_file import read_geometry
from scripts.io.atomic import NoRoomError
from scripts.localization.anchors import parse_anchors
from scripts.serving.engine import Engine
from scripts.serving.limits import check_above, check_ae_title, check_port
from scripts.serving.security import log_failure
from scripts.serving.spool import Spool, State

FILMS = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
POLL_S, GRACE_S = 0.2, 60.0


def listen(
    folder: Path,
    send_to: str,
    host: str,
    port: int,
    ae_title: str,
    settle_s: float,
    keep_hours: float,
    geometry: Path | None = None,
    anchor: str = "",
    engine: Engine | None = None,
) -> None:
    """Receive studies over DICOM, reconstruct each pair of films and send the results on, until interrupted.

    Args:
        folder: the spool's.
        send_to: ``AETITLE@host:port`` or empty.
        host: address to listen on.
        port: 0 for a free one.
        ae_title: of this node.
        settle_s: a study is complete when it has a pair and nothing has come for so long.
        keep_hours: how long results, and studies without a pair, stay.
        geometry: YAML or JSON file that says how the machine takes its films, where their headers do not.
        anchor: a level that holds in all films, such as ``L5`` for the lowest vertebra; empty if none is known.
        engine: whose ``worker.process`` computes; a new one of ours if None.

    Raises:
        UserError: the peer's address, the geometry or the anchor cannot be read, a name or number is none to work with,
            the port is taken, another process holds the spool, or something unforeseen has ended the node.
    """
    check_ae_title(ae_title)
    check_port(port)
    check_above("--settle-s", settle_s, 0, inclusive=True)
    check_above("--keep-hours", keep_hours, 0)
    peer = Peer.parse(send_to, ae_title) if send_to else None
    if geometry:
        read_geometry(geometry)
    parse_anchors(anchor)
    spool = Spool(folder)
    node = AE(ae_title)
    node.add_supported_context(Verification)
    for kind in FILMS:
        node.add_supported_context(kind, ALL_TRANSFER_SYNTAXES)
    inbox = Inbox(spool, settle_s, keep_hours * 3600, geometry, anchor)
    with spool.opened():
        if peer is None:
            # Of a start with a peer: results stay here, where they are found and kept for their time.
            for job in spool.jobs(State.SENDING):
                spool.move(job.name, State.SENDING, State.DONE)
        try:
            server = node.start_server((host, port), block=False, evt_handlers=[(evt.EVT_C_STORE, inbox.store)])
        except OSError as error:
            raise UserError(f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port") from error
        assert server is not None
        print(f"{ae_title}@{host}:{server.server_address[1]}  (Ctrl+C ends it)", flush=True)
        try:
            asyncio.run(_work(spool, inbox, peer, keep_hours * 3600, engine or Engine("scripts.deploy")))
        finally:
            server.shutdown()


async def _work(spool: Spool, inbox: Inbox, peer: Peer | None, keep_s: float, engine: Engine) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    worker = Worker(spool, engine, then=State.SENDING if peer else State.DONE)
    working = asyncio.create_task(worker.run())
    tasks: list[asyncio.Task[Any]] = [working, asyncio.create_task(ended.wait())]
    if peer:
        tasks.append(asyncio.create_task(forward(spool, peer)))
    for task in tasks:
        task.add_done_callback(tell_failure)
    done: set[asyncio.Task[Any]] = set()
    while not done:
        pause = POLL_S
        try:
            await asyncio.to_thread(inbox.hand_over)
            spool.forget_older_than(keep_s)
        except (OSError, NoRoomError) as error:
            log_failure(error)
            pause = TROUBLE_S
        done, _ = await asyncio.wait(tasks, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
    await finish(working, worker, GRACE_S)
    for task in tasks:
        task.cancel()
    engine.stop()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            raise UserError("the node failed and has ended; what it confirmed is kept, start it again") from found
