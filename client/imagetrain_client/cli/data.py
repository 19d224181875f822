"""`imagetrain data`: the group of the commands on data sets, each in a module of its own."""

import click

from imagetrain_client.cli import (
    data_bench,
    data_diff,
    data_info,
    data_latest,
    data_pack,
    data_show,
    data_verify,
    parameters,
)


@click.group(
    cls=parameters.Group,
    examples="""
    imagetrain data pack photos/ s3://datasets/photos/v1/
    imagetrain data info s3://datasets/photos/
    imagetrain data verify s3://datasets/photos/v1/
    imagetrain data show s3://datasets/photos/v1/
    imagetrain data diff s3://datasets/photos/v1/ s3://datasets/photos/v2/
    imagetrain data bench s3://datasets/photos/v1/
    """,
)
def data() -> None:
    """Pack images into a data set, check it, and look into it."""


for _command in (
    data_bench.bench,
    data_diff.diff,
    data_info.info,
    data_latest.latest,
    data_pack.pack,
    data_show.show,
    data_verify.verify,
):
    data.add_command(_command)
