"""Tar shards in WebDataset's layout, as Python's own tarfile writes them, and hostile ones."""

import io
import json
import pickle
import tarfile

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import sources, table_rows, tar_source

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def add(tar, name, body=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(body)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(body))


def build(members, form=tarfile.USTAR_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, body in members.items():
            add(tar, name, body)
    return out.getvalue()


TWO = {"0001.jpg": b"A", "0001.cls": b"3", "0002.png": b"BB", "0002.cls": b"11\n"}


@pytest.mark.parametrize("form", FORMATS)
def test_samples_are_listed_and_read(tmp_path, form):
    (tmp_path / "set.tar").write_bytes(build(TWO, FORMATS[form]))
    source = tar_source.TarSource(str(tmp_path / "set.tar"))
    entries = list(source.entries())
    assert [entry[:4] for entry in entries] == [
        ("set.tar/0001.jpg", "3", None, None),
        ("set.tar/0002.png", "11", None, None),
    ]
    source = pickle.loads(pickle.dumps(source))
    assert [source.read(entry.locator) for entry in entries] == [b"A", b"BB"]
    assert source.class_names == ("3", "11")
    assert source.name == tmp_path.name
    assert source.describe(entries[1].locator) == f"image at offset 2560 of {str(tmp_path / 'set.tar')!r}"


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_and_foreign_names_are_read(tmp_path, form):
    key = "größe/" + "x" * 300
    (tmp_path / "set.tar").write_bytes(build({f"./{key}.jpg": b"A", f"./{key}.txt": "Bär".encode()}, FORMATS[form]))
    (entry,) = tar_source.TarSource(str(tmp_path / "set.tar")).entries()
    assert (entry.key, entry.class_name) == (f"set.tar/{key}.jpg", "Bär")


def test_long_names_of_ustar_are_read(tmp_path):
    key = "a" * 90 + "/" + "b" * 90
    (tmp_path / "set.tar").write_bytes(build({f"{key}.jpg": b"A", f"{key}.cls": b"1"}))
    (entry,) = tar_source.TarSource(str(tmp_path / "set.tar")).entries()
    assert entry.key == f"set.tar/{key}.jpg"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"cls": b" 7\n"}, ("7", None, None)),
        ({"txt": b"cat"}, ("cat", None, None)),
        ({"json": b'{"label": "dog"}'}, ("dog", None, None)),
        ({"json": b'{"label": 5, "split": "val", "patient": "p"}'}, ("5", "validation", None)),
        ({"json": b'{"caption": "x"}', "txt": b"cat"}, ("cat", None, None)),
        ({"cls": b"1", "json": b'{"label": "dog", "split": "test"}', "txt": b"a dog in a park"}, ("1", "test", None)),
    ],
)
def test_labels_come_from_cls_json_or_txt(tmp_path, labels, expected):
    members = {"k.jpg": b"A"} | {f"k.{extension}": body for extension, body in labels.items()}
    (tmp_path / "set.tar").write_bytes(build(members))
    (entry,) = tar_source.TarSource(str(tmp_path / "set.tar")).entries()
    assert entry[1:4] == expected


def test_groups_and_other_fields_come_from_json(tmp_path):
    fields = {"species": "dog", "part": "train", "patient": 8}
    (tmp_path / "set.tar").write_bytes(build({"k.JPEG": b"A", "k.json": json.dumps(fields).encode()}))
    columns = table_rows.Columns(label="species", split="part", group="patient")
    (entry,) = tar_source.TarSource(str(tmp_path / "set.tar"), None, columns).entries()
    assert entry[:4] == ("set.tar/k.jpeg", "dog", "train", "8")


def test_splits_come_from_the_tars_names(tmp_path):
    names = ["set-train-000.tar", "set-train-001.tar", "set-val-000.tar", "set-test.tar"]
    for name in names:
        (tmp_path / name).write_bytes(build(TWO))
    (tmp_path / "notes.txt").write_text("x")
    source = tar_source.TarSource(str(tmp_path))
    found = {entry.key.partition("/")[0]: entry.given_split for entry in source.entries()}
    assert list(found) == sorted(names)
    assert list(found.values()) == ["test", "train", "train", "validation"]
    assert source.ignored == ("notes.txt",)
    only = tar_source.TarSource(f"{tmp_path}/set-train-*.tar")
    assert {entry.given_split for entry in only.entries()} == {"train"}


def test_folders_links_devices_and_other_files_are_passed_over(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, "images", type=tarfile.DIRTYPE)
        add(tar, "images/1.jpg", b"A")
        add(tar, "images/1.cls", b"cat")
        add(tar, "images/2.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "images/3.jpg", type=tarfile.LNKTYPE, linkname="images/1.jpg")
        add(tar, "images/4.jpg", type=tarfile.CHRTYPE)
        add(tar, "images/5.cls", b"a label without its image")
        add(tar, "images/._1.jpg", b"of a Mac")
        add(tar, "images/6.npy", b"?")
    (tmp_path / "set.tar").write_bytes(out.getvalue())
    source = tar_source.TarSource(str(tmp_path / "set.tar"))
    assert [entry.key for entry in source.entries()] == ["set.tar/images/1.jpg"]
    left_out = ["2.jpg", "3.jpg", "4.jpg", "._1.jpg", "6.npy", "5.cls"]
    assert sorted(source.ignored) == sorted(f"set.tar/images/{name}" for name in left_out)
    assert source.ignored_count == 6


def with_size(tar, size):
    """Change the size of the first member, and its header's checksum."""
    header = bytearray(tar[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar[512:]


def with_pax(body):
    return build({"pax": body})[:156] + b"x" + build({"pax": body})[157:1024] + build(TWO)


def rechecked(tar):
    return with_size(tar, tar[124:136])


GOOD = build(TWO)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "'.*set.tar' is cut off: it must go on at offset 0"),
        (b"no tar file" * 100, "'.*set.tar' must be an uncompressed tar file, and is no tar file"),
        (b"\x1f\x8b\x08\0", "must be an uncompressed tar file, got a compressed one: run gunzip on it first"),
        (b"BZh9", "run bunzip2 on it first"),
        (GOOD[:600], "'.*set.tar' is cut off: it must go on at offset 1024 and end with blocks of zeros"),
        (GOOD[:1024], "'.*set.tar' is cut off"),
        (GOOD[: 4 * 1024], "is cut off: it must go on at offset 4096"),  # the end mark alone is gone
        (GOOD[:1024] + b"?" + GOOD[1025:], "is damaged at offset 1024"),
        (with_size(GOOD, b"77777777777\0"), "is cut off: it must go on at offset 0"),
        (with_size(GOOD, b"\x80" + b"\xff" * 11), "is cut off: it must go on at offset 0"),
        (with_size(GOOD, b"\xff" * 12), "is cut off"),
        (with_size(GOOD, b"-0000000001\0"), "is cut off|sizes that are numbers"),
        (with_size(GOOD, b"abc\0\0\0\0\0\0\0\0\0"), "must have sizes that are numbers"),
        (build({"../../etc/cron.jpg": b"A"}), r"'.*set.tar' must hold relative, printable names without '..', got"),
        (build({"/etc/cron.jpg": b"A"}), "must hold relative, printable names"),
        (build({"a\nb.jpg": b"A"}), "must hold relative, printable names"),
        (build({"a.jpg": b"A"}), "sample 'a' of '.*set.tar' must have a label: a .cls, a .json with 'label', or"),
        (build({"a.jpg": b"A", "a.json": b"{}"}), "must have a label: .* got .json"),
        (build({"a.jpg": b"A", "b.jpg": b"A", "a.cls": b"1"}), "sample 'a' .* must have a label"),
        (build({"a.jpg": b"A", "a.png": b"A", "a.cls": b"1"}), "sample 'a' .* must have one image, got jpg, png"),
        (build({"a.jpg": b"A", "a.cls": b""}), "sample 'a' .* must have a printable class"),
        (build({"a.jpg": b"A", "a.cls": b"\xff"}), "must have a label in UTF-8 in its .cls"),
        (build({"a.jpg": b"A", "a.json": b"["}), "must have JSON that can be read"),
        (build({"a.jpg": b"A", "a.json": b"[" * 100_000}), "must have JSON that can be read"),
        (build({"a.jpg": b"A", "a.json": b"[1]"}), "must have a JSON object"),
        (build({"a.jpg": b"A", "a.json": b'{"label": 1.5}'}), "must hold texts or whole numbers, got 1.5"),
        (build({"a.jpg": b"A", "a.json": b'{"label": 1, "split": "dev"}'}), "must be train, validation or test"),
        (rechecked(with_pax(b"99 path=x\n")), "must have well-formed extended headers"),
        (rechecked(with_pax(b"0 path=x\n")), "must have well-formed extended headers"),
        (rechecked(with_pax(b"x\n")), "must have well-formed extended headers"),
        (rechecked(with_pax(b"12 size=-1\n\n")), "must have sizes that are numbers"),
        (rechecked(with_pax(b"21 size=999999999999\n")), "is cut off"),
        (rechecked(with_pax(b"22 GNU.sparse.major=1\n")), "must hold no sparse files"),
        (with_size(rechecked(with_pax(b"x")), b"00040000000\0"), "must have extended headers of at most 1048576 bytes"),
        (rechecked(GOOD[:156] + b"S" + GOOD[157:]), "must hold no sparse files"),
    ],
)
def test_a_broken_or_hostile_tar_is_named_with_its_rule(tmp_path, content, rule):
    (tmp_path / "set.tar").write_bytes(content)
    with pytest.raises(errors.ConfigError, match=rule):
        list(tar_source.TarSource(str(tmp_path / "set.tar")).entries())


def test_a_folder_without_tars_is_named(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"source must hold tar files \(\*.tar\), and '.*' holds none"):
        tar_source.TarSource(str(tmp_path))


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    path = tmp_path / "set.tar"
    for position in range(0, 2560, 3):
        path.write_bytes(GOOD[:position] + bytes((GOOD[position] ^ 0x81,)) + GOOD[position + 1 :])
        try:
            list(tar_source.TarSource(str(path)).entries())
        except errors.ConfigError as e:
            assert str(e).startswith(("'", "sample"))  # noqa: PT017 - either outcome is right, but a refusal has its form


def test_an_empty_member_and_an_enormous_one_are_refused_when_read(tmp_path):
    (tmp_path / "set.tar").write_bytes(build({"a.jpg": b"", "a.cls": b"1"}))
    source = tar_source.TarSource(str(tmp_path / "set.tar"))
    (entry,) = source.entries()
    for locator in (entry.locator, "512:999999999999:set.tar"):
        with pytest.raises(errors.ConfigError, match=r"image at offset 512 of '.*set.tar' must have 1 to 536870912"):
            source.read(locator)


def test_a_tar_that_became_shorter_is_named(tmp_path):
    path = tmp_path / "set.tar"
    path.write_bytes(GOOD)
    source = tar_source.TarSource(str(path))
    entries = list(source.entries())
    path.write_bytes(GOOD[:600])
    with pytest.raises(errors.ConfigError, match=r"'.*set.tar' must not change while it is packed"):
        source.read(entries[1].locator)


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_tars_on_s3_are_listed_and_read(s3_server, s3_bucket):
    client = s3_server.client()
    large = {f"{n:04}.jpg": bytes([n]) * 300_000 for n in range(40)}
    members = dict(sorted((large | {f"{n:04}.cls": b"%d" % n for n in range(40)}).items()))
    client.put_object(Bucket=s3_bucket, Key="web/train-0.tar", Body=build(members))
    client.put_object(Bucket=s3_bucket, Key="web/val-0.tar", Body=GOOD)
    source = tar_source.TarSource(f"s3://{s3_bucket}/web")
    entries = list(source.entries())
    assert len(entries) == 42
    assert {entry.given_split for entry in entries} == {"train", "validation"}
    source = pickle.loads(pickle.dumps(source))
    assert source.read(entries[39].locator) == large["0039.jpg"]
    for place, keys in (
        (f"s3://{s3_bucket}/web/val-0.tar", ["val-0.tar/0001.jpg", "val-0.tar/0002.png"]),
        (f"s3://{s3_bucket}/web/v*.tar", ["val-0.tar/0001.jpg", "val-0.tar/0002.png"]),
    ):
        assert [entry.key for entry in tar_source.TarSource(place).entries()] == keys
    with pytest.raises(errors.ConfigError, match=r"'s3://.*/none' must exist"):
        tar_source.TarSource(f"s3://{s3_bucket}/none")


def test_entries_are_of_the_interface(tmp_path):
    (tmp_path / "set.tar").write_bytes(GOOD)
    assert isinstance(next(tar_source.TarSource(str(tmp_path / "set.tar")).entries()), sources.Entry)
