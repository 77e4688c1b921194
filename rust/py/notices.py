"""Collect the licences of all crates in the extension.

python rust/py/notices.py > THIRD-PARTY-NOTICES
"""

import json
import subprocess
from pathlib import Path

#: Names of files that hold a licence or a notice.
FILES = ("licen", "copying", "notice", "copyright")


def shipped(metadata: dict) -> set[str]:
    """Find what the extension is linked with: no build or test dependencies."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    left = [p["id"] for p in metadata["packages"] if p["name"] == "boresight-py"]
    seen: set[str] = set()
    while left:
        here = left.pop()
        if here not in seen:
            seen.add(here)
            left += [
                dependency["pkg"]
                for dependency in nodes[here]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            ]
    return seen


def main() -> None:
    """Print a section for each crate, and each text once."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    names: dict[str, list[str]] = {}
    keep = shipped(metadata)
    packages = [p for p in metadata["packages"] if p["id"] in keep and p["source"] is not None]
    for package in sorted(packages, key=lambda p: (p["name"], p["version"])):
        package_line = f"{package['name']} {package['version']} ({package['license']})"
        folder = Path(package["manifest_path"]).parent
        texts = [
            file.read_text(encoding="utf-8", errors="replace").strip()
            for file in sorted(folder.iterdir())
            if file.is_file() and file.name.lower().startswith(FILES)
        ]
        for text in texts or ["The crate has no file with its licence; see its name above."]:
            names.setdefault(text, []).append(package_line)
    print("Boresight contains these crates of Rust, under their licences.")
    for text, crates in names.items():
        print(f"\n{'=' * 80}\n" + "\n".join(crates) + f"\n{'-' * 80}\n{text}")


if __name__ == "__main__":
    main()
