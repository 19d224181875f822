"""A bucket's clients: boto3 finds credentials, region and endpoint, and obstore gets them from there.

No request is made here, but for what a credential provider needs.
"""

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Self

import boto3
import botocore.config
import botocore.exceptions
from obstore.auth import boto3 as obstore_boto3
from obstore.store import S3Store as ObstoreS3

from imagetrain_trainer import errors
from imagetrain_trainer.storage import object_store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig, RetryConfig

# Two attempts of at most 5 s each and a short pause: an unreachable endpoint shows within 15 s.
_CONTROL_CONFIG = botocore.config.Config(
    connect_timeout=4,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
)
# botocore hands out credentials that live 10 minutes more at least, so obstore must ask again before those are over.
_CREDENTIAL_TTL = dt.timedelta(minutes=9)
_DEFAULT_REGION = "us-east-1"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What the stores of all prefixes of a bucket share."""

    bucket: str
    uri: str
    """What was opened, for messages."""
    settings: object_store.S3Settings
    client: "S3Client"
    """For questions about the bucket."""
    provider: obstore_boto3.Boto3CredentialProvider

    @classmethod
    def open(cls, bucket: str, uri: str, settings: object_store.S3Settings) -> Self:
        """Find credentials, region and endpoint; raises `errors.AccessDeniedError` and `errors.ConfigError`."""
        try:
            session = boto3.Session(region_name=settings.region)
            if session.get_credentials() is None:
                raise errors.AccessDeniedError(
                    f"cannot open {uri}: no credentials found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "a profile, or run with a workload identity."
                )
            client = session.client("s3", endpoint_url=settings.endpoint_url, config=_CONTROL_CONFIG)
            provider = obstore_boto3.Boto3CredentialProvider(session, ttl=_CREDENTIAL_TTL)
        except (botocore.exceptions.BotoCoreError, ValueError) as e:
            raise errors.ConfigError(
                f"cannot open {uri}: the AWS configuration is invalid ({type(e).__name__}). "
                "Check spec.s3, AWS_PROFILE, AWS_ENDPOINT_URL and ~/.aws/config."
            ) from e
        return cls(bucket=bucket, uri=uri, settings=settings, client=client, provider=provider)

    def reopen(self) -> Self:
        """Find everything anew: newer credentials may lie where these were found; raises as `open` does."""
        return self.open(self.bucket, self.uri, self.settings)

    def open_objects(self, client_options: "ClientConfig", retries: "RetryConfig") -> ObstoreS3:
        """Return obstore's store of the bucket, with connections of its own."""
        endpoint = self.client.meta.endpoint_url
        return ObstoreS3(
            self.bucket,
            endpoint=endpoint,
            # obstore reads the environment too, and would prefer AWS_ENDPOINT_URL_S3 over `endpoint`.
            aws_endpoint_url_s3=endpoint,
            region=self.client.meta.region_name or _DEFAULT_REGION,
            virtual_hosted_style_request=False,
            credential_provider=self.provider,
            client_options=client_options | {"allow_http": endpoint.startswith("http://")},
            retry_config=retries,
        )
