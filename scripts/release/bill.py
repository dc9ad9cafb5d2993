"""A release's CycloneDX bill of materials and its list of third-party licences."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

from scripts.io.tables import markdown_table
from scripts.release.bundle import Bundle
from scripts.release.requirements import Package, canonical, requirements


def bill_of_materials(bundle: Bundle, packages: list[Package], weights: dict[str, str]) -> dict[str, Any]:
    """CycloneDX 1.6: the product, its packages and its weights.

    Args:
        bundle: the product.
        packages: of `read_packages`.
        weights: path -> SHA-256.
    """
    product = f"{bundle.name}@{bundle.version}"
    refs = {canonical(package.name): package.purl for package in packages}
    components: list[dict[str, Any]] = [
        {
            "type": "library",
            "bom-ref": package.purl,
            "name": package.name,
            "version": package.version,
            "scope": "required" if package.required else "optional",
            "licenses": _licences(package),
            "purl": package.purl,
            "externalReferences": [{"type": "website", "url": package.website}] if package.website else [],
        }
        for package in packages
    ]
    components += [
        {
            "type": "machine-learning-model",
            "bom-ref": f"{product}/{path}",
            "name": path,
            "version": bundle.version,
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for path, digest in sorted(weights.items())
    ]
    direct = sorted(refs[name] for name in requirements(bundle.project["dependencies"]))
    dependencies = [{"ref": product, "dependsOn": direct}]
    dependencies += [{"ref": p.purl, "dependsOn": [refs[name] for name in p.needs]} for p in packages]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # Derived from the content: the same release has the same number.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, product + str(sorted(weights.items())))}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": product,
                "name": bundle.name,
                "version": bundle.version,
                "licenses": [{"expression": bundle.project["license"]}],
            }
        },
        "components": components,
        "dependencies": dependencies,
    }


def licence_list(bundle: Bundle, packages: list[Package]) -> str:
    """Markdown: every pinned package with its licence, and where the licences of data and code inside are."""
    rows = ([p.name, p.version, p.licence, "use" if p.required else "", p.website] for p in packages)
    lines = [
        f"# Third-party licences of {bundle.name} {bundle.version}",
        "",
        "Packages are installed beside the bundle, not shipped in it. *Needed for* nothing means: by tests, exports or",
        "a cluster only. Licences are what each package's metadata says.",
        "",
        *markdown_table(["package", "version", "licence", "needed for", "website"], rows),
        "",
        "Data, weights and code of others in this bundle:",
        "",
    ]
    notices = [f for f in bundle.files() if re.search(r"licen[sc]e|notice", Path(f).name, re.I) and f != "LICENSE"]
    return "\n".join([*lines, *(f"- `{name}`" for name in notices if not name.endswith(".py")), ""])


def _licences(package: Package) -> list[dict[str, Any]]:
    return [{"expression": package.licence}] if package.is_spdx else [{"license": {"name": package.licence}}]
