"""The conformance suite against two real servers: SeaweedFS, and Swift's s3api."""

from __future__ import annotations

import pytest
from servers import start

from freezer_sdk.storages import _s3_listing
from freezer_sdk.storages.s3 import S3Storage
from freezer_sdk.testing.storage_suite import StorageSuite

pytestmark = pytest.mark.s3


class S3Suite(StorageSuite):
    def make_storage(self) -> S3Storage:
        return S3Storage(**self.options)


class TestSeaweedFS(S3Suite):
    many = 10_001

    @property
    def options(self):
        env = start("seaweedfs")
        return {
            "bucket": "suite",
            "prefix": "some/prefix",
            "endpoint": env["S3_ENDPOINT"],
            "access_key": env["S3_ACCESS"],
            "secret_key": env["S3_SECRET"],
            "create_bucket": True,
        }


@pytest.mark.swift
class TestSwift(S3Suite):
    many = 210  # small objects take a while; still more than a page of this size

    @pytest.fixture(autouse=True)
    def _small_pages(self, monkeypatch):
        monkeypatch.setattr(_s3_listing, "PAGE", 50)

    @property
    def options(self):
        env = start("swift")
        return {
            "bucket": "suite-s3",
            "endpoint": env["S3_ENDPOINT"],
            "access_key": env["S3_ACCESS"],
            "secret_key": env["S3_SECRET"],
            "create_bucket": True,
        }
