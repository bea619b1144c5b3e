"""inventory.py licences|sbom: the crates that the binary `qchost` is made of, for the target of this machine's compiler.

`licences` prints each crate with its licence, and then every licence text that the crates ship. `sbom` prints a software
bill of materials in CycloneDX's form. Both come from Cargo.lock alone: without times, paths or random numbers, so that
they are the same wherever they are made.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Files with the text of a licence or with what it wants to be handed on. Crates with C sources have those below.
TEXTS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)([-._].*)?", re.IGNORECASE)
SOURCE = re.compile(r".*\.(rs|c|h|py|toml|json|go|pl|js)$", re.IGNORECASE)
MAX_DEPTH = 3


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def crates():
    """The binary's own crate, and all crates that it is built from, each with the names of those that it uses."""
    host = re.search(r"^host: (.*)$", output("rustc", "-vV"), re.MULTILINE).group(1)
    metadata = json.loads(output("cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={host}"))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    own = next(package for package in packages.values() if package["name"] == "qchost")
    found, open_ = {}, [own["id"]]
    while open_:
        id_ = open_.pop()
        if id_ in found:
            continue
        # What only tests use is in no binary.
        used = [
            dependency["pkg"]
            for dependency in nodes[id_]["deps"]
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
        ]
        found[id_] = used
        open_.extend(used)
    order = sorted(found, key=lambda id_: (packages[id_]["name"], packages[id_]["version"]))
    return own, [(packages[id_], [packages[used] for used in found[id_]]) for id_ in order]


def licence(package):
    """Its licence as an SPDX expression; a slash is how it was written once."""
    return re.sub(r"\s*/\s*", " OR ", package["license"] or "") or f"see {package['license_file']}"


def texts(package):
    folder = Path(package["manifest_path"]).parent
    if package["source"] is None:
        # A crate of this repository has the licence at the top of it.
        return []
    found = []
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder).parts
        if len(within) <= MAX_DEPTH and TEXTS.fullmatch(path.name) and not SOURCE.match(path.name) and path.is_file():
            found.append(path.read_text(encoding="utf-8", errors="replace").strip())
    return found


def licences():
    _, listed = crates()
    print("The crates that qchost is made of, and their licences. The standard library of Rust, which is in it too, is")
    print("licensed under MIT OR Apache-2.0.\n")
    whose = {}
    for package, _ in listed:
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {licence(package)}")
        for text in texts(package):
            names = whose.setdefault(text, [])
            if name not in names:
                names.append(name)
    for text, names in whose.items():
        print(f"\n{'-' * 80}\n{', '.join(names)}\n{'-' * 80}\n\n{text}")


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def sbom():
    own, listed = crates()
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}

    def component(package, kind):
        made = {
            "type": kind,
            "bom-ref": reference(package),
            "name": package["name"],
            "version": package["version"],
            "licenses": [{"expression": licence(package)}] if package["license"] else [],
            "purl": reference(package),
        }
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return made

    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(own, "application")},
        "components": [component(package, "library") for package, _ in listed if package["id"] != own["id"]],
        "dependencies": [
            {"ref": reference(package), "dependsOn": sorted({reference(one) for one in used})}
            for package, used in listed
        ],
    }
    json.dump(bill, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    kinds = {"licences": licences, "sbom": sbom}
    if len(sys.argv) != 2 or sys.argv[1] not in kinds:
        sys.exit("inventory.py: usage: inventory.py licences|sbom")
    kinds[sys.argv[1]]()
