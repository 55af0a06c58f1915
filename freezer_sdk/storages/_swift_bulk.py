"""Objects of Swift removed many at a time, by its middleware ``bulk``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from freezer_sdk.errors import StorageError, Transient
from freezer_sdk.storages._swift_http import SwiftClient


def deleted_at_once(client: SwiftClient, container: str, paths: Sequence[str]) -> bool:
    """Removes objects of a container by one request; whether it is certain that all of them are gone.

    Raises:
        StorageUnavailable, StorageThrottled: one by one it would not go better.
    """
    from swiftclient.client import post_account

    lines = "\n".join(quote(f"/{container}/{path}") for path in paths).encode()
    headers = {"Content-Type": "text/plain", "Accept": "application/json"}
    try:
        _, body = client.call(
            "cannot delete objects",
            lambda url, token, http: post_account(
                url, token, headers, http_conn=http, query_string="bulk-delete", data=lines
            ),
        )
        report = json.loads(body)
        missed = report["Errors"] or report["Number Not Found"]  # not found: also where the container was out of reach
        return bool(str(report["Response Status"]).startswith("200") and not missed)
    except (StorageError, ValueError, KeyError, TypeError) as error:  # not every cluster has it, nor may every user
        if isinstance(error, Transient):
            raise  # one by one it would not go better
        return False
