"""The viewer's service: who may ask, what may be sent, and that nothing stays behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from scripts.viewer import store
from tests.conftest import ROOT
from tests.viewer_service import engines, service, wait_for

SAMPLE = ROOT / "docs" / "sample"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with service() as found:
        yield found


def browser(address: str) -> httpx.Client:
    """A client with the cookies of a browser that has loaded the page."""
    client = httpx.Client(base_url=address, timeout=300)
    client.get("/").raise_for_status()
    return client


def test_vendored_code_is_what_was_published() -> None:
    folder = ROOT / "scripts" / "viewer" / "static" / "vendor"
    sums = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
    scripts = ["three.core.min.js", "three.module.min.js"]
    assert sorted(name for _, name in sums) == sorted(path.name for path in folder.glob("*.js")) == scripts
    for digest, name in sums:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "MIT" in (folder / "three.LICENSE").read_text()


def test_page_names_nothing_outside() -> None:
    static = ROOT / "scripts" / "viewer" / "static"
    files = [*static.glob("*.js"), *static.glob("*.html"), *static.glob("*.css")]
    assert len(files) > 5
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        # Nor without a scheme, as in src="//host/file".
        assert "https://" not in text and not re.search(r"""http:|["'(]//""", text), path.name


def test_only_this_machine_s_names_and_pages_are_answered(address: str) -> None:
    client = browser(address)
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/api/sample", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/sample", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" in httpx.get(address).headers and "HttpOnly" in httpx.get(address).headers["set-cookie"]


def test_two_browsers_never_see_each_other_s_case(address: str) -> None:
    mine, other = browser(address), browser(address)
    case = mine.post("/api/sample").json()
    assert case["name"] == "LIDC-IDRI-0001" and len(case["marks"]["ap"]["vertebrae"]) == 13
    path = f"/api/cases/{case['id']}"
    assert mine.get(path).status_code == 200
    for method, where in (("GET", path), ("GET", f"{path}/ap.png"), ("GET", f"{path}/session"), ("DELETE", path)):
        assert other.request(method, where).status_code == 404, where
    assert other.put(f"{path}/marks", json={"views": {}}).status_code == 404
    assert httpx.get(f"{address}api/cases/{case['id']}").status_code == 404
    assert mine.get(path).status_code == 200


def test_marks_are_checked_and_the_old_ones_stay(address: str) -> None:
    client = browser(address)
    case = client.post("/api/sample").json()
    path = f"/api/cases/{case['id']}/marks"
    views = json.loads(json.dumps(case["marks"]))
    views["ap"]["vertebrae"][0]["centroid"][0] += 7
    moved = client.put(path, json={"views": views}).json()
    assert moved["vertebrae"][0]["residual_mm"] == pytest.approx(7, abs=0.01)
    views["ap"]["vertebrae"][0]["level"] = "T99"
    for bad in ({"views": views}, {"views": 3}, {}, [1], {"views": {"ap": views["ap"]}}):
        answer = client.put(path, json=bad)
        assert answer.status_code == 400 and "\n" not in answer.json()["error"], bad
        assert tempfile.gettempdir() not in answer.text
    kept = client.get(f"/api/cases/{case['id']}").json()
    assert kept["vertebrae"][0]["level"] == "T1" and kept["vertebrae"][0]["residual_mm"] == pytest.approx(7, abs=0.01)


def test_whether_levels_are_uncertain_is_kept_with_the_marks(address: str) -> None:
    client = browser(address)
    case = client.post("/api/sample").json()
    path = f"/api/cases/{case['id']}"
    assert case["levels_uncertain"] is False
    for said in (True, False):
        marks = {"views": case["marks"], "levels_uncertain": said}
        assert client.put(f"{path}/marks", json=marks).status_code == 200
        assert client.get(path).json()["levels_uncertain"] is said
        assert client.get(f"{path}/session").json()["levels_uncertain"] is said


def test_what_cannot_be_opened_is_refused_in_one_line(address: str) -> None:
    client = browser(address)
    film = (SAMPLE / "ap.nii.gz").read_bytes()
    tries = [
        ({"ap": ("a.exe", film), "lat": ("l.nii.gz", film)}, 400),
        ({"ap": ("../../a.nii.gz", film[:2000]), "lat": ("l.nii.gz", film)}, 400),
        ({"ap": ("a.nii.gz", b""), "lat": ("l.nii.gz", film)}, 400),
        ({"ap": ("a.png", b"no picture"), "lat": ("l.png", b"neither")}, 400),
        ({"ap": ("a.nii.gz", film)}, 422),
    ]
    for files, status in tries:
        answer = client.post("/api/cases", files=files)
        assert answer.status_code == status, answer.text
        assert "Traceback" not in answer.text and tempfile.gettempdir() not in answer.text
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port or 80)) as raw:
        raw.sendall(f"POST /api/cases HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 400000000\r\n\r\n".encode())
        assert b" 413 " in raw.recv(100)


def test_errors_name_the_user_s_files_and_fields(address: str) -> None:
    client = browser(address)
    film, lat = ((SAMPLE / f"{name}.nii.gz").read_bytes() for name in ("ap", "lat"))
    marks = json.loads((SAMPLE / "annotations.json").read_text())
    marks["views"]["ap"]["vertebrae"][2]["centroid"][0] = float("nan")
    films = {"ap": ("Spine 1.nii.gz", film), "lat": ("Spine 2.nii.gz", lat)}
    tries = {
        "Spine 1.exe: a file of this kind": {**films, "ap": ("Spine 1.exe", film)},
        "Spine 1.nii.gz: truncated or damaged": {**films, "ap": ("C:\\films\\Spine 1.nii.gz", film[:2000])},
        "Spine 2.nii.gz: the file is empty": {**films, "lat": ("Spine 2.nii.gz", b"")},
        "my marks.json: at $.views.ap.vertebrae[2].centroid[0]": {
            **films,
            "annotations": ("my marks.json", json.dumps(marks)),
        },
        "deep.json: not a readable JSON file": {**films, "annotations": ("deep.json", "[" * 100_000)},
        "bomb.yaml: ": {**films, "geometry": ("bomb.yaml", "a: &a [*a]")},
    }
    for words, files in tries.items():
        answer = client.post("/api/cases", files=files)
        assert answer.status_code == 400 and answer.json()["error"].startswith(words), answer.text
        assert tempfile.gettempdir() not in answer.text
    answer = client.post("/api/cases", files=films, data={"options": '{"spacing": [NaN]}'})
    assert answer.status_code == 400 and "options of the films: at $.spacing[0]" in answer.json()["error"]
    case = client.post("/api/sample").json()
    path = f"/api/cases/{case['id']}"
    for body, words in (
        ('{"views": {"ap": {"shape": [NaN, 3]}}}', "the marks: at $.views.ap.shape[0]: nan is no finite number"),
        ('{"views": {"ap": 3}}', "the marks: at $.views"),
        ("[" * 50_000, "the marks: no readable JSON"),
        ("no", "the marks: no readable JSON"),
    ):
        answer = client.put(f"{path}/marks", content=body)
        assert answer.status_code == 400 and answer.json()["error"].startswith(words), answer.text
    assert client.post(f"{path}/reconstruct", content="[" * 50_000).status_code == 400
    assert client.get(path).json()["marks"] == case["marks"]


def test_marks_that_run_the_wrong_way_are_told_and_not_reconstructed(address: str) -> None:
    client = browser(address)
    case = client.post("/api/sample").json()
    path = f"/api/cases/{case['id']}"
    views = json.loads(json.dumps(case["marks"]))
    for view in views.values():
        levels = [mark["level"] for mark in view["vertebrae"]]
        for mark, level in zip(view["vertebrae"], reversed(levels), strict=True):
            mark["level"] = level
    told = client.put(f"{path}/marks", json={"views": views}).json()
    assert told["warnings"][0].startswith("the AP and LAT marks run from foot to head")
    (line,) = client.post(f"{path}/reconstruct", json={"levels": ["T7"]}).text.splitlines()
    assert "run from foot to head" in json.loads(line)["error"]


def test_films_of_one_s_own_open_with_their_marks(address: str, tmp_path: Path) -> None:
    client = browser(address)
    names = {"ap": "ap.nii.gz", "lat": "lat.nii.gz", "annotations": "annotations.json"}
    answer = client.post("/api/cases", files={key: (name, (SAMPLE / name).read_bytes()) for key, name in names.items()})
    case = answer.json()
    assert answer.status_code == 200 and len(case["vertebrae"]) == 13
    picture = client.get(f"/api/cases/{case['id']}/lat.png").content
    (tmp_path / "lat.png").write_bytes(picture)
    assert list(np.asarray(Image.open(tmp_path / "lat.png")).shape) == case["views"]["lat"]["shape"]


def test_numbers_are_those_of_the_report(address: str) -> None:
    """Confidences and angles of neighbours, one by one; a vertebra is as sure beside them as the report has it."""
    client = browser(address)
    path = f"/api/cases/{client.post('/api/sample').json()['id']}"
    levels = ["T10", "T11", "T12"]
    client.post(f"{path}/reconstruct", json={"levels": levels}).raise_for_status()
    shown = client.get(f"{path}/measurements", params={"levels": ",".join(levels)}).json()
    report = client.get(f"{path}/export/json", params={"levels": ",".join(levels)}).json()
    assert [row["level"] for row in shown["vertebrae"]] == levels
    for row, told in zip(shown["vertebrae"], report["vertebrae"], strict=True):
        assert row["confidence"] == told["confidence"] and row["flags"] == told["flags"]
        for name, key in (("rotation", "axial_rotation"), ("wedge", "wedge_sagittal")):
            angle = told["measurements"][key]
            assert row[name] == f"{angle['degrees']:.1f}° ± {angle['sd']:.1f}" and angle["sd"] > 0
        assert row["heights_mm"] == "/".join(f"{h:.0f}" for h in told["measurements"]["heights_mm"])
    bend = report["measurements"]["cobb"]
    assert [row["text"] for row in shown["curves"] if "Cobb" in row["name"]] == [
        f"{c['degrees']:.1f}° ± {c['sd']:.1f}" for c in bend
    ]


def test_other_addresses_need_the_token() -> None:
    with service("--host", "127.0.0.1") as local:
        assert "token" not in local
    from fastapi.testclient import TestClient

    from scripts.serving.security import Guard
    from scripts.viewer.app import create_app

    client = TestClient(
        create_app(Guard({"ward:80"}, "secret")), base_url="http://ward:80", headers={"Host": "ward:80"}
    )
    assert client.get("/").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/?token=secret").status_code == 200
    assert client.get("/").status_code == 200  # the browser keeps it as a cookie


def test_nothing_stays_behind(tmp_path: Path) -> None:
    """Not after the end, and not after a kill once the next service starts."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scripts", "view", "--port", "0", "--browser", "False"]

    def folders() -> list[Path]:
        return list(tmp_path.glob(f"{store.PREFIX}*"))

    def start_and(stop: str) -> None:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and "http" in process.stdout.readline()
        wait_for(lambda: len(folders()) == 1 and str(process.pid) in folders()[0].name)
        assert oct(folders()[0].stat().st_mode)[-3:] == "700"
        wait_for(lambda: len(engines(process.pid)) == 1)
        (engine,) = engines(process.pid)
        getattr(process, stop)()
        process.wait(30)
        wait_for(lambda: not Path(f"/proc/{engine}").exists(), 20)

    start_and("kill")
    start_and("terminate")
    wait_for(lambda: not folders(), 20)


def test_cases_of_one_browser_are_limited() -> None:
    kept = store.Store()
    try:
        names = []
        for _ in range(store.MOST_CASES + 3):
            names.append(kept.create("me")[0])
            time.sleep(0.002)
        yours = kept.create("you")[0]
        assert len(kept.cases) == store.MOST_CASES + 1 and names[-1] in kept.cases and names[0] not in kept.cases
        assert kept.find(yours, "me") is None and kept.find(yours, "you") is not None
        assert len(list(kept.root.iterdir())) == store.MOST_CASES + 1
    finally:
        kept.close()
    assert not kept.root.exists()
