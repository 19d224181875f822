"""`imagetrain data latest`: show or move the pointer to the latest version of a data set."""

import json
from typing import TYPE_CHECKING

import click

from imagetrain_api import names
from imagetrain_client.cli import parameters

if TYPE_CHECKING:
    from imagetrain_trainer.data import versions as versions_module
    from imagetrain_trainer.storage import store as store_module


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data latest s3://datasets/photos/
    imagetrain data latest s3://datasets/photos/ --set v3
    """,
)
@click.argument("uri")
@click.option("--set", "version", metavar="VERSION", help="Make VERSION the latest, also when that is a step back.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def latest(uri: str, *, version: str | None, is_json: bool) -> None:
    """Show which version below URI is the latest, or make another one the latest.

    A job whose data.uri is URI followed by `latest` trains on that version. A run keeps the version it began with.
    """
    from imagetrain_trainer import errors
    from imagetrain_trainer.data import versions
    from imagetrain_trainer.storage import store

    above = store.open_store(uri)
    if version is not None:
        moved = versions.move(above, version, may_go_back=True)
        pointer = moved.after
        if not is_json:
            click.echo(_describe_move(above, moved))
    else:
        found = versions.read_pointer(above)
        if found is None:
            raise errors.ObjectNotFoundError(
                f"{above.uri_of(versions.LATEST_KEY)} does not exist: no version is the latest. Name one with --set."
            )
        pointer = found
    if is_json:
        place = above.child(pointer.version).uri
        click.echo(json.dumps({"version": pointer.version, "digest": pointer.digest, "uri": place}, indent=1))
    elif version is None:
        click.echo(f"{pointer.version} {pointer.digest}")


def print_move(uri: str) -> None:
    """Make the data set at a URI the latest of the versions beside it, if that is a step forward, and say so.

    Raises:
        errors.ConfigError: it would be a step back, or no version can lie there.
        errors.StorageError: the pointer cannot be moved.
    """
    from imagetrain_trainer.data import versions
    from imagetrain_trainer.storage import store

    prefix, version = versions.split_version(uri)
    above = store.open_store(prefix)
    click.echo(_describe_move(above, versions.move(above, version)))


def check_move(uri: str) -> None:
    """Refuse early what `print_move` would refuse at the end of long work; raises as it does."""
    from imagetrain_trainer.data import versions
    from imagetrain_trainer.storage import store

    prefix, version = versions.split_version(uri)
    versions.check_forward(store.open_store(prefix), version)


def _describe_move(above: "store_module.ObjectStore", moved: "versions_module.Move") -> str:
    place = above.uri_of(names.LATEST_KEY)
    if moved.before is None:
        return f"{place}: {moved.after.version} is the latest"
    if moved.before == moved.after:
        return f"{place}: {moved.after.version} is the latest already"
    how = "went back" if moved.is_back else "moved"
    return f"{place}: {how} from {moved.before.version} to {moved.after.version}"
