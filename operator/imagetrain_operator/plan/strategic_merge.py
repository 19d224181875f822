"""Kubernetes' strategic merge patch, for a PodTemplateSpec.

Objects are merged key by key and null deletes. A list is replaced, unless Kubernetes names a key that tells its items
apart: then its items are merged. Source: k8s.io/apimachinery v0.34.4, pkg/util/strategicpatch/patch.go (`mergeMap`,
`mergeSlice`), with the `patchStrategy` and `patchMergeKey` tags of k8s.io/api v0.34.4, core/v1/types.go.

It departs from that source where a wrong patch would pass unseen: where types differ it refuses, and inside a new item
directives and nulls never stay behind.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from imagetrain_api import rules

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """What an object's fields need beside the ordinary.

    Attributes:
        objects: fields that hold objects even where the target has none.
        lists: fields whose lists are merged.
    """

    objects: Mapping[str, "_Object"] = dataclasses.field(default_factory=dict)
    lists: Mapping[str, "_MergedList"] = dataclasses.field(default_factory=dict)


_PLAIN = _Object()


@dataclasses.dataclass(frozen=True, slots=True)
class _MergedList:
    """A list whose items are told apart by `key`; None: they are plain values."""

    key: str | None
    item: _Object = _PLAIN


_CONTAINER = _Object(
    lists={
        "ports": _MergedList("containerPort"),
        "env": _MergedList("name"),
        "volumeMounts": _MergedList("mountPath"),
        "volumeDevices": _MergedList("devicePath"),
    }
)
_POD_TEMPLATE = _Object(
    objects={
        "metadata": _Object(
            objects={"labels": _PLAIN, "annotations": _PLAIN},
            lists={"ownerReferences": _MergedList("uid"), "finalizers": _MergedList(None)},
        ),
        "spec": _Object(
            lists={
                "volumes": _MergedList("name"),
                "initContainers": _MergedList("name", _CONTAINER),
                "containers": _MergedList("name", _CONTAINER),
                "ephemeralContainers": _MergedList("name", _CONTAINER),
                "imagePullSecrets": _MergedList("name"),
                "hostAliases": _MergedList("ip"),
                "topologySpreadConstraints": _MergedList("topologyKey"),
                "schedulingGates": _MergedList("name"),
                "resourceClaims": _MergedList("name"),
            }
        ),
    }
)


def merge(target: Mapping[str, Any], patch: Mapping[str, Any], *, path: str = "patch") -> dict[str, Any]:
    """Return a pod template with a patch applied; neither is changed.

    Args:
        target: the template.
        patch: the patch; `$patch: replace` and `$patch: delete` and `$retainKeys` mean what they mean to Kubernetes.
        path: where the patch stands, for errors.

    Raises:
        ValueError: the patch does not fit; the error names the field.
    """
    return _merge_object(target, patch, _POD_TEMPLATE, path)


def _merge_object(target: Mapping[str, Any], patch: Mapping[str, Any], shape: _Object, path: str) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "delete":
        return {}
    if directive not in (None, "replace"):
        raise _error(rules.join(path, _DIRECTIVE), "be replace or delete", directive)
    merged = {} if directive else _retain_keys(target, patch, path)
    for key, value in patch.items():
        where = rules.join(path, key)
        if key in (_DIRECTIVE, _RETAIN_KEYS):
            continue
        if key.startswith("$"):
            raise _error(where, f"be left out: of the directives, {_DIRECTIVE} and {_RETAIN_KEYS} are known", value)
        if value is None:
            merged.pop(key, None)
        elif key in shape.lists:
            merged[key] = _merge_list(merged.get(key, []), value, shape.lists[key], where)
        else:
            _merge_value(merged, key, value, shape, where)
    return merged


def _retain_keys(target: Mapping[str, Any], patch: Mapping[str, Any], path: str) -> dict[str, Any]:
    kept = patch.get(_RETAIN_KEYS)
    if kept is None:
        return dict(target)
    given = {key for key, value in patch.items() if key != _RETAIN_KEYS and value is not None}
    if not isinstance(kept, list) or not given <= set(map(str, kept)):
        raise _error(rules.join(path, _RETAIN_KEYS), "be a list that holds each key beside it", kept)
    return {key: value for key, value in target.items() if key in kept}


def _merge_value(merged: dict[str, Any], key: str, new: object, shape: _Object, path: str) -> None:
    if key not in merged and key not in shape.objects:
        if not _is_directive(new):
            merged[key] = _clean(new)
        return
    old = merged.get(key, {})
    if isinstance(old, Mapping):
        if not isinstance(new, Mapping):
            raise _error(path, "be an object", new)
        merged[key] = _merge_object(old, new, shape.objects.get(key, _PLAIN), path)
    elif isinstance(old, list) != isinstance(new, list) or isinstance(new, Mapping):
        raise _error(path, "be a list" if isinstance(old, list) else "be a single value", new)
    else:
        merged[key] = _clean(new)


def _merge_list(old: Sequence[Any], patch: object, shape: _MergedList, path: str) -> list[Any]:
    if not isinstance(patch, list):
        raise _error(path, "be a list", patch)
    if shape.key is None:
        if any(isinstance(item, Mapping | list) for item in patch):
            raise _error(path, "be a list of single values", patch)
        return _order(list(dict.fromkeys((*old, *patch))), patch, old, None)
    for index, item in enumerate(patch):
        _check_item(item, shape.key, f"{path}[{index}]")
    removed = [item[shape.key] for item in patch if item.get(_DIRECTIVE) == "delete"]
    given = {index: item for index, item in enumerate(patch) if _DIRECTIVE not in item}
    is_replaced = any(item.get(_DIRECTIVE) == "replace" for item in patch)
    kept = [] if is_replaced else [item for item in old if item.get(shape.key) not in removed]
    merged = list(kept)
    for index, item in given.items():
        found = next((place for place, each in enumerate(merged) if each.get(shape.key) == item[shape.key]), None)
        if found is None:
            merged.append(_merge_object({}, item, shape.item, f"{path}[{index}]"))
        else:
            merged[found] = _merge_object(merged[found], item, shape.item, f"{path}[{index}]")
    return _order(
        merged, [item[shape.key] for item in given.values()], [each.get(shape.key) for each in kept], shape.key
    )


def _check_item(item: object, key: str, path: str) -> None:
    if not isinstance(item, Mapping):
        raise _error(path, "be an object", item)
    directive = item.get(_DIRECTIVE)
    if directive not in (None, "replace", "delete"):
        raise _error(rules.join(path, _DIRECTIVE), "be replace or delete", directive)
    if directive != "replace" and type(item.get(key)) not in (str, int):
        raise _error(rules.join(path, key), "be given, for it tells the items of the list apart", item.get(key))


def _order(items: Sequence[Any], given: Sequence[Any], old: Sequence[Any], key: str | None) -> list[Any]:
    """Put the patch's items in its order, and before each of them what stood before it in the old list.

    That is `mergeSortedSlice`: an item that the patch does not name comes before the next one that it names only if
    both were in the old list in that order.

    Args:
        items: the merged items.
        given: what tells the patch's items apart, in its order.
        old: the same of the old list.
        key: where an item has that; None: it is the item itself.
    """

    def mark(item: Any) -> Any:  # noqa: ANN401 - any JSON
        return item if key is None else item.get(key)

    named = sorted((item for item in items if mark(item) in given), key=lambda item: given.index(mark(item)))
    others = [item for item in items if mark(item) not in given]
    ordered = []
    while named and others:
        first, second = mark(others[0]), mark(named[0])
        is_before = second in old and old.index(first) < old.index(second)
        ordered.append((others if is_before else named).pop(0))
    return [*ordered, *named, *others]


def _clean(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy without nulls and directives."""
    if isinstance(value, Mapping):
        return {
            key: _clean(item)
            for key, item in value.items()
            if item is not None and not key.startswith("$") and not _is_directive(item)
        }
    if isinstance(value, list):
        return [_clean(item) for item in value if not _is_directive(item)]
    return value


def _is_directive(value: object) -> bool:
    return isinstance(value, Mapping) and _DIRECTIVE in value


def _error(path: str, rule: str, value: object) -> ValueError:
    return ValueError(str(rules.FieldError(path, rule, value)))
