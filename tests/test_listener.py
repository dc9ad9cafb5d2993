"""The DICOM node: what it confirmed is reconstructed and sent on, whatever is killed and whenever."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation, EncapsulatedSTLStorage, SegmentationStorage

from scripts.deploy.forwarding import forward
from scripts.deploy.inbox import Inbox
from scripts.deploy.listener import _work, listen
from scripts.deploy.sender import Outcome, Peer, Sender, UnreadableResultError, read_results
from scripts.deploy.study import job_of_folder
from scripts.errors import UserError
from scripts.films.geometry_file import read_geometry
from scripts.films.study import choose_film
from scripts.io.atomic import NoRoomError
from scripts.localization.anchors import parse_anchors
from scripts.serving.engine import Engine
from scripts.serving.limits import check_ae_title
from scripts.serving.spool import OUTPUT, REASON, STUDY, Spool, State
from tests.conftest import ROOT
from tests.dicom_films import write_dicom
from tests.quick.worker import process

KILLS = 12


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def archive(*statuses: int) -> Iterator[tuple[int, dict[str, str]]]:
    """A node that takes results: its port, and what it has, study -> content.

    Args:
        statuses: of its first answers; after them all is well.
    """
    got: dict[str, str] = {}
    answers = list(statuses)

    def take(event: Any) -> int:
        got[str(event.dataset.StudyInstanceUID)] = str(event.dataset.get("ContentDescription", ""))
        return answers.pop(0) if answers else 0x0000

    node = AE("ARCHIVE")
    for kind in (SegmentationStorage, EncapsulatedSTLStorage):
        node.add_supported_context(kind)
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()


def studies(folder: Path, count: int) -> list[list[pydicom.Dataset]]:
    """Pairs of small films."""
    made = []
    for number in range(count):
        uid = generate_uid()
        pair = []
        for name in ("ap", "lat"):
            path = folder / f"{number}{name}"
            write_dicom(path, name, np.random.default_rng(number).random((40, 30)), StudyInstanceUID=uid)
            film = pydicom.dcmread(path)
            film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            pair.append(film)
        made.append(pair)
    return made


def send(port: int, film: pydicom.Dataset) -> bool:
    """Whether the node confirmed a film."""
    node = AE("MODALITY")
    node.connection_timeout = node.acse_timeout = node.dimse_timeout = node.network_timeout = 5
    node.add_requested_context(DigitalXRayImageStorageForPresentation)
    association = node.associate("127.0.0.1", port, ae_title="SPINE3D")
    if not association.is_established:
        return False
    try:
        answer = association.send_c_store(film)
        return getattr(answer, "Status", None) == 0x0000
    except (RuntimeError, ValueError):
        return False
    finally:
        association.abort() if random.random() < 0.3 else association.release()


def wait_for(condition: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_many_kills_lose_nothing(tmp_path: Path) -> None:
    """A sender that repeats what was not confirmed, a node that dies all the time, an archive at the end."""
    rng = random.Random(7)
    random.seed(7)
    port, spool = free_port(), tmp_path / "spool"
    pairs = studies(tmp_path, 30)
    wanted = {str(pair[0].StudyInstanceUID) for pair in pairs}
    with archive() as (archive_port, got):
        command = [sys.executable, "-m", "tests.quick", str(spool), str(port), f"ARCHIVE@127.0.0.1:{archive_port}"]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def modality() -> None:
            for pair in pairs:
                for film in pair:
                    while not send(port, film):
                        time.sleep(0.05)
                time.sleep(0.2)

        sender = threading.Thread(target=modality, daemon=True)
        sender.start()
        for number in range(KILLS):
            node = start()
            # Half of them while it takes up what the last one left, half while it receives, computes and sends.
            if number % 2:
                wait_for(lambda: is_listening(port), 30)
            time.sleep(rng.uniform(0.0, 1.0))
            node.kill()
            node.wait()
        node = start()
        try:
            sender.join(120)
            assert not sender.is_alive()
            assert wait_for(lambda: set(got) == wanted, 120), f"{len(wanted - set(got))} of {len(wanted)} lost"
            left = [spool / state for state in ("waiting", "working", "sending")]
            assert wait_for(lambda: not any(name for state in left for name in state.iterdir()), 60)
        finally:
            node.terminate()
            assert node.wait(30) == 0
    assert set(got.values()) == {"AP RL"}
    assert [(job / REASON).read_text() for job in (spool / "failed").iterdir()] == []


def test_a_study_without_its_pair_waits_and_then_fails(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    ((ap, lat),) = studies(tmp_path, 1)
    inbox = Inbox(spool, settle_s=0.0, keep_s=3600.0, anchor="L5")

    class Event:
        def __init__(self, film: pydicom.Dataset) -> None:
            self.dataset, self.file_meta = film, film.file_meta

    assert inbox.store(Event(ap)) == 0x0000
    inbox.hand_over()
    assert spool.count(State.WAITING) == 0
    Inbox(spool, 0.0, -1.0).hand_over()
    (failed,) = (tmp_path / "spool" / "failed").iterdir()
    assert "LAT" in (failed / REASON).read_text() and str(tmp_path) not in (failed / REASON).read_text()
    for film in (ap, lat):
        assert inbox.store(Event(film)) == 0x0000
    inbox.hand_over()
    (job,) = (tmp_path / "spool" / "waiting").iterdir()
    assert job_of_folder(job / STUDY).anchor == parse_anchors("L5")
    # All that came without a study would be one study, of whatever patients.
    ap.StudyInstanceUID = ""
    assert inbox.store(Event(ap)) == 0xC000
    del ap.StudyInstanceUID
    assert inbox.store(Event(ap)) == 0xC000
    assert not any(spool.receiving.iterdir())


@pytest.mark.parametrize("name", ["machine.YAML", "machine.json", "machine.conf"])
def test_a_geometry_of_any_name_reaches_the_job(tmp_path: Path, name: str) -> None:
    spool, machine = Spool(tmp_path / "spool"), tmp_path / name
    machine.write_text('{"beam": "parallel", "simultaneous": true}')
    inbox = Inbox(spool, 0.0, 3600.0, machine)
    for film in studies(tmp_path, 1)[0]:
        assert inbox.store(Mock(dataset=film, file_meta=film.file_meta)) == 0x0000
    inbox.hand_over()
    (job,) = (spool.folder / State.WAITING).iterdir()
    geometry = job_of_folder(job / STUDY).reading.geometry
    assert geometry is not None and read_geometry(geometry) == read_geometry(machine)


def test_an_incomplete_study_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool")
    inbox = Inbox(spool, 0.0, 3600.0)
    ap, lat = studies(tmp_path, 1)[0]
    inbox.store(Mock(dataset=ap, file_meta=ap.file_meta))
    choose = Mock(side_effect=choose_film)
    monkeypatch.setattr("scripts.deploy.inbox.choose_film", choose)
    for _ in range(5):
        inbox.hand_over()
    assert choose.call_count == 2  # the AP film, and that there is no LAT film
    inbox.store(Mock(dataset=lat, file_meta=lat.file_meta))
    inbox.hand_over()
    assert spool.count(State.WAITING) == 1


def result(tmp_path: Path) -> Path:
    """A job that waits to be sent: a segmentation and a surface whose name sorts before it."""
    job = tmp_path / "spool" / State.SENDING / "1"
    (job / STUDY).mkdir(parents=True)
    for number, film in enumerate(studies(tmp_path, 1)[0]):
        film.save_as(job / STUDY / f"{number}.dcm")
    process(str(job))
    stl = pydicom.dcmread(job / OUTPUT / "dicom" / "spine.seg.dcm")
    del stl.PixelData
    stl.SOPClassUID = stl.file_meta.MediaStorageSOPClassUID = EncapsulatedSTLStorage
    stl.SOPInstanceUID = stl.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    stl.EncapsulatedDocument = b"1234"
    stl.save_as(job / OUTPUT / "dicom" / "L1.stl.dcm", enforce_file_format=True)
    return job


@contextmanager
def strict_archive(**contexts: Any) -> Iterator[tuple[int, list[str]]]:
    """A node that takes some kinds only, by the name of their class; its port, and the kinds that it has got."""
    got: list[str] = []
    node = AE("ARCHIVE")
    for name, syntax in contexts.items():
        node.add_supported_context({"seg": SegmentationStorage, "stl": EncapsulatedSTLStorage}[name], syntax)

    def take(event: Any) -> int:
        got.append(event.request.AffectedSOPClassUID.name)
        return 0x0000

    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()


def test_the_segmentation_goes_first_in_either_encoding(tmp_path: Path) -> None:
    job = result(tmp_path)
    with strict_archive(seg=ImplicitVRLittleEndian, stl=ImplicitVRLittleEndian) as (port, got):
        assert Sender(Peer("ARCHIVE", "127.0.0.1", port, "ME")).send(job / OUTPUT / "dicom") is Outcome.STORED
    assert got == ["Segmentation Storage", "Encapsulated STL Storage"]


def test_what_is_refused_is_told_once_and_keeps_back_nothing_else(
    tmp_path: Path, service_log: pytest.LogCaptureFixture
) -> None:
    job = result(tmp_path)
    folder = job / OUTPUT / "dicom"
    with strict_archive(seg=None) as (port, got):
        sender = Sender(Peer("ARCHIVE", "127.0.0.1", port, "ME"))
        assert [sender.send(folder) for _ in range(2)] == [Outcome.REFUSED] * 2
        assert got == ["Segmentation Storage"]
    assert sender.send(folder) is Outcome.UNREACHABLE
    for said in ("does not accept Encapsulated STL Storage", "cannot be reached"):
        assert service_log.text.count(f"ARCHIVE@127.0.0.1:{port} {said}") == 1
    with strict_archive(seg=None, stl=None) as (port, got):
        sender.peer = Peer("ARCHIVE", "127.0.0.1", port, "ME")
        assert sender.send(folder) is Outcome.STORED and got == ["Encapsulated STL Storage"]
    sender.tell_recovery()
    sender.tell_recovery()
    assert service_log.text.count("takes results again") == 1


def forward_until(state: State, spool: Spool, port: int) -> None:
    """Send results until a job has come into a state."""

    async def sent() -> None:
        sending = asyncio.create_task(forward(spool, Peer("ARCHIVE", "127.0.0.1", port, "ME")))
        while not spool.count(state) and not sending.done():
            await asyncio.sleep(0.01)
        sending.cancel()

    asyncio.run(asyncio.wait_for(sent(), 30))


@pytest.mark.parametrize("left_bytes", [0, 140, -2])
def test_half_a_result_is_computed_anew_and_not_sent(tmp_path: Path, left_bytes: int) -> None:
    job = result(tmp_path)
    with archive() as (port, got):
        path = job / OUTPUT / "dicom" / "spine.seg.dcm"
        path.write_bytes(path.read_bytes()[:left_bytes])
        with pytest.raises(UnreadableResultError):
            read_results(path.parent)
        spool = Spool(tmp_path / "spool")
        forward_until(State.WAITING, spool, port)
        assert not got and not (spool.folder / State.WAITING / "1" / OUTPUT).exists()


def test_results_are_sent_until_the_archive_has_stored_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning says that they are stored; a name that nobody knows may be known later."""
    spool = Spool(tmp_path / "spool")
    job = spool.folder / State.SENDING / "1"
    (job / STUDY).mkdir(parents=True)
    (result,) = studies(tmp_path, 1)[0][:1]
    result.save_as(job / STUDY / "1.dcm")
    process(str(job))
    with archive(0xA700, 0xB000) as (port, _):
        sender = Sender(Peer("ARCHIVE", "127.0.0.1", port, "ME"))
        assert sender.send(job / OUTPUT / "dicom") is Outcome.REFUSED
        assert sender.send(job / OUTPUT / "dicom") is Outcome.STORED
        associate, unknown = AE.associate, [socket.gaierror(-2, "Name or service not known")]

        def resolve(*arguments: Any, **more: Any) -> Any:
            if unknown:
                raise unknown.pop()
            return associate(*arguments, **more)

        monkeypatch.setattr(AE, "associate", resolve)
        monkeypatch.setattr("scripts.deploy.forwarding.RETRY_S", (0.01, 0.01))
        forward_until(State.DONE, spool, port)
    assert spool.count(State.DONE) == 1


def test_a_node_that_fails_says_so_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sender, "send", Mock(side_effect=KeyError("Mr Secret")))
    spool = Spool(tmp_path / "spool")
    (spool.folder / State.SENDING / "1").mkdir()
    work = _work(spool, Mock(Inbox), Peer.parse("PACS@host:104", "ME"), 3600.0, Mock(Engine))
    with pytest.raises(UserError, match="the node failed and has ended"):
        asyncio.run(asyncio.wait_for(work, 30))


def test_a_full_disk_keeps_studies_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool")
    inbox, alone = Inbox(spool, 0.0, 3600.0, anchor="L5"), Inbox(spool, 0.0, -1.0)
    for pair in studies(tmp_path, 2):
        for film in pair:
            assert inbox.store(Mock(dataset=film, file_meta=film.file_meta)) == 0x0000
    write, full = Path.write_text, [OSError(errno.ENOSPC, "No space left on device")]

    def write_text(path: Path, text: str) -> int:
        if full:
            raise full.pop()
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OSError, match="No space"):
        inbox.hand_over()
    assert spool.count(State.WAITING) == 1  # the other one
    # So it is with a study that fails, and the node does not end with it.
    next(next(spool.receiving.iterdir()).glob(f"{STUDY}/*")).unlink()
    monkeypatch.setattr("scripts.serving.spool.write_text", Mock(side_effect=[NoRoomError("full"), 1]))
    monkeypatch.setattr("scripts.deploy.listener.TROUBLE_S", 0.01)
    engine = Mock(Engine, call=AsyncMock(side_effect=lambda *_: time.sleep(0.01)))

    async def work() -> None:
        working = asyncio.create_task(_work(spool, alone, None, 3600.0, engine))
        while not (spool.count(State.FAILED) and spool.count(State.DONE)) and not working.done():
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await working

    asyncio.run(asyncio.wait_for(work(), 30))
    assert spool.count(State.FAILED) == spool.count(State.DONE) == 1 and not any(spool.receiving.iterdir())


def test_an_archive_is_named_as_dicom_nodes_are() -> None:
    assert Peer.parse("PACS@pacs.local:104", "ME") == Peer("PACS", "pacs.local", 104, "ME")
    assert Peer.parse("MY PACS@host:1", "ME").title == "MY PACS"
    bad = ("", " ", "A" * 17, "P\\S", "P\u00c4CS", "P\tS")
    for text in ("PACS", "PACS@host", "PACS@host:0", "PACS@host:99999", *(f"{title}@host:1" for title in bad)):
        with pytest.raises(UserError, match="AETITLE@host:port"):
            Peer.parse(text, "ME")
    for title in bad:
        with pytest.raises(UserError, match="--ae-title has 1 to 16"):
            check_ae_title(title)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ae_title", "A" * 17), ("port", 99999), ("port", -1), ("settle_s", math.nan), ("settle_s", -1.0),
        ("keep_hours", math.nan), ("keep_hours", -1.0), ("keep_hours", 0.0),
    ],
)  # fmt: skip
def test_a_node_does_not_start_with_what_it_cannot_work_with(tmp_path: Path, option: str, value: Any) -> None:
    settings = {"send_to": "", "host": "127.0.0.1", "port": 0, "ae_title": "ME", "settle_s": 1.0, "keep_hours": 1.0}
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} "):
        listen(tmp_path / "spool", **{**settings, option: value})  # type: ignore[arg-type]
    assert not (tmp_path / "spool").exists()


def test_without_an_archive_results_that_wait_for_it_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.deploy.listener._work", AsyncMock())
    result(tmp_path)
    listen(tmp_path / "spool", "", "127.0.0.1", 0, "ME", 1.0, 1.0, engine=Mock(Engine))
    assert [path.name for path in (tmp_path / "spool" / "done").iterdir()] == ["1"]


@pytest.mark.skipif(
    not shutil.which("storescu") or not shutil.which("storescp"), reason="no DCMTK: apt-get install dcmtk"
)
def test_a_study_goes_through_the_real_node_from_and_to_dcmtk(tmp_path: Path) -> None:
    """DCMTK sends the sample's films; an archive of DCMTK's takes what comes back, and it is what was asked for."""
    port, archive_port, inbox = free_port(), free_port(), tmp_path / "archive"
    inbox.mkdir()
    for name in ("ap", "lat"):
        write_dicom(tmp_path / name, name)
    (tmp_path / "machine.yaml").write_text("beam: parallel\nsimultaneous: true\n")
    options = ["--send_to", f"ARCHIVE@127.0.0.1:{archive_port}", "--geometry", str(tmp_path / "machine.yaml")]
    command = [sys.executable, "-W", "ignore", "-m", "scripts", "listen", "--spool", str(tmp_path / "spool")]
    archive_command = ["storescp", "-aet", "ARCHIVE", "-od", str(inbox), "+B", str(archive_port)]
    with (
        subprocess.Popen(archive_command) as receiver,
        subprocess.Popen([*command, "--port", str(port), "--settle_s", "0.5", *options], cwd=ROOT) as node,
    ):
        try:
            assert wait_for(lambda: is_listening(port), 60)
            films = [str(tmp_path / name) for name in ("ap", "lat")]
            subprocess.run(["storescu", "-aec", "SPINE3D", "127.0.0.1", str(port), *films], check=True)
            done = tmp_path / "spool" / "done"
            ended = lambda: any(done.iterdir()) or any((tmp_path / "spool" / "failed").iterdir())  # noqa: E731
            assert wait_for(ended, 180)
            assert any(done.iterdir())
        finally:
            node.terminate()
            receiver.terminate()
    objects = [pydicom.dcmread(path) for path in inbox.iterdir()]
    assert {item.Modality for item in objects} == {"SEG", "M3D"} and len(objects) >= 7
    assert all(item.PatientID == "4711" for item in objects)
