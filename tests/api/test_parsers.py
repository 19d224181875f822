import contextlib
import decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetrain_api import exit_codes, quantities, uris


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("500m", "0.5"),
        ("2", "2"),
        ("0.5", "0.5"),
        ("1.", "1"),
        (".5", "0.5"),
        ("16Gi", str(16 * 1024**3)),
        ("1Ki", "1024"),
        ("1k", "1000"),
        ("1e3", "1000"),
        ("1E3", "1000"),  # an exponent; a bare E is exa
        ("1E", str(10**18)),
        ("100u", "0.0001"),
    ],
)
def test_quantity_means_what_kubernetes_says(text: str, value: str) -> None:
    assert quantities.parse_quantity(text) == decimal.Decimal(value)


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1gi", "Gi", "1KiB", "-1", "1e", "1,5", "0x10", "\u0661"])
def test_malformed_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        quantities.parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), ("2m", 120), ("1h1m1s", 3661)]
)
def test_duration_is_parsed(text: str, seconds: float) -> None:
    assert quantities.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "1m1h", "1d", "-1s", "1 s", "1.5h"])
def test_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        quantities.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("s3://abc", uris.StorageUri("s3", "abc", "")),
        ("s3://abc/", uris.StorageUri("s3", "abc", "")),
        ("s3://a.b-c/x/y/", uris.StorageUri("s3", "a.b-c", "x/y")),
        ("file:///data/x", uris.StorageUri("file", "", "data/x")),
    ],
)
def test_storage_uri_is_parsed(text: str, parsed: uris.StorageUri) -> None:
    assert uris.parse_storage_uri(text) == parsed


@pytest.mark.parametrize(
    ("inner", "outer", "is_inside"),
    [
        ("s3://abc/x/y", "s3://abc/x", True),
        ("s3://abc/x", "s3://abc/x", True),
        ("s3://abc/xy", "s3://abc/x", False),
        ("s3://abd/x/y", "s3://abc/x", False),
        ("s3://abc/x", "s3://abc", True),
        ("file:///a/b", "file:///a", True),
        ("file:///abc/x", "s3://abc/x", False),
    ],
)
def test_place_inside_another_is_told(inner: str, outer: str, is_inside: bool) -> None:  # noqa: FBT001
    assert uris.parse_storage_uri(inner).is_inside(uris.parse_storage_uri(outer)) == is_inside


@given(st.text())
def test_any_text_is_parsed_or_refused_by_a_rule(text: str) -> None:
    for parse in (uris.parse_storage_uri, quantities.parse_quantity, quantities.parse_duration):
        with contextlib.suppress(ValueError):
            parse(text)
            continue
        with pytest.raises(ValueError, match=r"^an? "):
            parse(text)


def test_every_exit_code_has_an_outcome() -> None:
    assert set(exit_codes.OUTCOMES) == set(exit_codes.ExitCode)
    reasons = [outcome.reason for outcome in exit_codes.OUTCOMES.values()]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("code", [1, 137, 143, 255, -9])
def test_unknown_exit_status_counts_as_an_internal_error(code: int) -> None:
    assert exit_codes.find_outcome(code).reason == "InternalError"
