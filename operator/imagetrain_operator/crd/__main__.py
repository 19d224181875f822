"""`python -m imagetrain_operator.crd [FOLDER]` writes the generated files of a checkout; `make manifests` calls it."""

import pathlib
import sys

from imagetrain_operator.crd import files


def main(arguments: list[str]) -> int:
    """Write the generated files of a checkout, this folder by default, and name those that changed."""
    root = pathlib.Path(arguments[0] if arguments else ".")
    for name, text in files.build_files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
