"""Errors of the API server, translated once.

ClusterError
├── NotFoundError       404: the object, or its kind, is not there
├── AlreadyExistsError  409 on creation
├── ConflictError       409 otherwise: another version, or another uid
├── ExpiredError        410: the watch's resource version is too old
├── RefusedError        400, 403 and 422: the request as it stands will not be taken
└── UnavailableError    401, 429, 5xx, and the network: the same request may be taken later
"""


class ClusterError(Exception):
    """The API server did not do what it was asked.

    Attributes:
        code: HTTP status; 0 where no answer came.
        retry_after_seconds: how long the server asked to wait; 0 where it did not.
    """

    def __init__(self, message: str, code: int = 0, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class NotFoundError(ClusterError):
    """The object, or its kind, is not there."""


class AlreadyExistsError(ClusterError):
    """An object of that name is there already."""


class ConflictError(ClusterError):
    """The object has changed, or it is another one of the same name."""


class ExpiredError(ClusterError):
    """The resource version is too old to watch from."""


class RefusedError(ClusterError):
    """The request as it stands will not be taken: no right, no quota, or an object that breaks a rule."""


class UnavailableError(ClusterError):
    """No answer, or one that asks to come again."""


_BY_CODE = {400: RefusedError, 403: RefusedError, 404: NotFoundError, 409: ConflictError, 410: ExpiredError}


def build_error(code: int, reason: str, message: str, retry_after_seconds: float = 0.0) -> ClusterError:
    """Return the error of an answer: HTTP status, and `reason` and `message` of its Status object."""
    if reason == "AlreadyExists":
        return AlreadyExistsError(message, code)
    if code == 422:
        return RefusedError(message, code)
    kind = _BY_CODE.get(code, UnavailableError)
    return kind(message, code, retry_after_seconds)
