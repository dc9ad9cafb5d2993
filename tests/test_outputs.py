"""Where outputs go: links, files in the way, full disks, and processes that are told to end or killed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scripts.__main__ import main
from scripts.command import run_command
from scripts.errors import UserError
from scripts.io import atomic
from scripts.io.atomic import atomic_file, atomic_folder, atomic_path, check_file, check_folder, write_text
from scripts.learning.handlers import save_weights
from tests.conftest import ROOT, SAMPLE

FILMS = [f"--{name}={SAMPLE}/{name}.nii.gz" for name in ("ap", "lat")]
MARKS = f"--annotations={SAMPLE}/annotations.json"


def fill(target: Path, text: str) -> None:
    with atomic_folder(target, "done") as work:
        (work / "done").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_links_to_folders_and_files_are_followed(there: bool, tmp_path: Path) -> None:
    """Also those whose target is not there yet: the link stays one."""
    (tmp_path / "far").mkdir()
    folder, file = tmp_path / "folder", tmp_path / "file.txt"
    folder.symlink_to("far/folder")
    file.symlink_to("far/file.txt")
    if there:
        fill(tmp_path / "far" / "folder", "old")
        (tmp_path / "far" / "file.txt").write_text("old")
    for text in ("1", "2"):
        fill(folder, text)
        write_text(file, text)
        assert folder.is_symlink() and file.is_symlink()
        assert (tmp_path / "far" / "folder" / "done").read_text() == (tmp_path / "far" / "file.txt").read_text() == text
    assert names(tmp_path) == ["far", "file.txt", "folder"] and names(tmp_path / "far") == ["file.txt", "folder"]


def test_what_is_in_the_way_is_known_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a film is read: the films named here do not exist."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    no_films = ["--ap=no.png", "--lat=no.png"]
    for output, words in {
        "file": "no earlier result", "mine": "no earlier result", "file/out": "Not a directory", "loop/out": "",
        "/proc/out": "", ".": "the folder that this command runs in",
    }.items():  # fmt: skip
        where = output if output == "." else str(tmp_path / output)
        assert main(["reconstruct", *no_films, f"--output={where}"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {where}") and words in said and len(said.splitlines()) == 1
    for output, words in {
        "mine": "is a folder where a file is due", "file/a.json": "", "marks.png": "the name of the picture",
        "loop": "", "/dev/null": "is a device",
    }.items():  # fmt: skip
        where = str(tmp_path / output)
        assert main(["annotate", *no_films, f"--output={where}"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {where}") and words in said and len(said.splitlines()) == 1
    assert main(["reconstruct", *no_films, f"--output={tmp_path}/new/er/out"]) == 1
    assert main(["annotate", *no_films, f"--output={tmp_path}/new/er/a.json"]) == 1
    assert "no.png" in capsys.readouterr().err
    assert names(tmp_path) == ["file", "here", "loop", "mine"] and Path("/dev/null").is_char_device()


def test_a_disk_with_too_little_room_is_known_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * 2**20))
    assert main(["reconstruct", "--ap=no.png", "--lat=no.png", f"--output={tmp_path}/out"]) == 1
    assert "the disk has 3 MB free, 16 MB are needed" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fills_up_is_one_line_and_leaves_the_old(number: int, tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    write_text(tmp_path / "a.txt", "old")
    writers: list[Callable[[], object]] = [
        lambda: atomic_folder(tmp_path / "out", "done"),
        lambda: atomic_file(tmp_path / "a.txt"),
    ]
    for write, name in zip(writers, ("out", "a.txt"), strict=True):
        with pytest.raises(UserError, match=rf"{name}: cannot be written \({os.strerror(number)}"), write():  # type: ignore[attr-defined]
            raise OSError(number, os.strerror(number))
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out", "done"):
        Path(tmp_path / "none").read_text()
    assert names(tmp_path) == ["a.txt", "out"]
    assert (tmp_path / "out" / "done").read_text() == (tmp_path / "a.txt").read_text() == "old"


def test_a_really_full_disk(tmp_path: Path) -> None:
    """Linux has a device that is always full; libraries that lose the reason are helped by the disk's own word."""
    with pytest.raises(UserError, match="No space left"), atomic_folder(tmp_path / "out", "done") as work:
        (work / "done").symlink_to("/dev/full")
        with (work / "done").open("w") as stream:
            stream.write("x")
    assert names(tmp_path) == []


def test_a_full_disk_behind_an_error_of_pytorch(tmp_path: Path) -> None:
    """It says "unexpected pos" where there is no room; an error of its own after another one stays what it is."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"model.pt: cannot be written \(File too large\); make room"):
            save_weights({"a": torch.zeros(100_000)}, tmp_path / "model.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(RuntimeError, match="ours"), atomic_path(tmp_path / "model.pt"):
        try:
            (tmp_path / "none").read_text()
        except OSError:
            raise RuntimeError("ours")  # noqa: B904
    assert names(tmp_path) == []


def test_any_command_says_what_the_system_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    def command() -> None:
        """Do."""
        (tmp_path / "file" / "x").mkdir()

    assert run_command(command, []) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/file/x: Not a directory\n"

    def broken() -> None:
        """Do."""
        raise OSError("ours")

    with pytest.raises(OSError, match="ours"):
        run_command(broken, [])


def test_mounted_folders_are_filled_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container has them: neither the folder can be renamed nor is there room beside it."""
    target = tmp_path / "mount" / "out"
    target.mkdir(parents=True)
    inode = target.stat().st_ino
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == target)
    for text in ("1", "2"):
        fill(target, text)
        assert (target / "done").read_text() == text and names(target) == ["done"] and names(target.parent) == ["out"]
    with pytest.raises(RuntimeError), atomic_folder(target, "done") as work:
        (work / "done").write_text("3")
        raise RuntimeError
    assert (target / "done").read_text() == "2" and names(target) == ["done"] and target.stat().st_ino == inode


WRITER = """
import os, time
from pathlib import Path
from concurrent.futures import ProcessPoolExecutor
from scripts.command import run_module
from scripts.io.atomic import atomic_file, atomic_folder

def write(name):
    with atomic_folder(Path(name), "done") as work, atomic_file(Path(name + ".txt")) as stream:
        (work / "half").write_text("x" * 1000)
        stream.write("x")
        stream.flush()
        os.write(1, b"writing\\n")
        time.sleep(60)

def here(output: str) -> None:
    write(output)

def in_workers(output: str) -> None:
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(write, [output, output + "2", output + "3", output + "4"]))

if __name__ == "__main__":
    run_module({"here": here, "workers": in_workers})
"""


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    script = folder.parent / "writer.py"
    script.write_text(WRITER)
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, str(script), how, f"--output={folder}/out"], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Under nohup these tests are run with signals ignored, which processes inherit.
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)],
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(1 if how == "here" else 2):
        assert process.stdout.readline() == "writing\n"
    assert len(names(folder)) == (2 if how == "here" else 4)
    return process


@pytest.mark.parametrize("how", ["here", "workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_process_that_is_told_to_end_leaves_nothing(how: str, number: int, tmp_path: Path) -> None:
    if how == "workers" and number == signal.SIGINT:
        pytest.skip("a terminal tells the workers itself")
    process = start(tmp_path / "o", how)
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert process.stderr is not None and "Traceback" not in process.stderr.read()
    deadline = time.monotonic() + 10
    while names(tmp_path / "o") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert names(tmp_path / "o") == []


def test_what_a_killed_process_leaves_is_cleared_by_the_next(tmp_path: Path) -> None:
    """And what a living one is writing is not."""
    folder = tmp_path / "o"
    killed = start(folder, "here")
    killed.kill()
    killed.wait()
    assert len(names(folder)) == 2
    (folder / ".out.mine").touch()
    (folder / ".other.abcdefgh.part").touch()
    living = start(tmp_path / "p", "here")
    try:
        for path in (tmp_path / "p").iterdir():
            path.rename(folder / path.name)
        kept = {name for name in names(folder) if (folder / name).stat().st_mtime > 0}
        check_folder(folder / "out", "done")
        check_file(folder / "out.txt")
        left = set(names(folder))
        assert len(left) == len(kept) - 2 == 4 and {".out.mine", ".other.abcdefgh.part"} < left
        fill(folder / "out", "1")
        assert set(names(folder)) == left | {"out"}
    finally:
        living.kill()
        living.wait()
    fill(folder / "out", "2")
    write_text(folder / "out.txt", "2")
    assert names(folder) == [".other.abcdefgh.part", ".out.mine", "out", "out.txt"]


def test_an_old_result_that_was_being_replaced_comes_back(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / f".out.abcdefgh{atomic.OLD}")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out", "done"):
        raise RuntimeError
    assert (tmp_path / "out" / "done").read_text() == "old" and names(tmp_path) == ["out"]


def test_the_longest_name_has_room_for_what_is_unfinished(tmp_path: Path) -> None:
    name = "ä" * 127
    fill(tmp_path / name, "1")
    with atomic_path(tmp_path / f"{name[:-1]}x") as work:
        work.write_text("1")
    assert len(names(tmp_path)) == 2
