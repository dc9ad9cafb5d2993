"""A DICOM node: receives studies, hands pairs of films to the worker, sends the results on.

A C-STORE is answered with success only when the film is on the disk, so that a sender which follows the standard and
repeats what was not confirmed loses nothing, whatever is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

from pydicom.filewriter import dcmwrite
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

from scripts.deploy.sender import Peer, send_folder
from scripts.deploy.study import ANCHOR_FILE, geometry_name
from scripts.deploy.worker import TROUBLE_S, Worker, finish, tell_failure
from scripts.errors import UserError
from scripts.films.film import Projection
from scripts.films.geometry_file import read_geometry
from scripts.films.study import choose_film
from scripts.io.atomic import NoRoomError
from scripts.localization.anchors import parse_anchors
from scripts.serving.engine import Engine
from scripts.serving.security import log_failure
from scripts.serving.spool import OUTPUT, STUDY, Spool, State, sync

FILMS = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
POLL_S, GRACE_S = 0.2, 60.0
RETRY_S = (1.0, 60.0)


class Inbox:
    """Films as they come, a folder a study.

    Args:
        spool: whose ``receiving`` folder is used.
        settle_s: how long nothing must have come.
        keep_s: how long a study may lack its pair.
        geometry: geometry file of the machine that the films come from; None if headers contain it.
        anchor: a level that holds in all of its films, such as ``L5`` for the lowest vertebra; empty if none is known.
    """

    def __init__(
        self, spool: Spool, settle_s: float, keep_s: float, geometry: Path | None = None, anchor: str = ""
    ) -> None:
        self.spool, self.settle_s, self.keep_s = spool, settle_s, keep_s
        self.geometry, self.anchor = geometry, anchor
        self._lock = threading.Lock()

    def store(self, event: Any) -> int:
        """Answer a C-STORE: its status."""
        try:
            film = event.dataset
            film.file_meta = event.file_meta
            study, name = (_hash(str(film[key].value)) for key in ("StudyInstanceUID", "SOPInstanceUID"))
        except (KeyError, AttributeError, ValueError):
            return CANNOT_UNDERSTAND
        try:
            with self._lock:
                folder = self.spool.receiving / study
                (folder / STUDY).mkdir(parents=True, exist_ok=True, mode=0o700)
                part = folder / STUDY / f".{name}.part"
                dcmwrite(part, film, enforce_file_format=True)
                part.rename(folder / STUDY / f"{name}.dcm")
                sync(folder)
        except OSError:
            return OUT_OF_RESOURCES
        return SUCCESS

    def hand_over(self) -> None:
        """Studies that have settled and hold a pair become jobs; those that never get one fail.

        Raises:
            OSError, NoRoomError: one could not be handed over, nor is it lost; the others were.
        """
        failure: OSError | NoRoomError | None = None
        for folder in sorted(self.spool.receiving.iterdir()):
            try:
                with self._lock:
                    self._hand_over(folder)
            except (OSError, NoRoomError) as error:
                failure = error
        if failure:
            raise failure

    def _hand_over(self, folder: Path) -> None:
        films = folder / STUDY
        if not films.is_dir():
            return
        quiet = time.time() - films.stat().st_mtime
        if quiet < self.settle_s or self.spool.count(State.WAITING) >= self.spool.capacity:
            return
        try:
            for view in (Projection.FRONTAL, Projection.LATERAL):
                choose_film(films, view)
        except UserError as error:
            if quiet > self.keep_s:
                self.spool.reject(folder, str(error).replace(str(films), "the study"))
            return
        if self.geometry:
            shutil.copyfile(self.geometry, films / geometry_name(self.geometry))
        if self.anchor:
            (films / ANCHOR_FILE).write_text(self.anchor)
        self.spool.submit(folder)


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
        UserError: the peer's address, the geometry or the anchor cannot be read, the port is taken, another process
            holds the spool, or something unforeseen has ended the node.
    """
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
        tasks.append(asyncio.create_task(_send(spool, peer)))
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


async def _send(spool: Spool, peer: Peer) -> None:
    """Results to the peer, as often as it takes."""
    pause = RETRY_S[0]
    while True:
        for folder in sorted((spool.folder / State.SENDING).iterdir()):
            sent = await asyncio.to_thread(send_folder, folder / OUTPUT / "dicom", peer)
            try:
                if sent:
                    spool.move(folder.name, State.SENDING, State.DONE)
            except OSError as error:
                log_failure(error)
                sent = False
            if sent:
                pause = RETRY_S[0]
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_S[1])
        await asyncio.sleep(POLL_S)


def _hash(uid: str) -> str:
    """A name of files and folders that does not identify the study."""
    return hashlib.sha256(uid.encode()).hexdigest()[:24]
