"""The conformance suite against two real servers: SeaweedFS, and Swift's s3api."""

from __future__ import annotations

import pytest
from servers import start

from freezer_sdk.storages.s3 import S3Storage
from freezer_sdk.testing.storage_suite import StorageSuite

pytestmark = pytest.mark.s3


class TestSeaweedFS(StorageSuite):
    many = 10_001

    def make_storage(self) -> S3Storage:
        env = start("seaweedfs")
        return S3Storage(
            bucket="suite",
            prefix="some/prefix",
            endpoint=env["S3_ENDPOINT"],
            access_key=env["S3_ACCESS"],
            secret_key=env["S3_SECRET"],
            create_bucket=True,
        )


@pytest.mark.swift
class TestSwift(StorageSuite):
    many = 1100  # small objects take a while

    def make_storage(self) -> S3Storage:
        env = start("swift")
        return S3Storage(
            bucket="suite-s3",
            endpoint=env["S3_ENDPOINT"],
            access_key=env["S3_ACCESS"],
            secret_key=env["S3_SECRET"],
            create_bucket=True,
        )
