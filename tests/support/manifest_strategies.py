"""Manifests for hypothesis, made from the declarations: valid ones, and the same broken in random places."""

import copy
import functools
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from hypothesis import strategies as st

import job_tables
from imagetrain_api import job, names, rules, schema
from imagetrain_api.rules import Setting
from imagetrain_api.schema import Document

Strategy = st.SearchStrategy[Any]

_texts = st.text(st.characters(codec="utf-8"), max_size=12)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e6, 1e6) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_uris = st.from_regex(r"(s3://[a-z0-9]{3,6}|file:///[a-z]{1,3})(/[A-Za-z0-9._%+-]{1,6}){0,3}/?", fullmatch=True)
# What is written in the place of something good: values of every type, at and past every edge.
_junk = (
    _json
    | _uris
    | st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**30, 0.5, 1e300, float("nan"), float("inf"), "", "1", "500m", "a b"])
    | st.sampled_from(["s3://abc//x", "file:///a/../b", "s3://a@bc/x", "https://h:1", "é", "x\n", "a" * 300, [[]], {}])
)
_POOR_KEYS = ("", "worker", "Workers", "epoch", "apiVersion", "nvidia.com/gpu", "a b")


def manifests() -> Strategy:
    """Return manifests whose every field keeps its own rules; rules over several fields may be broken."""
    fixed = {"apiVersion": st.just(names.API_VERSION), "kind": st.just(names.KIND), "spec": _documents(job.JobSpec)}
    metadata = _documents(job.Metadata).map(lambda made: {**made, "namespace": job_tables.NAMESPACE})
    return st.fixed_dictionaries({**fixed, "metadata": metadata})


@st.composite
def broken_manifests(draw: st.DrawFn) -> Any:
    """Return manifests with up to three places broken, in two of five none."""
    manifest = copy.deepcopy(draw(manifests()))
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 3)))):
        _break(draw, manifest)
    return manifest


@st.composite
def changes(draw: st.DrawFn) -> Any:
    """Return a manifest and another of the same job, some of whose fields are others; either may break a rule."""
    old = draw(manifests())
    fields = {field.key: field for field in schema.document_fields(job.JobSpec)}
    others = draw(st.sets(st.sampled_from(sorted(fields)), max_size=2))
    values = {key: draw(_values(rules.without_none(fields[key].type), fields[key].setting)) for key in sorted(others)}
    return old, {**old, "spec": {**old["spec"], **values}}


def _break(draw: st.DrawFn, manifest: dict[str, Any]) -> None:
    """Replace, remove, add or rename something."""
    places = [place for place in _places(manifest) if place[1] != "namespace"]
    parent, key = draw(st.sampled_from(places))
    change = draw(st.sampled_from(("replace", "replace", "remove", "add")))
    if change == "replace":
        parent[key] = draw(_junk)
    elif change == "remove":
        del parent[key]
    elif isinstance(parent, dict):
        parent[draw(st.sampled_from(_POOR_KEYS))] = draw(_junk)
    else:
        parent.append(draw(_junk))


def _places(value: Any) -> list[tuple[Any, Any]]:
    if not isinstance(value, dict | list):
        return []
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    return [(value, key) for key, _ in items] + [place for _, item in items for place in _places(item)]


@functools.cache
def _documents(cls: type[Document]) -> Strategy:
    """Return documents with all that they must have and a few of their other fields."""
    values = {
        field.key: _values(rules.without_none(field.type), field.setting) for field in schema.document_fields(cls)
    }
    required = [field.key for field in schema.document_fields(cls) if field.is_required]
    optional = [key for key in values if key not in required]

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        chosen = draw(st.sets(st.sampled_from(optional), max_size=3)) if optional else set()
        made = {key: draw(values[key]) for key in (*required, *sorted(chosen))}
        empty = draw(st.sampled_from([None, None, None, *sorted(chosen)]))
        return made if empty is None else {**made, empty: None}  # as if it were left out

    return build()


def _values(kind: rules.TypeForm, setting: Setting) -> Strategy:
    if isinstance(kind, type) and issubclass(kind, Document):
        return _documents(kind)  # type: ignore[arg-type]  # mypy does not see that a class is hashable
    origin: object = get_origin(kind)
    if origin is tuple:
        most = min(setting.max_items or 3, 3) if setting.min_items != setting.max_items else setting.max_items
        items = _values(get_args(kind)[0], setting)
        return st.lists(items, min_size=setting.min_items or 0, max_size=most, unique=setting.unique)
    if origin is Mapping:
        keys = _matches(setting.key_pattern or r"[a-z]{1,6}(\.com/gpu)?")
        return st.dictionaries(keys, _values(get_args(kind)[1], setting), max_size=3)
    if kind is Any:
        return _json
    if kind is bool:
        return st.booleans()
    return _strings(setting) if kind is str else _numbers(kind, setting)


def _numbers(kind: type, setting: Setting) -> Strategy:
    low = setting.minimum if setting.exclusive_minimum is None else setting.exclusive_minimum
    high = setting.maximum if setting.exclusive_maximum is None else setting.exclusive_maximum
    if kind is int:
        # Small numbers, and 1 and 3 channels, so that rules over several fields are kept as often as broken.
        least, most = int(low or 0), int(min(high or 100, (low or 0) + 100))
        return st.sampled_from((least, least + 2)) | st.integers(least, most)
    return st.floats(
        low,
        high if high is None else min(high, (low or 0) + 1),
        allow_nan=False,
        exclude_min=setting.exclusive_minimum is not None,
        exclude_max=setting.exclusive_maximum is not None,
    )


def _strings(setting: Setting) -> Strategy:
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.syntax:
        return _uris.filter(lambda text: all(syntax.holds(text) for syntax in setting.syntax))
    if setting.pattern is None:
        return _texts
    longest = setting.max_length or 99
    strings = _matches(setting.pattern).filter(lambda text: len(text) <= longest)
    return strings | st.integers(0, 64) if setting.is_int_or_string else strings


def _matches(pattern: str) -> Strategy:
    return st.from_regex(pattern, fullmatch=True, alphabet=st.characters(codec="ascii"))
