"""The conformance suite against real Swift clusters: tempauth, and Keystone."""

from __future__ import annotations

import pytest
from servers import start

from freezer_sdk import open_storage
from freezer_sdk.storages.swift import SwiftStorage
from freezer_sdk.testing.storage_suite import StorageSuite

LAG = 0.0  # one server for each kind of thing: listings miss nothing


def by_tempauth(**options):
    env = start("swift")
    login = {
        "os_auth_url": env["SWIFT_AUTH_URL"],
        "os_username": env["SWIFT_USER"],
        "os_password": env["SWIFT_KEY"],
        "os_identity_api_version": "1",
    }
    return {"listing_lag": LAG, "timeout": 60.0, **login, **options}


def by_keystone(**options):
    start("keystone")
    env = start("swift", instance="keystone", SWIFT_AUTH="keystone")
    login = {name.lower(): value for name, value in env.items() if name in PASSWORD}
    return {"listing_lag": LAG, "timeout": 60.0, **login, **options}


PASSWORD = (
    "OS_AUTH_URL",
    "OS_USERNAME",
    "OS_PASSWORD",
    "OS_PROJECT_NAME",
    "OS_USER_DOMAIN_NAME",
    "OS_PROJECT_DOMAIN_NAME",
    "OS_REGION_NAME",
)


class SwiftSuite(StorageSuite):
    def make_storage(self):
        return SwiftStorage(**self.options)


@pytest.mark.swift
class TestTempauth(SwiftSuite):
    many = 1100

    @property
    def options(self):
        return by_tempauth(container="suite", prefix="some/prefix")


@pytest.mark.swift
class TestInSegments(SwiftSuite):
    """Whatever is longer than a few bytes lies in segments."""

    many = 20
    large = 200_000

    @property
    def options(self):
        return by_tempauth(container="suite-in-segments", segment_size=65_536)

    def test_readers_see_all_or_nothing(self):
        """Segments of the old object go away while it is read: that is an error, and passes when it is read again."""
        env = start("swift")
        login = {
            "os_auth_url": env["SWIFT_AUTH_URL"],
            "os_username": env["SWIFT_USER"],
            "os_password": env["SWIFT_KEY"],
        }
        options = {**login, "os_identity_api_version": "1", "segment_size": 65_536, "listing_lag": LAG}
        self._storage = open_storage("swift:suite-in-segments", options=options)
        super().test_readers_see_all_or_nothing()


@pytest.mark.keystone
class TestKeystone(SwiftSuite):
    many = 300

    @property
    def options(self):
        return by_keystone(container="suite")
