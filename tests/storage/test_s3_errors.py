"""What each failure of a GET asks for, by the text that obstore gives."""

import pytest
from obstore import exceptions

from imagetrain_trainer.storage import range_reads, s3_errors

Kind = range_reads.FailureKind
HTTP = (
    "Error performing GET http://h/b/k in 1ms - Server returned non-2xx status code: {}: <Error><Code>{}</Code></Error>"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.GenericError(HTTP.format("503 Service Unavailable", "SlowDown")), Kind.THROTTLED),
        (exceptions.GenericError(HTTP.format("503 Service Unavailable", "")), Kind.THROTTLED),
        (exceptions.GenericError(HTTP.format("429 Too Many Requests", "")), Kind.THROTTLED),
        (exceptions.GenericError(HTTP.format("500 Internal Server Error", "InternalError")), Kind.PASSING),
        (exceptions.GenericError(HTTP.format("502 Bad Gateway", "")), Kind.PASSING),
        (exceptions.GenericError(HTTP.format("400 Bad Request", "RequestTimeout")), Kind.PASSING),
        (exceptions.GenericError("HTTP error: error sending request"), Kind.PASSING),
        (exceptions.GenericError("HTTP error: request or response body error"), Kind.PASSING),
        (exceptions.GenericError(HTTP.format("400 Bad Request", "ExpiredToken")), Kind.KEY_REFUSED),
        (exceptions.PermissionDeniedError(HTTP.format("403 Forbidden", "InvalidAccessKeyId")), Kind.KEY_REFUSED),
        (FileNotFoundError(HTTP.format("404 Not Found", "XAdminUserNotFound")), Kind.KEY_REFUSED),  # versitygw's
        (exceptions.UnauthenticatedError(HTTP.format("401 Unauthorized", "")), Kind.KEY_REFUSED),
        (exceptions.PermissionDeniedError(HTTP.format("403 Forbidden", "AccessDenied")), Kind.FINAL),
        (FileNotFoundError(HTTP.format("404 Not Found", "NoSuchKey")), Kind.FINAL),
        (exceptions.PreconditionError(HTTP.format("412 Precondition Failed", "PreconditionFailed")), Kind.FINAL),
        (exceptions.GenericError(HTTP.format("416 Range Not Satisfiable", "InvalidRange")), Kind.FINAL),
        (exceptions.GenericError(HTTP.format("400 Bad Request", "InvalidRequest")), Kind.FINAL),
    ],
)
def test_each_failure_asks_for_what_can_help(error, expected):
    assert s3_errors.classify_read(error) is expected
