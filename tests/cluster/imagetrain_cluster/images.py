"""The container images of the cluster, made here: there is no registry. One docker-archive holds them all.

`pause` and `busybox` hold Debian's static busybox. `test-host` is an almost empty root file system for pods that mount
the machine's own /usr, Python and checkout (see `host_files`).
"""

import collections.abc
import dataclasses
import hashlib
import io
import json
import pathlib
import platform
import subprocess
import tarfile
from typing import Self

from imagetrain_cluster import tools

PAUSE = "imagetrain.dev/pause:1"
BUSYBOX = "imagetrain.dev/busybox:1"
TEST_HOST = "imagetrain.dev/test-host:1"

USER = 65532
"""The user that the product's own images run as."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_TEST_HOST_FOLDERS = ("dev", "etc", "home", "opt", "proc", "root", "run", "sys", "usr", "var", "work")
_PASSWD = f"root:x:0:0:root:/root:/bin/sh\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/bin/sh\n"
_GROUP = f"root:x:0:\nnonroot:x:{USER}:\n"
_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    name: str
    layer: bytes
    command: tuple[str, ...]


def write(path: pathlib.Path) -> None:
    """Write all images as one docker-archive, as `ctr images import` takes it. About 0.1 s."""
    busybox = tools.find("busybox")
    shell = _busybox_layer(busybox)
    forever = ("/bin/sleep", "2147483647")
    _write_archive(
        path,
        [
            _Image(name=PAUSE, layer=shell, command=forever),
            _Image(name=BUSYBOX, layer=shell, command=("/bin/sh",)),
            _Image(name=TEST_HOST, layer=_test_host_layer(), command=("/bin/sh",)),
        ],
    )


def _busybox_layer(busybox: pathlib.Path) -> bytes:
    listing = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with _Layer() as layer:
        layer.folder("bin")
        layer.file("bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in listing:
            if applet != "busybox":
                layer.link(f"bin/{applet}", "busybox")
        _add_etc(layer)
    return layer.content


def _test_host_layer() -> bytes:
    with _Layer() as layer:
        for name in _TEST_HOST_FOLDERS:
            layer.folder(name)
        # bin, lib, lib64 and sbin lead into /usr, as they do on this machine.
        for entry in sorted(pathlib.Path("/").iterdir()):
            if entry.is_symlink() and entry.readlink().parts[0] == "usr":
                layer.link(entry.name, str(entry.readlink()))
        _add_etc(layer)
    return layer.content


def _add_etc(layer: "_Layer") -> None:
    layer.folder("etc")
    layer.file("etc/passwd", _PASSWD.encode())
    layer.file("etc/group", _GROUP.encode())
    layer.file("etc/hosts", _HOSTS.encode())
    layer.folder("tmp", mode=0o1777)


class _Layer:
    """A layer in the making; its content depends on what is added alone, not on the clock."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._tar.close()

    @property
    def content(self) -> bytes:
        return self._buffer.getvalue()

    def folder(self, path: str, *, mode: int = 0o755) -> None:
        member = tarfile.TarInfo(path)
        member.type, member.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(member)

    def file(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        member = tarfile.TarInfo(path)
        member.size, member.mode = len(content), mode
        self._tar.addfile(member, io.BytesIO(content))

    def link(self, path: str, target: str) -> None:
        member = tarfile.TarInfo(path)
        member.type, member.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(member)


def _write_archive(path: pathlib.Path, images: collections.abc.Sequence[_Image]) -> None:
    """Write a docker-archive (https://github.com/moby/docker-image-spec/blob/main/v1.2.md, "Combined Image JSON")."""
    manifest = []
    files: dict[str, bytes] = {}
    for image in images:
        digest = hashlib.sha256(image.layer).hexdigest()
        configuration = json.dumps(_configuration(image, digest)).encode()
        configuration_name = f"{hashlib.sha256(configuration).hexdigest()}.json"
        files |= {f"{digest}.tar": image.layer, configuration_name: configuration}
        manifest.append({"Config": configuration_name, "RepoTags": [image.name], "Layers": [f"{digest}.tar"]})
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _configuration(image: _Image, digest: str) -> dict[str, object]:
    return {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": [f"PATH={':'.join(tools.SYSTEM_PATH)}"], "Cmd": list(image.command), "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
