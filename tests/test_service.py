"""The service for jobs: queue, refusals, results, metrics, and what a stop leaves behind."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from unittest.mock import Mock

import httpx
import nibabel as nib
import numpy as np
import pytest
from fastapi import FastAPI, UploadFile
from fastapi.testclient import TestClient

from scripts.deploy.service import create_service, serve
from scripts.deploy.worker import Worker, process
from scripts.errors import UserError
from scripts.io.atomic import NoRoomError
from scripts.serving.engine import (
    MOST_WAITING,
    Engine,
    EngineBusyError,
    EngineDiedError,
    EngineTimeoutError,
    _guarded,
)
from scripts.serving.security import HEADERS, Guard
from scripts.serving.spool import MOST_ATTEMPTS, REASON, STUDY, Spool, SpoolFullError, State
from scripts.serving.uploads import FILM_SUFFIXES, save_upload
from scripts.viewer.serve import bind
from tests.conftest import ROOT, SAMPLE
from tests.dicom_films import write_dicom
from tests.viewer_service import engines, wait_for, wait_until_healthy

FILMS = {"ap": b"1", "lat": b"2"}


class Pretence(Engine):
    """An engine that does as it is told."""

    def __init__(self, *does: object) -> None:
        super().__init__()
        self.does = list(does)

    async def call(self, function: str, *arguments: object) -> None:
        what = self.does.pop(0) if self.does else None
        if isinstance(what, float):
            await asyncio.sleep(what)
        if isinstance(what, Exception):
            raise what
        output = Path(str(arguments[0])) / "output"
        output.mkdir()
        (output / "report.json").write_text("{}")


def pretended(tmp_path: Path, *does: object, capacity: int = 2) -> tuple[FastAPI, Spool]:
    spool = Spool(tmp_path / "spool", capacity)
    return create_service(Guard({"testserver"}), spool, engine=Pretence(*does)), spool


def hand_in(client: TestClient, **more: bytes) -> httpx.Response:
    files = {name: (f"{name}.png", data) for name, data in {**FILMS, **more}.items()}
    return client.post("/jobs", files=files)


def test_a_job_waits_is_done_and_is_forgotten(tmp_path: Path) -> None:
    app, spool = pretended(tmp_path, 0.5)
    with TestClient(app) as client:
        answer = hand_in(client)
        assert answer.status_code == 202
        name = answer.json()["id"]
        assert client.get(f"/jobs/{name}/result").status_code == 409
        wait_for(lambda: client.get(f"/jobs/{name}").json()["state"] == "done", 20)
        with zipfile.ZipFile(io.BytesIO(client.get(f"/jobs/{name}/result").content)) as archive:
            assert archive.namelist() == ["report.json"]
        metrics = client.get("/metrics").text
        assert 'jobs_ended_total{state="done"} 1.0' in metrics and "jobs_waiting 0.0" in metrics
        assert client.delete(f"/jobs/{name}").status_code == 200
        assert client.get(f"/jobs/{name}").status_code == 404
        for unknown in ("..%2f..%2fetc", "a" * 300, "%00", "..", name + "x"):
            assert client.get(f"/jobs/{unknown}").status_code == 404
    assert not any(spool.receiving.iterdir())


def test_too_many_are_refused_and_told_when_to_come_back(tmp_path: Path) -> None:
    app, spool = pretended(tmp_path, 60.0, capacity=2)
    with TestClient(app) as client:
        first = hand_in(client).json()["id"]
        wait_for(lambda: client.get(f"/jobs/{first}").json()["state"] == "working", 20)
        waiting = [hand_in(client).json() for _ in range(2)]
        assert [job["before"] for job in waiting] == [0, 1]
        refused = hand_in(client)
        assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0
        assert "jobs_refused_total 1.0" in client.get("/metrics").text
        assert client.delete(f"/jobs/{first}").status_code == 409  # it is in the engine
        assert client.delete(f"/jobs/{waiting[1]['id']}").status_code == 200
        assert hand_in(client).status_code == 202
        app.state.grace_s = 0.1
    # The stop came before the job was done: it waits again, and the others still do.
    assert spool.count(State.WAITING) == 3 and spool.count(State.WORKING) == 0
    assert not (spool.folder / "waiting" / first / "output").exists()


def test_a_running_job_is_finished_before_the_end(tmp_path: Path) -> None:
    app, spool = pretended(tmp_path, 1.0)
    with TestClient(app) as client:
        name = hand_in(client).json()["id"]
        wait_for(lambda: client.get(f"/jobs/{name}").json()["state"] == "working", 20)
    assert spool.find(name) == (State.DONE, spool.folder / "done" / name)


def test_bad_films_are_refused_or_fail_with_their_reason(tmp_path: Path) -> None:
    app, spool = pretended(tmp_path, UserError("ap.png: not a picture"))
    with TestClient(app) as client:
        bad = client.post("/jobs", files={"ap": ("ap.exe", b"1"), "lat": ("lat.png", b"2")})
        assert bad.status_code == 400 and "cannot be opened" in bad.json()["error"]
        assert client.post("/jobs", files={"ap": ("ap.png", b""), "lat": ("lat.png", b"2")}).status_code == 400
        assert client.post("/jobs", files={"ap": ("ap.png", b"1")}).status_code == 422
        films = {name: (f"{name}.png", data) for name, data in FILMS.items()}
        wrong = client.post("/jobs", files=films, data={"anchor": "L11"})
        assert wrong.status_code == 400 and "L11" in wrong.json()["error"]
        for data, query, said in (
            ({"spacing": "0.14"}, "", "unknown: spacing;"), ({"anotations": "{}"}, "", "unknown: anotations;"),
            ({}, "?anchor=L5", "unknown: anchor;"), ({"anchor": ["L5", "L4"]}, "", "given twice: anchor"),
        ):  # fmt: skip
            ignored = client.post(f"/jobs{query}", files=films, data=data)
            assert ignored.status_code == 400 and said in ignored.json()["error"]
        assert client.get("/", headers={"Host": "elsewhere"}).status_code == 421
        assert not any(spool.receiving.iterdir()) and spool.count(State.WAITING) == 0
        name = hand_in(client).json()["id"]
        wait_for(lambda: client.get(f"/jobs/{name}").json()["state"] == "failed", 20)
        assert client.get(f"/jobs/{name}").json()["error"] == "ap.png: not a picture"


def test_errors_name_the_files_as_they_were_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = pretended(tmp_path, UserError("done with"))
    films = {"ap": ("Spine 1.png", b"no picture"), "lat": ("/home/me/Spine 2.png", b"neither")}
    with TestClient(app) as client:
        name = client.post("/jobs", files=films).json()["id"]
        wait_for(lambda: client.get(f"/jobs/{name}").json()["state"] == "failed", 20)
    with pytest.raises(UserError) as error:
        process(str(tmp_path / "spool" / "failed" / name))
    assert str(error.value).startswith("Spine 1.png: ") and str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("1.2.840.113619.2.55.3", bytes(128) + b"DICM\x02\0", "ap.dcm"),
        ("IM000001", b"anything", "ap.dcm"),
        ("1.2.840.113619.2.55.3", b"no film", None),
        ("film.ima", bytes(128) + b"DICM\x02\0", "ap.dcm"),
    ],
)
def test_dicom_files_need_no_ending(tmp_path: Path, name: str, content: bytes, kept: str | None) -> None:
    upload = UploadFile(io.BytesIO(content), filename=name)
    if kept is None:
        with pytest.raises(UserError, match=re.escape(name)):
            save_upload(upload, tmp_path, "ap", FILM_SUFFIXES)
        return
    assert save_upload(upload, tmp_path, "ap", FILM_SUFFIXES) == kept
    assert (tmp_path / kept).read_bytes() == content


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, spool = pretended(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(client: TestClient, **files: bytes) -> bool:
        answer = hand_in(client, **files)
        return answer.status_code == 507 and "disk is full" in answer.json()["error"]

    # Of temporary files, which large uploads are kept in first, or of the spool.
    full_folders = ("tempfile.SpooledTemporaryFile.rollover", "scripts.serving.uploads.shutil.copyfileobj")
    with TestClient(app, raise_server_exceptions=False) as client:
        for place in full_folders:
            with monkeypatch.context() as patch:
                patch.setattr(place, full)
                assert refused(client, ap=bytes(2 * 2**20))
        monkeypatch.setattr("scripts.deploy.service.write_json", no_room)
        assert refused(client)
    assert not any(spool.receiving.iterdir())
    with pytest.raises(UserError, match="disk is full"):
        _guarded("tests.test_service.fill_disk")


def no_room(*_: object) -> None:
    raise NoRoomError("reason.txt: cannot be written (No space left on device)")


def test_a_full_disk_stops_the_worker_only_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a reason nor an attempt can be written; the job waits until there is room."""
    monkeypatch.setattr("scripts.deploy.worker.TROUBLE_S", 0.01)
    spool = Spool(tmp_path)
    name = spool.accept(lambda study: (study / "ap.png").write_bytes(b"1"))
    engine = Pretence(
        UserError("no scale"), EngineDiedError(), NoRoomError("full"), OSError(errno.EIO, "?"), UserError("!")
    )
    monkeypatch.setattr("scripts.serving.spool.write_text", no_room)
    monkeypatch.setattr(spool, "count_attempt", fill_disk)

    async def work() -> None:
        worker = Worker(spool, engine)
        running = asyncio.create_task(worker.run())
        while len(engine.does) > 1:
            await asyncio.sleep(0.001)
        monkeypatch.undo()
        while spool.count(State.FAILED) == 0 and not running.done():
            await asyncio.sleep(0.01)
        worker.stop()
        await running

    asyncio.run(asyncio.wait_for(work(), 30))
    assert (tmp_path / "failed" / name / REASON).read_text() == "!\n"


def test_no_job_is_taken_when_nobody_works(tmp_path: Path, service_log: pytest.LogCaptureFixture) -> None:
    app, spool = pretended(tmp_path, RuntimeError("Mr Secret"))
    with TestClient(app) as client:
        assert hand_in(client).status_code == 202
        wait_for(lambda: client.get("/healthz").status_code == 503, 20)
        answer = hand_in(client)
        assert answer.status_code == 503 and "the worker has stopped" in answer.json()["error"]
    assert spool.count(State.WAITING) == 0 and not any(spool.receiving.iterdir())
    assert "RuntimeError at " in service_log.text and "Secret" not in service_log.text


def fill_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_job_that_ends_its_engine_is_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    poison = spool.accept(lambda study: (study / "ap.png").write_bytes(b"1"))
    worker = Worker(spool, Pretence(*[EngineDiedError()] * MOST_ATTEMPTS))

    async def work() -> None:
        running = asyncio.create_task(worker.run())
        while spool.count(State.FAILED) == 0:
            await asyncio.sleep(0.01)
        worker.stop()
        await running

    asyncio.run(asyncio.wait_for(work(), 30))
    assert "3 times" in (tmp_path / "failed" / poison / REASON).read_text()


def test_a_job_that_takes_too_long_fails_and_the_next_is_done(tmp_path: Path) -> None:
    app, _ = pretended(tmp_path, EngineTimeoutError())
    with TestClient(app) as client:
        names = [hand_in(client).json()["id"] for _ in range(2)]
        wait_for(lambda: client.get(f"/jobs/{names[1]}").json()["state"] == "done", 20)
        assert client.get(f"/jobs/{names[0]}").json()["error"] == "not done after 15 minutes, and ended"


def test_a_call_that_hangs_is_ended_and_those_behind_it_move_up() -> None:
    """Nothing is pretended here: the process sleeps, and is not there afterwards."""
    engine, told = Engine("time", limit_s=60.0), []

    async def calls() -> None:
        with pytest.raises(UserError, match="TypeError"):
            await engine.call("sleep", "no number")  # the process has started
        (pid,) = engine.pids()
        slow = asyncio.create_task(engine.call("sleep", 600, limit_s=0.5))
        gone = asyncio.create_task(engine.call("sleep", 600))
        last = asyncio.create_task(engine.call("monotonic", on_queue=told.append))
        await asyncio.sleep(0.1)
        assert told == [2]
        gone.cancel()
        with pytest.raises(EngineTimeoutError, match="took too long"):
            await slow
        assert await last > 0 and told == [2, 1, 0]
        assert not Path(f"/proc/{pid}").exists() and engine.pids() != [pid]
        # Who goes away while it runs does not have it ended; the next waits for it.
        left = asyncio.create_task(engine.call("sleep", 1.0))
        await asyncio.sleep(0.1)
        left.cancel()
        started = time.monotonic()
        await engine.call("monotonic", limit_s=0.5)
        assert time.monotonic() - started > 0.5
        engine._queue.update(dict.fromkeys(range(MOST_WAITING), lambda before: None))
        with pytest.raises(EngineBusyError):
            await engine.call("monotonic")

    asyncio.run(asyncio.wait_for(calls(), 120))
    engine.stop()


def test_an_engine_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.serving.engine._begin", break_down)
    engine = Engine("time")
    with pytest.raises(EngineDiedError, match="the engine stopped"):
        asyncio.run(engine.call("monotonic"))
    monkeypatch.undo()
    assert asyncio.run(engine.call("monotonic")) > 0
    engine.stop()


def break_down(_: int) -> None:
    raise OSError(errno.ENOMEM, "no memory")


def test_the_service_has_the_guards_of_the_viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    client = TestClient(create_service(Guard({"testserver"}, "secret"), spool, engine=Pretence()))
    bearer = {"Authorization": "Bearer secret"}
    assert client.get("/metrics", headers=bearer).status_code == 200
    assert client.get("/metrics", headers={"Authorization": "Bearer g\xe9heim".encode("latin-1")}).status_code == 401
    assert client.get("/metrics", headers={**bearer, "Origin": "https://testserver"}).status_code == 403
    monkeypatch.setattr(spool, "find", Mock(side_effect=RuntimeError("Mr Secret")))
    answer = client.get("/jobs/x", headers=bearer)
    assert answer.status_code == 500 and "Secret" not in answer.text and answer.json()["error"]
    assert all(answer.headers[name] == value for name, value in HEADERS.items())


def test_a_full_spool_takes_no_more(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=1000)
    client = TestClient(create_service(Guard({"testserver"}), spool, engine=Pretence()))
    assert hand_in(client).status_code == 202
    spool.accept(lambda study: (study / "film").write_bytes(bytes(1000)))
    answer = hand_in(client)
    assert answer.status_code == 429 and "take all the room" in answer.json()["error"]
    assert spool.count(State.WAITING) == 2


def test_spool_is_private_bounded_and_held_by_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", capacity=1)
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    spool.accept(lambda study: None)
    with pytest.raises(SpoolFullError):
        spool.accept(lambda study: None)
    working = spool.take()
    assert working is not None and (working / STUDY).is_dir()
    with pytest.raises(OSError, match="full"):
        spool.accept(lambda study: (_ for _ in ()).throw(OSError("disk full")))
    (spool.receiving / "123.never-confirmed").mkdir()
    with spool.opened():
        # What the last process was at waits again; what it never confirmed is gone.
        assert spool.count(State.WAITING) == 1 and not any(spool.receiving.iterdir())
    job = spool.take()
    assert job is not None
    spool.move(job.name, State.WORKING, State.DONE)
    assert spool.forget_older_than(3600) == []
    os.utime(tmp_path / "spool" / "done" / job.name, (0, time.time() - 7200))
    assert spool.forget_older_than(3600) == [job.name]


def test_only_folders_are_jobs(tmp_path: Path) -> None:
    """What operating systems leave behind neither blocks the queue nor keeps the service from its start."""
    spool = Spool(tmp_path)
    for folder in (spool.receiving, *(tmp_path / state for state in State)):
        (folder / ".DS_Store").write_text("")
        (folder / "Thumbs.db").write_text("")
        os.utime(folder / "Thumbs.db", (0, 0))
    with spool.opened():
        name = spool.accept(lambda study: None)
        assert spool.position(name) == 0 and [spool.count(state) for state in State] == [1, 0, 0, 0, 0]
        job = spool.take()
        assert job is not None and job.name == name
        assert spool.forget_older_than(60) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("port", 99999), ("port", -1), ("capacity", 0), ("keep_hours", math.nan), ("keep_hours", -1.0), ("most_gb", 0.0)],
)
def test_a_service_does_not_start_with_what_it_cannot_work_with(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} is a number"):
        serve(tmp_path / "spool", **{option: value})  # type: ignore[arg-type]
    assert not (tmp_path / "spool").exists()
    if option == "port":  # of the viewer too
        with pytest.raises(UserError, match="--port is a number"):
            bind("127.0.0.1", int(value))


def test_a_failed_job_is_logged_without_the_users_names(tmp_path: Path, service_log: pytest.LogCaptureFixture) -> None:
    app, spool = pretended(tmp_path, UserError("Doe_Jane.png: not a picture"))
    with TestClient(app) as client:
        name = hand_in(client).json()["id"]
        wait_for(lambda: client.get(f"/jobs/{name}").json()["state"] == "failed", 20)
    assert f"job {name} has failed: see reason.txt in its folder" in service_log.text and "Doe" not in service_log.text
    folder = spool.receiving / "1"
    folder.mkdir()
    spool.reject(folder, "the study: no film says that it is the LAT view")
    assert "has failed: the study: no film says that it is the LAT view" in service_log.text


def test_a_result_is_on_the_disk_before_its_job_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, spool = pretended(tmp_path)
    synced: list[bool] = []

    def sync(job: Path) -> None:
        synced.append((job / "output" / "report.json").is_file() and job.parent.name == State.WORKING)

    monkeypatch.setattr("scripts.deploy.worker.sync", sync)
    with TestClient(app) as client:
        hand_in(client)
        wait_for(lambda: spool.count(State.DONE) == 1, 20)
    assert synced == [True]


def documented_requests(address: str, folder: Path) -> dict[str, list[str]]:
    """The curl commands of docs/deployment.md by the last word of their address, for this service and folder."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    commands = [shlex.split(line) for line in re.findall(r"`(curl [^`]*)`", page)]
    found = {}
    for words in commands:
        words = [word.replace("http://127.0.0.1:8766/", address) for word in words]
        words = [
            re.sub(r"@(\w+\.dcm)", rf"@{folder}/\1", word).replace("spine.zip", f"{folder}/spine.zip") for word in words
        ]
        found["forget" if "DELETE" in words else words[-1].rsplit("/", 1)[1]] = [*words, "--silent", "--fail"]
    return found


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
def test_the_documented_requests_through_the_real_service_and_a_killed_engine(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "scripts", "serve", "--spool", str(tmp_path / "spool")]
    service = subprocess.Popen(
        [*command, "--port", "0"], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert service.stdout is not None
    try:
        address = re.match(r"(http://\S+/)", service.stdout.readline())
        assert address
        wait_until_healthy(address[1])
        for film in ("ap", "lat"):
            write_dicom(tmp_path / f"{film}.dcm", film)
        requests = documented_requests(address[1], tmp_path)

        def ask(name: str, *more: str) -> str:
            words = [word.replace("ID", job) for word in requests[name]]
            return subprocess.run([*words, *more], capture_output=True, text=True, check=True).stdout

        job = ""
        job = json.loads(ask("jobs", "-F", f"annotations=@{SAMPLE / 'annotations.json'}", "-F", "anchor=L2"))["id"]
        wait_for(lambda: json.loads(ask("ID"))["state"] == "working", 30)
        wait_for(lambda: len(engines(service.pid)) == 1, 30)
        for engine in engines(service.pid):
            os.kill(engine, signal.SIGKILL)
        wait_for(lambda: json.loads(ask("ID"))["state"] in ("done", "failed"), 240)
        assert json.loads(ask("ID"))["state"] == "done", ask("ID")
        ask("result")
        with zipfile.ZipFile(tmp_path / "spine.zip") as archive:
            assert {"spine.nii.gz", "report.html", "dicom/spine.seg.dcm", "spine.glb"} <= set(archive.namelist())
            archive.extract("spine.nii.gz", tmp_path)
        # The sample's marks go from T1 to L1; the anchor says that the lowest one is L2.
        assert set(np.unique(np.asanyarray(nib.load(tmp_path / "spine.nii.gz").dataobj))) == {0, *range(9, 22)}
        assert json.loads(ask("healthz"))["status"] == "ok" and "jobs_ended_total" in ask("metrics")
        ask("forget")
        assert not any((tmp_path / "spool" / "done").iterdir())
    finally:
        service.terminate()
        assert service.wait(60) in (0, -signal.SIGTERM)
