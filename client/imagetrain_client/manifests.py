"""Reading of `ImageTrainingJob` manifests: a YAML file, overrides of the command line, and the job they make together.

The rules of a manifest stand in `imagetrain_api`; here they are only brought together with file names and line numbers.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence

import yaml

from imagetrain_api import job as job_module
from imagetrain_api import names, schema
from imagetrain_client import errors as client_errors
from imagetrain_client import yaml_loader
from imagetrain_trainer import errors

MAX_SIZE_BYTES = 1 << 20  # etcd takes 1.5 MiB an object; a longer file is no manifest
STANDARD_INPUT = "-"
_ROOT_KEYS = ("apiVersion", "kind", "metadata", "spec")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One parsed manifest.

    Attributes:
        source: what messages call it: its path, or `standard input`.
        document: the parsed YAML.
        lines: line of each dotted path in the source.
    """

    source: str
    document: object
    lines: Mapping[str, int]


def read_manifest(path: str) -> Manifest:
    """Read a manifest from a file, or from standard input for `-`.

    A file of several documents (say, with a Secret beside the job) must hold exactly one `ImageTrainingJob`.

    Raises:
        ConfigError: the file cannot be read, is not YAML, gives a key twice, or holds no job or several.
    """
    source = "standard input" if path == STANDARD_INPUT else path
    try:
        documents = yaml_loader.parse_documents(_read_text(path, source))
    except yaml.MarkedYAMLError as error:
        raise errors.ConfigError(f"{source}{_line_of(error)}: {_explain(error)}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise errors.ConfigError(f"{source} must be YAML: {' '.join(str(error).split())}.") from error
    document, lines = _pick_job(documents, source)
    return Manifest(source=source, document=document, lines=lines)


def decode_manifest(manifest: Manifest, overrides: Sequence[str] = ()) -> job_module.ImageTrainingJob:
    """Apply `PATH=VALUE` overrides to a manifest and make the job.

    Raises:
        InvalidManifestError: with every broken rule, each with its line in the file.
        ConfigError: an override is not of the form PATH=VALUE, or runs into a value that has no keys.
    """
    document = manifest.document
    changed = []
    for override in overrides:
        document, path = apply_override(document, override)
        changed.append(path)
    try:
        return job_module.decode_job(document)
    except schema.ValidationError as error:
        lines = [f"{_place(manifest, each.path, changed)}: {each}" for each in error.errors]
        raise client_errors.InvalidManifestError(manifest.source, lines) from error


def apply_override(document: object, override: str) -> tuple[object, str]:
    """Return a copy of a parsed manifest with one `PATH=VALUE` applied, and the full path.

    The path is dotted and camelCase, from the root (`spec.training.epochs`) or from `spec` (`training.epochs`); the
    value is YAML. An empty value puts the default back. Whether such a setting exists is for the decoder to say.

    Raises:
        ConfigError: there is no `=`, the value is not YAML, or a part of the path holds no object.
    """
    path, separator, text = override.partition("=")
    parts = path.strip().split(".")
    if not separator or not all(parts):
        raise errors.ConfigError(f"--set must be PATH=VALUE, got {override!r}. For example: --set training.epochs=3")
    if parts[0] not in _ROOT_KEYS:
        parts.insert(0, "spec")
    try:
        value = yaml_loader.parse_value(text)
    except (yaml.YAMLError, ValueError) as error:
        raise errors.ConfigError(f"--set {path} must have a YAML value, got {text!r}.") from error
    return _with_value(document, parts, value, ""), ".".join(parts)


def _with_value(container: object, parts: Sequence[str], value: object, path: str) -> object:
    if not parts:
        return value
    if container is not None and not isinstance(container, Mapping):
        raise errors.ConfigError(
            f"--set must name a setting, but {path} has no {parts[0]!r} in it: its value is {container!r}."
        )
    head, *rest = parts
    inner = dict(container or {})
    if value is None and not rest:
        inner.pop(head, None)
        return inner
    inner[head] = _with_value(inner.get(head), rest, value, f"{path}.{head}" if path else head)
    return inner


def _read_text(path: str, source: str) -> str:
    try:
        data = sys.stdin.buffer.read(MAX_SIZE_BYTES + 1) if path == STANDARD_INPUT else _read_file(path)
    except FileNotFoundError as error:
        raise errors.ConfigError(f"{source} must be a manifest file, but it does not exist.") from error
    except OSError as error:
        raise errors.ConfigError(f"{source} must be a readable manifest file: {error.strerror}.") from error
    if len(data) > MAX_SIZE_BYTES:
        raise errors.ConfigError(f"{source} must be a manifest of at most {MAX_SIZE_BYTES} bytes.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.ConfigError(f"{source} must be UTF-8 text, but byte {error.start} is not.") from error


def _read_file(path: str) -> bytes:
    with pathlib.Path(path).open("rb") as stream:
        return stream.read(MAX_SIZE_BYTES + 1)


def _pick_job(documents: Sequence[tuple[object, dict[str, int]]], source: str) -> tuple[object, dict[str, int]]:
    documents = [each for each in documents if each[0] is not None]
    if len(documents) == 1:
        return documents[0]
    jobs = [each for each in documents if isinstance(each[0], Mapping) and each[0].get("kind") == names.KIND]
    if len(jobs) != 1:
        found = f"{len(jobs)} in {len(documents)} documents" if documents else "an empty file"
        raise errors.ConfigError(f"{source} must hold exactly one {names.KIND}, got {found}.")
    return jobs[0]


def _place(manifest: Manifest, path: str, changed: Sequence[str]) -> str:
    for each in changed:
        is_below = path == each or path.startswith((f"{each}.", f"{each}["))
        if is_below or (each.startswith(f"{path}.") and path not in manifest.lines):
            return "--set"
    while path and path not in manifest.lines:
        path = path.rpartition(".")[0]
    return f"{manifest.source}:{manifest.lines.get(path, 1)}"


def _line_of(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f":{mark.line + 1}" if mark else ""


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "it cannot be parsed"
    if problem.startswith("duplicate key"):
        return problem
    if problem.startswith("could not determine a constructor"):
        return f"a manifest must be plain YAML, but has a tag ({problem.rpartition(' ')[2]})"
    return f"a manifest must be YAML, but here {problem}"
