"""Put a software bill of materials into a built wheel, as PEP 770 says: ``python tests/sbom.py dist/*.whl``."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from email.parser import Parser
from pathlib import Path


def bill_of(metadata: str) -> dict[str, object]:
    """Write a wheel's name, version, licence and requirements as CycloneDX."""
    facts = Parser().parsestr(metadata)
    needed = [line.partition(";")[0].strip() for line in facts.get_all("Requires-Dist", []) if "extra ==" not in line]
    name, version = facts["Name"], facts["Version"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name.replace('_', '-')}@{version}",
                "licenses": [{"license": {"id": facts["License-Expression"]}}],
            }
        },
        "components": [{"type": "library", "name": requirement, "scope": "required"} for requirement in needed],
    }


def add_bill(wheel: Path) -> str:
    """Add the bill to a wheel, and to its list of files; return its place in there."""
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: (info, archive.read(info)) for info in archive.infolist()}
    (record,) = [name for name in files if name.endswith(".dist-info/RECORD")]
    folder = record.removesuffix("RECORD")
    place = f"{folder}sboms/opp_pandas.cdx.json"
    content = json.dumps(bill_of(files[f"{folder}METADATA"][1].decode()), indent=1).encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    line = f"{place},sha256={digest},{len(content)}\n"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (info, held) in files.items():
            if name == record:
                lines = [old for old in held.decode().splitlines(keepends=True) if not old.startswith(f"{place},")]
                held = "".join([*lines[:-1], line, lines[-1]]).encode()
            if name != place:
                archive.writestr(info, held)
        archive.writestr(place, content)
    return place


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(path, add_bill(Path(path)))
