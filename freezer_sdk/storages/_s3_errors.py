"""What S3 servers and botocore say, as this library's errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from freezer_sdk.errors import (
    AccessDenied,
    CapabilityMissing,
    ChecksumMismatch,
    ConfigurationError,
    FreezerError,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    StorageFull,
    StorageThrottled,
    StorageUnavailable,
)

_Kind = type[FreezerError]


class BucketMissing(ConfigurationError):
    """There is no such bucket; whether that is an error depends on who asks."""


_BY_CODE: Mapping[str, _Kind] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "NotFound"), ObjectNotFound),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccountProblem",
            "AllAccessDisabled",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidSecurity",
            "InvalidToken",
            "NotSignedUp",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
            "UnauthorizedAccess",
        ),
        AccessDenied,
    ),
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "RequestLimitExceeded",
            "RequestThrottled",
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "TooManyRequestsException",
        ),
        StorageThrottled,
    ),
    **dict.fromkeys(
        (
            "BadGateway",
            "ConditionalRequestConflict",
            "IncompleteBody",
            "InternalError",
            "NoSuchUpload",
            "OperationAborted",
            "RequestTimeout",
            "ServiceUnavailable",
        ),
        StorageUnavailable,
    ),
    **dict.fromkeys(
        ("EntityTooLarge", "InsufficientCapacity", "QuotaExceeded", "StorageFull", "XMinioStorageFull"), StorageFull
    ),
    **dict.fromkeys(("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"), ChecksumMismatch),
    **dict.fromkeys(
        (
            "ExistingObjectIsDirectory",
            "InvalidObjectName",
            "InvalidURI",
            "KeyTooLongError",
            "XMinioInvalidObjectName",
            "XMinioObjectExistsAsDirectory",
            "XMinioParentIsObject",
        ),
        InvalidName,
    ),
    **dict.fromkeys(("MethodNotAllowed", "NotImplemented"), CapabilityMissing),
    "InvalidObjectState": StorageError,
    "NoSuchBucket": BucketMissing,
    "PreconditionFailed": ObjectExists,
    **dict.fromkeys(
        (
            "AuthorizationHeaderMalformed",
            "BucketAlreadyExists",
            "IllegalLocationConstraintException",
            "InvalidBucketName",
            "InvalidLocationConstraint",
            "InvalidStorageClass",
            "PermanentRedirect",
            "TooManyBuckets",
        ),
        ConfigurationError,
    ),
}

_BY_STATUS: Mapping[int, _Kind] = {
    301: ConfigurationError,
    401: AccessDenied,
    403: AccessDenied,
    404: ObjectNotFound,
    405: CapabilityMissing,
    408: StorageUnavailable,
    412: ObjectExists,
    413: StorageFull,
    429: StorageThrottled,
    498: StorageThrottled,
    501: CapabilityMissing,
    507: StorageFull,
    509: StorageThrottled,
}

_REGION = "set the region of the bucket (option region, or region=... in the URL)"
_HINTS: Mapping[str, str] = {
    "AuthorizationHeaderMalformed": _REGION,
    "BucketAlreadyExists": "choose another name: this bucket belongs to somebody else",
    "ExpiredToken": "temporary credentials have expired: get new ones",
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": "check the access key, and that it belongs to this endpoint",
    "InvalidLocationConstraint": _REGION,
    "InvalidObjectState": "the object was moved to an archive class: restore it from there first (s3 restore-object)",
    "InvalidToken": "check the session token; it belongs to one access key",
    "NoSuchBucket": "create the bucket, or let it be created by create_bucket=yes; check the endpoint and the region",
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "set this machine's clock (or the server's): they differ by more than 15 minutes",
    "SignatureDoesNotMatch": "check the secret key; behind a reverse proxy, that it passes the Host header on",
    "403": "check the credentials, and what they may do with this bucket and prefix",
    "400": "credentials that have expired are answered like this when an object is only asked for its size",
}
_TAIL = 300
_CERTIFICATE = re.compile(r"certificate|hostname", re.IGNORECASE)


@contextlib.contextmanager
def reporting(what: str) -> Iterator[None]:
    """Raises what goes wrong in the body as this library's errors; ``what`` begins the message.

    Raises:
        StorageError, ConfigurationError.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise answered(error, what) from error
    except (BotoCoreError, ResponseParserError, HTTPError, OSError, ValueError) as error:  # the last: cut headers
        raise _failed(error, what) from error


def code_of(error: Any) -> str:
    """The code of an error answer; of one without a body its status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: Any) -> int:
    """The HTTP status of an error answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def answered(error: Any, what: str) -> FreezerError:
    """What a server's error answer means; also one that came inside a good answer."""
    code, status = code_of(error), status_of(error)
    said = str(error.response.get("Error", {}).get("Message", "")).strip()
    if status == 404 and (not code or code.isdigit()) and not _speaks_s3(error):
        return StorageUnavailable(f"{what}: HTTP 404, and not from an S3 server", hint="check the endpoint")
    made = error_for(code, said, what, status=status)
    if isinstance(made, (StorageThrottled, StorageUnavailable)):
        made.retry_after = _retry_after(error)
    return made


def _speaks_s3(error: Any) -> bool:
    """Something else on the way, such as a gateway without its server, says 404 too, and knows of no object."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return any(name.lower().startswith("x-amz-") for name in headers)


def error_for(code: str, said: str, what: str, *, status: int = 0) -> FreezerError:
    """The error for an error code.

    Args:
        said: the server's explanation.
        status: of HTTP, for codes that are not known; 0: unknown.
    """
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or (StorageUnavailable if status >= 500 else StorageError)
    hint = _HINTS.get(code) or (_HINTS["403"] if kind is AccessDenied else None)
    text = ": ".join(part for part in (what, code if not code.isdigit() else f"HTTP {code}", said[:_TAIL]) if part)
    return kind(text, hint=hint)


def _failed(error: Exception, what: str) -> FreezerError:
    """What it means that there is no answer, or none that can be read."""
    from botocore import exceptions as known

    text = f"{what}: {str(error)[:_TAIL] or type(error).__name__}"
    if isinstance(error, known.SSLError) and _CERTIFICATE.search(str(error)):
        hint = "name the certificate authority by ca_file; insecure=yes does without any check"
        return ConfigurationError(f"{what}: the server's certificate is not trusted: {str(error)[:_TAIL]}", hint=hint)
    if isinstance(error, (known.NoCredentialsError, known.PartialCredentialsError)):
        hint = "set access_key and secret_key, a profile of ~/.aws, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return ConfigurationError(text, hint=hint)
    if isinstance(
        error,
        (
            known.CredentialRetrievalError,
            known.LoginError,
            known.MetadataRetrievalError,
            known.SSOError,
            known.TokenRetrievalError,
        ),
    ):
        return AccessDenied(text, hint="log in again, or set access_key and secret_key")
    if not isinstance(error, known.BotoCoreError) or isinstance(
        error, (known.ConnectionError, known.HTTPClientError, known.IncompleteReadError)
    ):
        return StorageUnavailable(text)  # a broken connection, or an answer that is not whole
    return ConfigurationError(text)


def _retry_after(error: Any) -> float | None:
    """The seconds that the server asked to wait."""
    value = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after")
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
