"""The files that are generated from the declarations, as text."""

from typing import Any

import yaml

from imagetrain_operator.crd import definition, exit_codes, reference

_HEADER = "# Written by `make manifests` from api/imagetrain_api; a change belongs there.\n"


def build_files() -> dict[str, str]:
    """Return the text of each generated file by its path in the checkout."""
    return {
        "manifests/crd/crd.yaml": _HEADER + dump_yaml(definition.build_definition()),
        "docs/manifest.md": reference.build_reference(),
        "docs/exit-codes.md": exit_codes.build_table(),
    }


def dump_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML in the order of its keys, without anchors."""
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """Write everything out."""
        del data
        return True
