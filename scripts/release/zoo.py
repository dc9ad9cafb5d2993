"""Every check that MONAI's model zoo makes of a bundle, and our own that nothing is damaged."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.errors import UserError
from scripts.io.checksums import LIST, changed_files, sha256
from scripts.release.bundle import Bundle, read_object
from scripts.release.export import export_networks
from scripts.release.rules import Finding, configs, files, json_files, licences, metadata, name, packages, readme


def checksums(bundle: Bundle) -> Iterator[Finding]:
    """The files of a release are as released; a development tree has no list."""
    if (bundle.root / LIST).is_file():
        yield from map(Finding, changed_files(bundle.root))


def large_files(bundle: Bundle) -> Iterator[Finding]:
    """Entries are complete, and files that are there agree with their checksums."""
    for path, entry in bundle.large_files().items():
        if not entry.get("url") or not entry.get("hash_val") or entry.get("hash_type") != "sha256":
            yield Finding(f"large_files.yml: {path} needs url, hash_val and hash_type sha256")
        elif (bundle.root / path).is_file() and sha256(bundle.root / path) != entry["hash_val"]:
            yield Finding(f"{path}: its SHA-256 is not the one in large_files.yml")


def networks(bundle: Bundle) -> Iterator[Finding]:
    """Weights load without pickled code, fit their network, and give what the metadata says."""
    import torch
    from monai.bundle import ConfigParser

    for network in bundle.networks():
        parser = ConfigParser()
        parser.read_config(str(network.config))
        module = parser.get_parsed_content("network_def")
        where = network.weights.relative_to(bundle.root)
        try:
            state = torch.load(network.weights, map_location="cpu", weights_only=True)
            if "model" in state:
                yield Finding(f"{where}: as a training writes it; the zoo wants its part 'model' alone")
                continue
            module.load_state_dict(state)
        except Exception as error:  # whatever a damaged file makes torch raise
            yield Finding(f"{where}: not the weights of {network.config.name} ({str(error).splitlines()[0]})")
            continue
        with torch.inference_mode():
            shape = list(module.eval()(torch.rand(network.input_shape(1))).shape)
        if shape != network.output_shape(1):
            yield Finding(f"{where}: gives {shape}, and configs/metadata.json says {network.output_shape(1)}")


def torchscript(bundle: Bundle) -> Iterator[Finding]:
    """Networks can be exported."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            export_networks(bundle, Path(folder), ("ts",))
        except UserError as error:
            yield Finding(str(error))


def exports(bundle: Bundle) -> Iterator[Finding]:
    """Exports in the tree name no folder of the machine that made them, and hold these configs."""
    remedy = "python -m scripts.release.export --output models --formats ts"
    for path in sorted((bundle.root / "models").glob("*.ts")):
        if not zipfile.is_zipfile(path):
            yield Finding(f"models/{path.name}: truncated or damaged; {remedy}")
            continue
        with zipfile.ZipFile(path) as archive:
            if any(entry.endswith(".debug_pkl") for entry in archive.namelist()):
                yield Finding(f"models/{path.name}: names source files of the machine that made it; {remedy}")
            inside = {Path(entry).name: entry for entry in archive.namelist() if "/extra/" in entry}
            for file in sorted(inside):
                own = bundle.root / "configs" / file
                if own.is_file() and json.loads(archive.read(inside[file])) != read_object(own):
                    yield Finding(f"models/{path.name}: holds an older {file}; {remedy}", blocks=False)


Check = Callable[[Bundle], Iterator[Finding]]
INTEGRITY: tuple[Check, ...] = (checksums, large_files)
RULES: tuple[Check, ...] = (
    name,
    files,
    metadata,
    packages,
    json_files,
    configs,
    readme,
    licences,
    exports,
    networks,
    torchscript,
)


def verify(bundle: Bundle, rules: tuple[Check, ...] = RULES) -> list[str]:
    """Run checks and print what they found; nothing of a damaged tree is loaded.

    Args:
        bundle: the tree.
        rules: to be checked if nothing is damaged.

    Returns:
        what would block a pull request.
    """
    damage = [text for check in INTEGRITY for text in _run(check, bundle)]
    return damage or [text for check in rules for text in _run(check, bundle)]


def _run(check: Check, bundle: Bundle) -> list[str]:
    found = list(check(bundle))
    print(f"{'FAIL' if any(f.blocks for f in found) else 'ok':5}{check.__name__.replace('_', ' ')}")
    for finding in found:
        print(f"     {'' if finding.blocks else 'note: '}{finding.text}")
    return [finding.text for finding in found if finding.blocks]
