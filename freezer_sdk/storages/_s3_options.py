"""What a user can set for an S3 storage, and what of it makes no sense together."""

from __future__ import annotations

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import Option
from freezer_sdk.storages._s3_upload import LARGEST_PART, LEAST_PART
from freezer_sdk.streams.network import CONNECT_TIMEOUT, PROXY, PROXY_PASSWORD, TIMEOUT, Proxy

_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")

OPTIONS = (
    Option(name="bucket", required=True, help="Name of the bucket."),
    Option(name="prefix", default="", help="What all names in the bucket begin with, without '/' at the end."),
    Option(name="endpoint", help="URL of the server, such as https://s3.example.org:9000; Amazon's own when empty."),
    Option(name="region", help="Region of the bucket; else that of the AWS configuration, or us-east-1."),
    Option(
        name="addressing",
        choices=("auto", "path", "virtual"),
        default="auto",
        help="Where the bucket stands in a request: in the path, or in the host's name (virtual). "
        "auto: virtual at Amazon, path at other endpoints.",
    ),
    Option(name="access_key", help="Access key id; else what botocore finds (environment, ~/.aws, instance role)."),
    Option(name="secret_key", secret=True, help="Secret access key."),
    Option(name="session_token", secret=True, help="Session token of temporary credentials."),
    Option(name="profile", help="Profile of ~/.aws/config and ~/.aws/credentials."),
    Option(name="ca_file", type="path", help="Certificates of the authorities that are trusted, as a PEM file."),
    Option(name="insecure", type="bool", default=False, help="Do not check the server's certificate."),
    Option(
        name="storage_class",
        help="Storage class of new objects, such as STANDARD_IA; the bucket's own when empty. "
        "Archives that cannot be read at once are refused.",
    ),
    Option(
        name="object_lock_days",
        type="int",
        default=0,
        help="Protect every new object against deletion for so many days (the bucket needs object lock).",
    ),
    Option(
        name="object_lock_mode",
        choices=("compliance", "governance"),
        default="compliance",
        help="Who may lift the protection: nobody (compliance), or users with a special permission (governance).",
    ),
    Option(name="create_bucket", type="bool", default=False, help="Make the bucket when it is missing on a write."),
    Option(
        name="conditional_put",
        choices=("auto", "yes", "no"),
        default="auto",
        help="Whether the server refuses to replace an object when asked (If-None-Match). auto: it is tried out.",
    ),
    Option(
        name="listing",
        choices=("auto", "names", "folders"),
        default="auto",
        help="How the server sorts: by whole names, as Amazon does, or folder by folder. auto: by the kind of server.",
    ),
    Option(
        name="part_size",
        type="size",
        default=16 << 20,
        help="Size of the parts of streams, and so the memory that one takes, in bytes; grows for very long ones.",
    ),
    Option(name="connections", type="int", default=8, help="How many requests at once are useful."),
    CONNECT_TIMEOUT,
    TIMEOUT,
    PROXY,
    PROXY_PASSWORD,
)


def check_credentials(access_key: str | None, secret_key: str | None, session_token: str | None) -> None:
    """Keys come in pairs.

    Raises:
        ConfigurationError: half of them is missing.
    """
    if (access_key is None) != (secret_key is None):
        raise ConfigurationError("storage 's3': access_key and secret_key go together: set both, or none")
    if session_token is not None and access_key is None:
        raise ConfigurationError("storage 's3': session_token belongs to an access_key and a secret_key")


def check_writing(storage_class: str | None, lock_days: int, part_size: int) -> None:
    """What objects are stored with.

    Raises:
        ConfigurationError: they could not be stored, or not be read.
    """
    if storage_class in _ARCHIVES:
        raise ConfigurationError(
            f"storage 's3': objects of the class {storage_class} cannot be read without restoring each one first",
            hint="GLACIER_IR and STANDARD_IA can; a lifecycle rule must not move a repository to an archive either",
        )
    if lock_days < 0:
        raise ConfigurationError("storage 's3': object_lock_days must not be negative")
    if not LEAST_PART <= part_size <= LARGEST_PART:
        raise ConfigurationError("storage 's3': part_size must be between 5M and 5G")


def http_proxy(url: str | None, password: str | None) -> Proxy | None:
    """The proxy, of the one kind that botocore can use.

    Raises:
        ConfigurationError: not a proxy, or another kind.
    """
    if url is None:
        return None
    proxy = Proxy.parse(url, password=password)
    if proxy.scheme != "http":
        raise ConfigurationError(
            f"storage 's3': botocore goes through HTTP proxies only, not {proxy.scheme}",
            hint="write proxy=http://HOST:PORT; for SOCKS, run an HTTP proxy that forwards to it",
        )
    return proxy
