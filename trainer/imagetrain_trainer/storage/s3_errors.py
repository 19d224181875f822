"""What S3's and obstore's failures mean. Pure: it reads the text of an exception; messages for users are `s3`'s."""

import re

from obstore import exceptions as obstore_errors

from imagetrain_trainer.storage import range_reads

BAD_KEY_CODES = frozenset({
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "RequestTimeTooSkewed", "XAdminUserNotFound", "AuthorizationHeaderMalformed", "InvalidClientTokenId",
})  # fmt: skip
"""Codes that refuse the key itself; versitygw answers an unknown key with XAdminUserNotFound and status 404."""

_CODE = re.compile(r"""(?:<Code>|code: ")(\w+)""")  # S3's error body; obstore's text of one failed deletion
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_SECRET_MARKS = ("AWSAccessKeyId", "StringToSign", "AccessKeyId")
# AWS names the first two in "Reducing the rate of requests"; the others are what other services and servers say.
_THROTTLING_CODES = frozenset({
    "SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
    "RequestThrottled", "BandwidthLimitExceeded",
})  # fmt: skip
_THROTTLING_STATUSES = frozenset({"429", "503"})
_PASSING_CODES = frozenset({"RequestTimeout", "InternalError", "OperationAborted"})
_REFUSED = (
    obstore_errors.PreconditionError,
    obstore_errors.PermissionDeniedError,
    FileNotFoundError,
    obstore_errors.NotSupportedError,
    obstore_errors.InvalidPathError,
)


def read_code(e: Exception) -> str | None:
    """Return the error code in S3's answer."""
    found = _CODE.search(str(e))
    return found.group(1) if found else None


def read_status(e: Exception) -> str | None:
    """Return the HTTP status of S3's answer."""
    found = _STATUS.search(str(e))
    return found.group(1) if found else None


def is_secret(e: Exception) -> bool:
    """Tell whether the text repeats an access key id, so that it must not reach a traceback."""
    return any(mark in str(e) for mark in _SECRET_MARKS)


def classify_read(e: Exception) -> range_reads.FailureKind:
    """Tell what a failed GET asks for."""
    code, status = read_code(e), read_status(e)
    if code in BAD_KEY_CODES or isinstance(e, obstore_errors.UnauthenticatedError):
        return range_reads.FailureKind.KEY_REFUSED
    if code in _THROTTLING_CODES or status in _THROTTLING_STATUSES:
        return range_reads.FailureKind.THROTTLED
    if code in _PASSING_CODES:
        return range_reads.FailureKind.PASSING
    if isinstance(e, _REFUSED) or (status is not None and not status.startswith("5")):
        return range_reads.FailureKind.FINAL
    return range_reads.FailureKind.PASSING
