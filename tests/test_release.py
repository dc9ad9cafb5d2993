"""What is handed out: the zip, its checksums and papers, and what refuses to be handed out."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser

from scripts.errors import UserError
from scripts.io.checksums import changed_files, check_released, checksum_lines, read_checksums
from scripts.learning.compact import compact
from scripts.reconstruction.predictor import Predictor
from scripts.release import rules, zoo
from scripts.release.archive import write_zip
from scripts.release.build import large_file_list, release, run_tests
from scripts.release.bundle import FILES, Bundle
from scripts.release.requirements import canonical, read_packages
from scripts.release.weights import main as write_weights
from tests.bundle_command import ROOT, bundle, config, documented, fill, python, tiny

NAME = Bundle(ROOT).name
DEPLOY = ROOT / ".venv-deploy" / "bin" / "python"


def copy_tree(target: Path, weights: bool = True) -> Path:
    """This bundle with a tiny network and one test that passes."""
    hidden = shutil.ignore_patterns("__pycache__", "*.ts", "*.onnx", "*.jpg", "*.npz")
    for folder in ("configs", "docs", "scripts", "models") if weights else ("configs", "docs"):
        shutil.copytree(ROOT / folder, target / folder, ignore=hidden)
    for file in FILES:
        shutil.copyfile(ROOT / file, target / file)
    (target / "tests").mkdir()
    (target / "tests" / "test_one.py").write_text("def test_one():\n    assert True\n")
    inference = config("inference.json")
    parser = ConfigParser(inference)
    parser.update(tiny(inference["network_def"]))
    (target / "configs" / "inference.json").write_text(json.dumps(parser.config, indent=4) + "\n")
    if weights:
        torch.manual_seed(0)
        torch.save(parser.get_parsed_content("network_def").state_dict(), target / "models" / "model.pt")
    return target


@dataclass(frozen=True)
class Released:
    folder: Path
    url: str
    tree: Path

    @property
    def archive(self) -> Path:
        return next(self.folder.glob("*.zip"))


def run_release(tree: Path, output: Path, url: str) -> None:
    words = ["release", f"--output={output}", f"--base_url={url}", "--tests=tests/test_one.py"]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "scripts", *words],
        cwd=tree, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """A release of a small bundle, and a server on the loopback interface that hands it out."""
    folder = tmp_path_factory.mktemp("release")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder / "out"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    tree = copy_tree(folder / "tree")
    run_release(tree, folder / "out", url)
    yield Released(folder / "out", url, tree)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def downloaded(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which `monai.bundle download` put the bundle, by HTTP."""
    folder = tmp_path_factory.mktemp("downloaded")
    version = config("metadata.json")["version"]
    places = {"v0.1.0": f"v{version}", "URL": released.url, "DIR": folder}
    bundle(*fill(documented("download"), **places), cwd=folder)
    return folder / NAME


@pytest.fixture
def light(tmp_path: Path) -> Bundle:
    """A tree of small files, to be spoilt."""
    return Bundle(copy_tree(tmp_path / "tree", weights=False))


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))

    return change


def test_release_holds_what_it_promises(released: Released) -> None:
    top = {path.name for path in released.folder.iterdir()}
    papers = {"sbom.cdx.json", "THIRD_PARTY.md", "release.json", "SHA256SUMS"}
    assert top == {released.archive.name, "models", "triton", *papers}
    assert released.archive.name == f"{NAME}_v{config('metadata.json')['version']}.zip"
    assert changed_files(released.folder) == []
    subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=released.folder, check=True, capture_output=True)
    with zipfile.ZipFile(released.archive) as archive:
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} == {NAME}
        inside = {name.split("/", 1)[1]: archive.read(name) for name in names}
    listed = dict(reversed(line.split("  ")) for line in inside["SHA256SUMS"].decode().splitlines())
    assert listed == {n: hashlib.sha256(data).hexdigest() for n, data in inside.items() if n != "SHA256SUMS"}
    assert {"models/model.pt", "models/model.ts", "models/model.onnx", "LICENSE", "configs/metadata.json"} <= set(
        inside
    )
    assert not any("__pycache__" in name or "/." in name for name in names)
    assert json.loads((released.folder / "release.json").read_text())["tests"]["passed"] == 1


@pytest.mark.skipif(not DEPLOY.is_file(), reason="no .venv-deploy: make .venv-deploy/.ready")
@pytest.mark.parametrize(
    ("model", "backend", "tensor"), [("onnx", "onnxruntime", "image"), ("torchscript", "pytorch", "INPUT__0")]
)
def test_triton_s_own_schema_reads_the_configs(released: Released, model: str, backend: str, tensor: str) -> None:
    read = (
        "import sys; from google.protobuf import text_format; from tritonclient.grpc import model_config_pb2 as m;"
        "c = text_format.Parse(open(sys.argv[1]).read(), m.ModelConfig());"
        "print(c.name, c.backend, c.max_batch_size, c.input[0].name, list(c.input[0].dims), list(c.output[0].dims),"
        " c.dynamic_batching.max_queue_delay_microseconds, sep=';')"
    )
    name = f"{NAME}_model_{model}"
    file = released.folder / "triton" / name / "config.pbtxt"
    run = subprocess.run([DEPLOY, "-c", read, file], capture_output=True, text=True, check=True)
    expected = f"{name};{backend};16;{tensor};[4, 120, 120];[1, 120, 120, 120];2000"
    assert run.stdout.strip().splitlines()[-1] == expected


def test_triton_repository_holds_the_networks(released: Released) -> None:
    models = sorted(path.name for path in (released.folder / "triton").iterdir())
    assert models == [f"{NAME}_model_onnx", f"{NAME}_model_torchscript"]
    onnx = released.folder / "triton" / models[0] / "1" / "model.onnx"
    script = released.folder / "triton" / models[1] / "1" / "model.pt"
    assert onnx.read_bytes() == (released.folder / "models" / "model.onnx").read_bytes()
    image = torch.rand(2, 4, 120, 120)
    expected_masks = torch.jit.load(script)(image)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (found,) = session.run(["pred"], {"image": image.numpy()})
    assert found.shape == (2, 1, 120, 120, 120)
    assert (torch.from_numpy(found) - expected_masks).abs().max() < 1e-3


def test_release_names_no_folder_of_this_machine(released: Released) -> None:
    with zipfile.ZipFile(released.archive) as archive:
        for name in archive.namelist():
            contents = [archive.read(name)]
            if name.endswith((".ts", ".pt")):
                with zipfile.ZipFile(io.BytesIO(contents[0])) as inner:
                    contents += [inner.read(n) for n in inner.namelist()]
            for place in (str(released.tree), sys.prefix):
                assert not any(place.encode() in content for content in contents), (name, place)


def test_exports_give_what_the_weights_give(released: Released) -> None:
    network = Predictor(bundle_root=released.tree, device="cpu").network
    image = torch.rand(3, 4, 120, 120)  # a batch that was not exported with
    with torch.inference_mode():
        wanted = network(image)
        assert torch.allclose(torch.jit.load(released.folder / "models" / "model.ts")(image), wanted, atol=1e-4)
    session = onnxruntime.InferenceSession(released.folder / "models" / "model.onnx")
    (found,) = session.run(["pred"], {"image": image.numpy()})
    assert torch.allclose(torch.from_numpy(found), wanted, atol=1e-3)


def test_releasing_the_release_gives_the_same_bytes(released: Released, downloaded: Path, tmp_path: Path) -> None:
    """The same tree, in another folder, at another time, by another process."""
    tree = tmp_path / "elsewhere"
    shutil.copytree(downloaded, tree, ignore=shutil.ignore_patterns("output", "__pycache__"))
    run_release(tree, tmp_path / "again", released.url)
    first = read_checksums(released.folder)
    assert {released.archive.name, "models/model.pt", "models/model.ts", "models/model.onnx"} <= first.keys()
    assert {p.relative_to(tmp_path / "again").as_posix() for p in (tmp_path / "again").rglob("*") if p.is_file()} == {
        *first, "SHA256SUMS",
    }  # fmt: skip
    for name, digest in first.items():
        assert hashlib.sha256((tmp_path / "again" / name).read_bytes()).hexdigest() == digest, name


def test_downloaded_bundle_is_whole_and_infers(downloaded: Path, dataset: Path, tmp_path: Path) -> None:
    assert changed_files(downloaded) == []
    command = fill(documented("run", "inference", "configs/inference.json"), DATASET=dataset)
    bundle(*command, "--output_dir", str(tmp_path), cwd=downloaded)
    assert len(list(tmp_path.rglob("*_pred.nii.gz"))) == 2


def test_download_from_a_file_url(released: Released, tmp_path: Path) -> None:
    url = f"file://{released.archive}"
    bundle("download", "--name", NAME, "--url", url, "--bundle_dir", str(tmp_path), cwd=tmp_path)
    assert changed_files(tmp_path / NAME) == []


def test_the_copy_for_the_zoo_passes_its_own_checks(downloaded: Path, tmp_path: Path) -> None:
    """Without its tests, as documented; the weights come back."""
    copy = tmp_path / NAME
    shutil.copytree(downloaded, copy, ignore=shutil.ignore_patterns("tests", "models"))
    (command,) = re.findall(r"`(sed [^`]+ SHA256SUMS)`", (ROOT / "docs" / "release.md").read_text())
    subprocess.run(shlex.split(command), cwd=copy, check=True)
    bundle(*fill(documented("download_large_files"), DIR=tmp_path), cwd=tmp_path)
    cheap = tuple(rule for rule in zoo.RULES if rule not in (zoo.torchscript, zoo.networks))
    assert zoo.verify(Bundle(copy), cheap) == []


def test_large_files_come_back_and_damaged_ones_are_named(downloaded: Path, tmp_path: Path) -> None:
    copy = tmp_path / NAME
    shutil.copytree(downloaded, copy)
    (copy / "models" / "model.pt").unlink()
    command = fill(documented("download_large_files"), DIR=tmp_path)
    bundle(*command, cwd=tmp_path)
    assert changed_files(copy) == []
    with (copy / "models" / "model.ts").open("ab") as stream:
        stream.write(b"x")
    assert "model.ts" in bundle(*command, cwd=tmp_path, ok=False)
    assert [f.text for f in zoo.large_files(Bundle(copy))] == [
        "models/model.ts: its SHA-256 is not the one in large_files.yml"
    ]


def test_python_as_documented(downloaded: Path, dataset: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].replace("vertebra_biplanar_reconstruction", NAME)
    code = code.replace('"DIR"', repr(str(downloaded.parent))).replace('"DIR/', f'"{downloaded.parent}/')
    code = code.replace('"DATASET"', repr(str(dataset)))
    check = "\nimport torch\nx = torch.rand(1, 4, 120, 120)\nnetwork.eval(); module.eval()\n"
    check += "with torch.inference_mode():\n    assert torch.allclose(network(x), module(x), atol=1e-4)\n"
    python(code + check + "assert metadata['version']\n", cwd=tmp_path)
    assert len(list((downloaded / "output" / "inference").rglob("*_pred.nii.gz"))) == 2


@pytest.mark.parametrize("damage", ["changed", "truncated"])
def test_damaged_weights_are_named_before_they_are_loaded(
    downloaded: Path, dataset: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / NAME
    shutil.copytree(downloaded, copy)
    weights = copy / "models" / "model.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content if damage == "changed" else content[: len(content) // 2]))
    with pytest.raises(UserError, match=r"model\.pt: not as released"):
        Predictor(bundle_root=copy, device="cpu")
    # Nothing is loaded from a damaged tree, so one finding is all.
    assert zoo.verify(Bundle(copy)) == [
        "models/model.pt: not as released (SHA-256 differs)",
        "models/model.pt: its SHA-256 is not the one in large_files.yml",
    ]
    assert "networks" not in capsys.readouterr().out
    if damage == "changed":
        command = fill(documented("run", "inference", "configs/inference.json"), DATASET=dataset)
        assert "model.pt: not as released" in bundle(*command, "--output_dir", f"{tmp_path}/o", cwd=copy, ok=False)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_weights_run_no_code(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    torch.save({"model": Trap(trap)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="not a readable weight file"):
        Predictor(tmp_path / "model.pt", "cpu")
    assert not trap.exists()


def test_only_a_release_is_checked(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    (tmp_path / "model.pt").write_bytes(b"1")
    check_released(tmp_path / "model.pt")
    (tmp_path / "SHA256SUMS").write_text(checksum_lines(tmp_path, ["model.pt"]))
    (tmp_path / "own.pt").write_bytes(b"of the user")
    check_released(tmp_path / "own.pt")
    check_released(tmp_path / "model.pt")
    (tmp_path / "model.pt").write_bytes(b"2")
    with pytest.raises(UserError, match="not as released"):
        check_released(tmp_path / "model.pt")
    (tmp_path / "SHA256SUMS").write_text("garbage")
    with pytest.raises(UserError, match="damaged list"):
        check_released(tmp_path / "model.pt")


def test_bill_of_materials_is_closed_and_complete(released: Released) -> None:
    bill = json.loads((released.folder / "sbom.cdx.json").read_text())
    parts = {part["bom-ref"]: part for part in bill["components"]}
    assert len(parts) == len(bill["components"]) and bill["specVersion"] == "1.6"
    known = {*parts, bill["metadata"]["component"]["bom-ref"]}
    for edge in bill["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= known
    required = {
        f"{canonical(part['name'])}=={part['version']}" for part in parts.values() if part.get("scope") == "required"
    }
    assert {line.lower() for line in Bundle(ROOT).project["dependencies"]} <= required
    assert all(part["licenses"] for part in parts.values() if part["type"] == "library")
    weights = {part["name"]: part["hashes"][0]["content"] for part in parts.values() if "hashes" in part}
    listed = read_checksums(released.folder)
    assert weights == {name: digest for name, digest in listed.items() if name.startswith("models/")} and weights
    licences = (released.folder / "THIRD_PARTY.md").read_text()
    assert (
        re.search(r"\| edt \| [\d.]+ \| LGPL-3.0-or-later \| use \|", licences) and "docs/data_license.txt" in licences
    )


def test_pins_must_be_what_is_installed(light: Bundle) -> None:
    path = light.root / "constraints.txt"
    pin = next(line for line in path.read_text().splitlines() if line.startswith("monai=="))
    edit("constraints.txt", pin, "monai==0.0.1")(light.root)
    with pytest.raises(UserError, match=r"monai: constraints\.txt pins 0\.0\.1"):
        read_packages(light)
    edit("constraints.txt", "monai==0.0.1\n", "")(light.root)
    with pytest.raises(UserError, match="monai is needed and not pinned"):
        read_packages(light)


def test_this_bundle_would_pass_the_zoo() -> None:
    """Without the two checks that cost seconds; test_bundle.py makes them through MONAI's own commands."""
    cheap = tuple(rule for rule in zoo.RULES if rule not in (zoo.torchscript, zoo.networks))
    assert zoo.verify(Bundle(ROOT), cheap) == []


METADATA, PROJECT, INFERENCE = "configs/metadata.json", "pyproject.toml", "configs/inference.json"


def bare_large_file(root: Path) -> None:
    (root / "large_files.yml").write_text("large_files:\n- {path: a, url: b}\n")


def foreign_import(root: Path) -> None:
    (root / "scripts").mkdir()
    (root / "scripts" / "x.py").write_text("try:\n    import perhaps\nexcept ImportError:\n    pass\nimport pluggy")


SPOILT = [
    (rules.name, edit(PROJECT, 'name = "vertebra-', 'name = "a_v2-'), "no name for a bundle"),
    (rules.files, lambda root: (root / "LICENSE").unlink(), "LICENSE: missing"),
    (rules.files, lambda root: os.truncate(root / "LICENSE", 26_000_000), "LICENSE: 26.0 MB"),
    (rules.metadata, edit(METADATA, '"task": "', '"task": 3, "t": "'), "$.task"),
    (rules.metadata, edit(METADATA, '"version": "0', '"version": "9'), "changelog has no entry 9"),
    (rules.metadata, edit(PROJECT, 'version = "', 'version = "1'), "versions differ"),
    (rules.packages, edit(METADATA, '"edt": "', '"other": "'), "edt: configs/metadata.json says None"),
    (rules.packages, foreign_import, "scripts/x.py: imports pluggy"),
    (rules.configs, edit("configs/train.json", '"bundle_root": "', '"bundle_root": "/home/me'), "path of one machine"),
    (rules.configs, edit(INFERENCE, '"inferer": {', '"inferrer": {'), "lacks inferer"),
    (rules.configs, edit("configs/train.json", "$import os", "$__import__('os')"), "imports; write it into 'imports'"),
    (rules.json_files, edit(INFERENCE, "    ", "  "), "json.dumps(indent=4)"),
    (rules.json_files, lambda root: (root / "docs" / "x.json").write_text("{}"), "docs/x.json: neither"),
    (rules.readme, edit("docs/README.md", "## References", "## Books"), "no heading 'References'"),
    (rules.readme, edit(METADATA, 'sample_patient": 0', 'sample_patient": 7'), "sample_patient, 7"),
    (zoo.large_files, bare_large_file, "a needs url, hash_val"),
]


@pytest.mark.parametrize(("check", "spoil", "wanted"), SPOILT)
def test_what_would_block_is_named(light: Bundle, check: zoo.Check, spoil: Callable[[Path], None], wanted: str) -> None:
    before = [f.text for f in check(light)]
    assert not any(wanted in text for text in before)
    spoil(light.root)
    found = [f.text for f in check(Bundle(light.root)) if f.blocks and f.text not in before]
    assert any(wanted in text for text in found), found


def test_a_licence_that_nobody_has_confirmed_is_a_note(light: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    path = light.root / "docs" / "data_license.txt"
    path.write_text("Data of A. CC0 (to be\n  confirmed).\n")
    assert zoo.verify(light, (rules.licences,)) == []
    assert "note: docs/data_license.txt: a licence in it is still 'to be confirmed'" in capsys.readouterr().out
    path.write_text("Data of A. CC0.\n")
    assert list(rules.licences(light)) == []


def test_weights_that_do_not_fit_are_named(released: Released, tmp_path: Path) -> None:
    tree = Bundle(copy_tree(tmp_path / "tree"))
    assert list(zoo.networks(tree)) == []
    weights = tree.root / "models" / "model.pt"
    torch.save({"model": {}}, weights)
    assert "as a training writes it" in next(zoo.networks(tree)).text
    weights.write_bytes(b"PK")
    assert "models/model.pt: not the weights of inference.json" in next(zoo.networks(tree)).text
    shutil.copyfile(released.folder / "models" / "model.pt", weights)
    edit("configs/metadata.json", "120,\n                    120,\n", "60,\n                    120,\n")(tree.root)
    assert "gives [1, 1, 120, 120, 120]" in next(zoo.networks(Bundle(tree.root))).text
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.pt: missing"):
        tree.networks()


def test_exports_of_monai_name_source_files(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), tmp_path / "models" / "model.ts")
    assert "names source files" in next(zoo.exports(Bundle(tmp_path))).text
    (tmp_path / "models" / "model.ts").write_bytes(b"PK")
    assert "truncated or damaged" in next(zoo.exports(Bundle(tmp_path))).text


def test_exports_hold_the_configs_of_the_tree(released: Released, light: Bundle) -> None:
    """Of the annotation network no config was looked at, and a release shipped the file of an older one."""
    (light.root / "models").mkdir()
    files = {"model.ts": "inference.json", "localization.ts": "evaluate_localization.json"}
    for name in files:
        shutil.copyfile(released.folder / "models" / name, light.root / "models" / name)
    assert list(zoo.exports(light)) == []
    for name, config_file in files.items():
        edit(f"configs/{config_file}", '"bundle_root"' if name == "model.ts" else '"films_dir"', '"other"')(light.root)
        assert [f.text for f in zoo.exports(light) if f"{name}: holds an older {config_file}" in f.text]


def test_nothing_is_released_when_tests_fail(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Bundle(copy_tree(tmp_path / "tree"))
    (tree.root / "tests" / "test_two.py").write_text("def test_two():\n    assert False\n")
    with pytest.raises(UserError, match="the tests fail"):
        release(tree, tmp_path / "out", tests=("tests",))
    assert not (tmp_path / "out").exists()
    assert run_tests(tree, ("tests/test_one.py",)) == 1
    with pytest.raises(UserError, match="the tests fail"):
        run_tests(tree, ("tests/test_none.py",))


def test_a_release_is_made_of_commits(light: Bundle) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=light.root, check=True, capture_output=True)

    assert light.uncommitted() == [] and light.commit() is None
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    assert light.uncommitted() == [] and len(light.commit() or "") == 40
    (light.root / "LICENSE").write_text("mine")
    (light.root / "models").mkdir()
    (light.root / "models" / "model.pt").write_bytes(b"1")
    assert light.uncommitted() == ["LICENSE", "models/model.pt"]
    (light.root / "large_files.yml").write_text(large_file_list(light.root, ["models/model.pt"], "http://x.example/"))
    assert light.uncommitted() == ["LICENSE", "large_files.yml"]
    assert light.large_files()["models/model.pt"]["url"] == "http://x.example/models/model.pt"
    with pytest.raises(UserError, match="LICENSE: not as committed"):
        release(light, light.root / "out")


def test_zip_depends_on_contents_only(tmp_path: Path) -> None:
    for place, order in (("a", "xy"), ("b", "yx")):
        (tmp_path / place / "folder").mkdir(parents=True)
        for name in order:
            file = tmp_path / place / "folder" / name
            file.write_text(name)
            os.utime(file, (0, ord(place)))
            file.chmod(0o600 if place == "a" else 0o755)
        write_zip(tmp_path / f"{place}.zip", tmp_path / place / "folder")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_handed_out_weights_are_half_the_size_and_as_good(tmp_path: Path) -> None:
    """Variances of deep layers exceed what 16 bits hold; weights that do are refused."""
    network = torch.nn.Sequential(torch.nn.Conv3d(4, 32, 3), torch.nn.BatchNorm3d(32))
    network[1].running_var.fill_(4e5)
    torch.save({"model": network.state_dict()}, tmp_path / "training.pt")
    write_weights(tmp_path / "training.pt", tmp_path / "model.pt")
    small = torch.load(tmp_path / "model.pt", weights_only=True)
    assert small["0.weight"].dtype == torch.float16 and small["1.running_var"].max() == 4e5
    again = torch.nn.Sequential(torch.nn.Conv3d(4, 32, 3), torch.nn.BatchNorm3d(32)).eval()
    again.load_state_dict(small)
    x = torch.randn(1, 4, 5, 5, 5)
    assert torch.allclose(again(x), network.eval()(x), atol=1e-3)
    with pytest.raises(UserError, match="16 bits"):
        compact({"w": torch.tensor([1e6])})
