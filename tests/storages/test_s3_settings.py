"""The storage ``s3`` without a server: URLs, options, and what of them makes no sense."""

from __future__ import annotations

import pytest

from freezer_sdk.errors import ConfigurationError, StorageUnavailable
from freezer_sdk.storages._s3_upload import LARGEST_OBJECT, LARGEST_PART, MOST_PARTS, part_after
from freezer_sdk.storages.s3 import S3Storage


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("s3://bucket", {"bucket": "bucket", "prefix": ""}),
            ("s3://bucket/", {"bucket": "bucket", "prefix": ""}),
            ("s3://bucket/a/b/", {"bucket": "bucket", "prefix": "a/b"}),
            ("s3://bucket/a%23b%3Fc", {"bucket": "bucket", "prefix": "a#b?c"}),
            (
                "s3://bucket/a?endpoint=https://host:9000&region=eu-1&addressing=path&storage_class=STANDARD_IA",
                {
                    "bucket": "bucket",
                    "prefix": "a",
                    "endpoint": "https://host:9000",
                    "region": "eu-1",
                    "addressing": "path",
                    "storage_class": "STANDARD_IA",
                },
            ),
        ],
    )
    def test_say_what_they_say(self, url, expected):
        assert S3Storage.parse_url(url) == expected

    @pytest.mark.parametrize(
        "url",
        [
            "s3:bucket",
            "s3:///prefix",
            "s3://key:canary@bucket/prefix",
            "s3://bucket/a?secret_key=canary",
            "s3://bucket/a?session_token=canary",
            "s3://bucket/a?unknown=canary",
            "s3://bucket/a?region=x&region=canary",
            "s3://bucket/a?canary",
            "s3://bucket/a#canary",
            "s3://bucket/a//canary",
            "s3://bucket/../canary",
            "s3://[canary/a",
            "https://bucket/a",
        ],
    )
    def test_that_make_no_sense(self, url):
        """What is refused is not repeated where it may be a secret."""
        with pytest.raises(ConfigurationError) as caught:
            S3Storage.parse_url(url)
        if "?" in url or "@" in url:
            assert "canary" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"

    @pytest.mark.parametrize(
        "options",
        [
            {"bucket": "bucket"},
            {"bucket": "bucket", "prefix": "a b/{c}#?&%ü"},
            {"bucket": "bucket", "endpoint": "http://127.0.0.1:9000/path", "region": "eu-1", "addressing": "virtual"},
            {"bucket": "bucket", "endpoint": "https://[::1]:9000"},
        ],
    )
    def test_a_location_leads_to_the_same_place(self, options):
        location = S3Storage(**options, access_key="canary", secret_key="canary").location
        assert "canary" not in location
        assert S3Storage.parse_url(location) == {"prefix": "", **options}

    def test_an_endpoint_without_a_scheme_is_a_safe_one(self):
        assert "endpoint=https://host:9000" in S3Storage(bucket="bucket", endpoint="host:9000").location


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"bucket": ""}, "name"),
            ({"endpoint": "ftp://host"}, "endpoint"),
            ({"endpoint": "https://user:canary@host"}, "credentials"),
            ({"endpoint": "https://host:port"}, "endpoint"),
            ({"endpoint": "https://host?canary"}, "endpoint"),
            ({"prefix": "a/../b"}, "prefix"),
            ({"access_key": "canary"}, "secret_key"),
            ({"secret_key": "canary"}, "access_key"),
            ({"session_token": "canary"}, "session_token"),
            ({"storage_class": "DEEP_ARCHIVE"}, "restoring"),
            ({"storage_class": "GLACIER"}, "restoring"),
            ({"object_lock_days": -1}, "negative"),
            ({"part_size": 1 << 20}, "5M"),
            ({"connections": 0}, "connections"),
            ({"proxy": "socks5://host:1080"}, "HTTP proxies only"),
            ({"proxy": "canary"}, "proxy"),
        ],
    )
    def test_that_make_no_sense(self, options, said):
        with pytest.raises(ConfigurationError, match=said) as caught:
            S3Storage(**{"bucket": "bucket", **options})
        assert "canary" not in f"{caught.value} {caught.value.hint}"

    @pytest.mark.parametrize("part_size", [5 << 20, 16 << 20, 1 << 30])
    def test_the_longest_stream_fits_into_the_parts_that_there_may_be(self, part_size):
        sent = parts = 0
        while sent < LARGEST_OBJECT:
            size = part_after(sent, part_size)
            assert part_size <= size <= LARGEST_PART
            sent, parts = sent + size, parts + 1
        assert parts <= MOST_PARTS

    def test_without_credentials_the_message_says_where_they_may_come_from(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, str(tmp_path / name))
        with S3Storage(bucket="bucket", endpoint="http://127.0.0.1:1") as storage:
            with pytest.raises(ConfigurationError, match="credentials") as caught:
                storage.get("x")
            assert "AWS_ACCESS_KEY_ID" in caught.value.hint
        storage = S3Storage(bucket="bucket", profile="nobody")
        with storage, pytest.raises(ConfigurationError, match="nobody"):
            storage.get("x")

    def test_a_profile_has_the_credentials_and_the_region(self, monkeypatch, tmp_path):
        """Tried without a server: that the connection is refused means that there was something to sign with."""
        (tmp_path / "credentials").write_text("[there]\naws_access_key_id = a\naws_secret_access_key = b\n")
        (tmp_path / "config").write_text("[profile there]\nregion = eu-there-1\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        with S3Storage(bucket="bucket", profile="there", endpoint="http://127.0.0.1:1") as storage:
            with pytest.raises(StorageUnavailable):
                storage.get("x")
            assert storage._connection.client.meta.region_name == "eu-there-1"
