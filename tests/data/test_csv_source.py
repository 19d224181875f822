"""Lists of images, CSV and JSONL: what is read, and that what is wrong is named with its line."""

import itertools
import json
import pickle
import tracemalloc

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import csv_source, sources, table_rows


def open_list(folder, content, name="list.csv", **columns):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    kind = "jsonl" if name.endswith("jsonl") else "csv"
    return csv_source.TableSource(str(path), None, table_rows.Columns(**columns), kind=kind)


def test_paths_start_from_the_lists_folder_and_keys_are_as_written(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"A")
    (tmp_path / "b.png").write_bytes(b"B")
    source = open_list(tmp_path, f"path,label\nimages/a.png,cat\n{tmp_path}/b.png,dog\ns3://bucket/c.png,cat\n")
    entries = list(source.entries())
    assert [entry.key for entry in entries] == ["images/a.png", f"{tmp_path}/b.png", "s3://bucket/c.png"]
    assert [entry.class_name for entry in entries] == ["cat", "dog", "cat"]
    assert {(entry.given_split, entry.group) for entry in entries} == {(None, None)}
    assert [source.read(entry.locator) for entry in entries[:2]] == [b"A", b"B"]
    assert pickle.loads(pickle.dumps(source)).read(entries[0].locator) == b"A"
    assert source.describe(entries[0].locator) == repr(str(tmp_path / "images" / "a.png"))
    assert (source.name, source.class_names) == ("list", ("cat", "dog"))


@pytest.mark.parametrize(
    "content",
    [
        "path,label,split\na.png,cat,train\nb.png,dog,\n",
        "\ufeffpath,label,split\na.png,cat,train\nb.png,dog,\n",  # a byte order mark, as Excel writes it
        "label,ignored,split,path\r\ncat,x,Training,a.png\r\ndog,y,,b.png\r\n",
        '"path","label","split"\n\n"a.png"," cat ","train"\n\n  \nb.png,dog,\n\n',  # quotes and blank lines
        "path,label,split\na.png,cat,train\nb.png,dog,",  # no line end at the end
        b"path,label,split,note\na.png,cat,train,\xc3\xa9\nb.png,dog,,'two\"\n",
    ],
)
def test_any_usual_way_to_write_a_csv_is_read(tmp_path, content):
    entries = list(open_list(tmp_path, content).entries())
    assert [(entry.key, entry.class_name, entry.given_split) for entry in entries] == [
        ("a.png", "cat", "train"),
        ("b.png", "dog", None),
    ]


def test_quoted_fields_hold_commas_quotes_and_line_ends(tmp_path):
    source = open_list(tmp_path, 'path,label,note\n"a, ""b"".png",cat,"two\nlines"\nc.png,\n')
    with pytest.raises(errors.ConfigError, match=r"line 4 of '.*list.csv' must have 3 fields"):
        list(source.entries())
    assert next(source.entries()).key == 'a, "b".png'


def test_tsv_is_separated_by_tabs(tmp_path):
    source = open_list(tmp_path, "path\tlabel\na,b.png\tcat\n", "list.tsv")
    assert [entry.key for entry in source.entries()] == ["a,b.png"]


def test_other_columns_split_and_group(tmp_path):
    content = "file,species,part,patient\na.png,cat,val,p1\nb.png,dog,testing,\n"
    source = open_list(tmp_path, content, path="file", label="species", split="part", group="patient")
    assert [(e.given_split, e.group) for e in source.entries()] == [("validation", "p1"), ("test", None)]


def test_labels_that_are_all_numbers_keep_their_order(tmp_path):
    lines = "".join(f"{n}.png,{n}\n" for n in (10, 9, 2, 0))
    source = open_list(tmp_path, f"path,label\n{lines}")
    list(source.entries())
    assert source.class_names == ("0", "2", "9", "10")
    source = open_list(tmp_path, f"path,label\n{lines}x.png,x\n")
    list(source.entries())
    assert source.class_names == ("0", "10", "2", "9", "x")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "line 1 of .* must be a header that names the columns path, label, got an empty file"),
        ("\n\n", "must be a header that names the columns"),
        ("file,label\na,b\n", "line 1 of '.*list.csv' must name a column 'path', got file, label. Add it, or name ano"),
        ("path;label\na;b\n", "must name a column 'path', got path;label.* Separate columns by commas"),
        ("path,label,path\na,b,c\n", "line 1 of .* must name column 'path' once, got 2"),
        ("path,label\na,b\nc\n", "line 3 of .* must have 2 fields, as the header has, got 1"),
        ("path,label\na,b,c\n", "line 2 of .* must have 2 fields, as the header has, got 3"),
        ("path,label\n,b\n", "line 2 of .* must have a printable path, got ''"),
        ("path,label\na,\n", "line 2 of .* must have a printable class of 1 to 200 characters, got ''"),
        ("path,label\na,b\x07\n", "line 2 of .* must have a printable class"),
        ("path,label\na\0,b\n", r"line 2 of .* must have a printable path, got 'a\\x00'"),
        ("path,label\nhttp://x/a.png,b\n", "line 2 of .* must have a path or an s3:// URI, got 'http://x/a.png'"),
        ("path,label,split\n\na,b,train\nc,d,dev\n", "line 4 of .* must be train, validation or test, or .*got 'dev'"),
        ('path,label\n"a,b\nc,d\n', "line 2 of .* must be a line of CSV"),
        ('path,label\n"a"b,c\n', "line 2 of .* must be a line of CSV"),
        (b"path,label\na,\xff\n", "line 2 of .* must be in UTF-8, got the byte 0xff"),
        ("path,label\na,b\n".encode("utf-16"), "line 1 of .* must be in UTF-8, got UTF-16: save the file again"),
        ("path,label\n" + "x" * (1 << 20) + ",a\n", "line 2 of .* must have at most 1048576 bytes"),
        ("path,label\n" + "x" * 200_000 + ",a\n", "line 2 of .* must be a line of CSV"),
    ],
)
def test_a_broken_csv_is_named_with_its_line(tmp_path, content, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        list(open_list(tmp_path, content).entries())


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"split": "part", "is_split_required": True}, "line 1 of .* must name a column 'part'"),
        ({"group": "patient"}, "line 1 of .* must name a column 'patient'"),
    ],
)
def test_a_column_that_was_asked_for_must_be_there(tmp_path, columns, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        list(open_list(tmp_path, "path,label\na,b\n", **columns).entries())


def test_jsonl_is_read(tmp_path):
    rows = [{"path": "a.png", "label": 3, "split": None}, {"label": "7", "path": "b.png", "split": "test", "x": [1]}]
    source = open_list(tmp_path, "\ufeff" + "\n\n".join(map(json.dumps, rows)), "list.jsonl")
    assert list(source.entries()) == [
        sources.Entry("a.png", "3", None, None, str(tmp_path / "a.png")),
        sources.Entry("b.png", "7", "test", None, str(tmp_path / "b.png")),
    ]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "line 1 of .* must be a JSON object, got an empty file"),
        ('{"path": "a", "label": "b"}\n{"path"\n', "line 2 of '.*list.jsonl' must be a JSON object"),
        ("[1]\n", r"line 1 of .* must be a JSON object, got '\[1\]'"),
        ("[" * 100_000, "line 1 of .* must be a JSON object"),
        ('{"path": "a"}\n', "line 1 of .* must have a field 'label', got path"),
        ('{"path": "a", "label": null}\n', "line 1 of .* must have a field 'label'"),
        ('{"path": "a", "label": 1.5}\n', "line 1 of .* must hold texts or whole numbers, got 1.5"),
        ('{"path": "a", "label": true}\n', "must hold texts or whole numbers, got true"),
        ('{"path": "a", "label": ["b"]}\n', "must hold texts or whole numbers"),
        ('\n{"path": "a", "label": "b", "split": "dev"}\n', "line 2 of .* must be train, validation or test"),
    ],
)
def test_a_broken_jsonl_is_named_with_its_line(tmp_path, content, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        list(open_list(tmp_path, content, "list.jsonl").entries())


def test_a_path_listed_twice_is_explained_by_its_lines(tmp_path):
    source = open_list(tmp_path, "path,label\n\na,x\nb,y\na,z\na,z\n")
    assert source.explain_duplicate("a") == f"'a' must be listed once, and is on lines 3 and 5 of {source._place!r}."


@pytest.mark.parametrize("name", ["gone.png", "folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    source = open_list(tmp_path, f"path,label\n{name},cat\n")
    (entry,) = source.entries()
    with pytest.raises(errors.ConfigError, match=rf"'.*{name}' must (exist|be a file), and it"):
        source.read(entry.locator)


def test_classes_without_end_are_refused(tmp_path):
    lines = "".join(f"{n}.png,label {n}\n" for n in range(100_001))
    with pytest.raises(errors.ConfigError, match=r"line 100002 of .* must have one of at most 100000 classes"):
        list(open_list(tmp_path, f"path,label\n{lines}").entries())


def test_a_long_list_takes_no_memory(tmp_path):
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("path,label\n")
        file.writelines(f"some/folder/of/images/{n}.jpg,{n % 10}\n" for n in range(50_000))
    source = csv_source.TableSource(str(path))
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.entries())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 50_000
    assert peak < 4e6


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_list_on_s3_names_objects_beside_it_and_elsewhere(s3_server, s3_bucket):
    other = s3_server.create_bucket(f"{s3_bucket}-other")
    client = s3_server.client()
    lines = f"path,label\nimages/a b.png,cat\n../up.png,dog\ns3://{other}/x/y.png,dog\n./gone.png,dog\n"
    for bucket, key, body in (
        (s3_bucket, "set/list.csv", lines.encode()),
        (s3_bucket, "set/images/a b.png", b"A"),
        (s3_bucket, "up.png", b"B"),
        (other, "x/y.png", b"C"),
    ):
        client.put_object(Bucket=bucket, Key=key, Body=body)
    source = pickle.loads(pickle.dumps(csv_source.TableSource(f"s3://{s3_bucket}/set/list.csv")))
    *entries, gone = source.entries()
    assert [source.read(entry.locator) for entry in entries] == [b"A", b"B", b"C"]
    with pytest.raises(errors.ConfigError, match=f"'s3://{s3_bucket}/set/gone.png' must exist, and it does not"):
        source.read(gone.locator)
    with pytest.raises(errors.ConfigError, match=r"'s3://.*/none.csv' must exist, and it does not"):
        next(csv_source.TableSource(f"s3://{s3_bucket}/none.csv").entries())


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/etc/a.png", "must have a relative path or an s3:// URI, for the list itself lies on S3"),
        ("../../a.png", "must have a path in the bucket of the list"),
    ],
)
def test_a_list_on_s3_cannot_leave_s3(s3_server, s3_bucket, path, rule):
    s3_server.client().put_object(Bucket=s3_bucket, Key="set/l.csv", Body=f"path,label\n{path},cat\n".encode())
    with pytest.raises(errors.ConfigError, match=f"line 2 of 's3://.*' {rule}"):
        list(csv_source.TableSource(f"s3://{s3_bucket}/set/l.csv").entries())


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_long_list_on_s3_is_read_in_parts(s3_server, s3_bucket):
    lines = [f"images/{'x' * 1000}/{n}.png,{n % 3}\n" for n in range(10_000)]  # 10 MB, more than one request
    body = "".join(["path,label\n", *lines]).encode()
    s3_server.client().put_object(Bucket=s3_bucket, Key="l.csv", Body=body)
    keys = [entry.key for entry in csv_source.TableSource(f"s3://{s3_bucket}/l.csv").entries()]
    assert all(f"{key},{n % 3}\n" == line for n, key, line in zip(itertools.count(), keys, lines, strict=False))
    assert len(keys) == len(lines)
