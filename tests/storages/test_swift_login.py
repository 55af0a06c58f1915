"""Every way to log in to Swift: Keystone's version 3, the older version 1; options, clouds.yaml, osrc files."""

from __future__ import annotations

import json
import logging
import socket
import time
import urllib.error
import urllib.request
import uuid

import pytest
from servers import start

from freezer_sdk.errors import AccessDenied, ConfigurationError, StorageUnavailable
from freezer_sdk.storages.swift import SwiftStorage
from freezer_sdk.streams.openstack import Cloud

CACHED = 2.5  # seconds, a little more than Swift believes what Keystone said of a token


@pytest.fixture(scope="module")
def env():
    return start("swift", instance="keystone", SWIFT_AUTH="keystone")


@pytest.fixture(scope="module")
def v1():
    return start("swift")


@pytest.fixture(scope="module")
def container():
    return f"login-{uuid.uuid4().hex[:12]}"


def password(env, **more):
    names = ("os_auth_url", "os_username", "os_password", "os_project_name")
    return {**{name: env[name.upper()] for name in names}, **more}


def check_works(container, login):
    with SwiftStorage(container=container, listing_lag=0, **login) as storage:
        storage.put("a", [b"content"])
        assert storage.get("a") == b"content"


def write_clouds(folder, env, **cloud):
    (folder / "clouds.yaml").write_text(
        "clouds:\n"
        "  mine:\n"
        f"    auth: {{auth_url: '{env['OS_AUTH_URL']}', username: freezer, project_name: freezer}}\n"
        "    region_name: RegionOne\n"
        "    interface: public\n"
        "  by-credential:\n"
        "    auth:\n"
        f"      auth_url: {env['OS_AUTH_URL']}\n"
        f"      application_credential_id: {env['OS_APPLICATION_CREDENTIAL_ID']}\n"
        f"      application_credential_secret: {env['OS_APPLICATION_CREDENTIAL_SECRET']}\n"
    )
    (folder / "secure.yaml").write_text(f"clouds: {{mine: {{auth: {{password: {env['OS_PASSWORD']}}}}}}}\n")
    return {
        "os_client_config_file": str(folder / "clouds.yaml"),
        "os_client_secure_file": str(folder / "secure.yaml"),
    }


@pytest.mark.keystone
class TestKeystone:
    def test_by_password(self, env, container):
        check_works(container, password(env))

    def test_by_password_with_ids_and_a_url_without_version(self, env, container):
        login = password(env, os_auth_url=env["OS_AUTH_URL"].removesuffix("/v3"), os_project_id=env["OS_PROJECT_ID"])
        del login["os_project_name"]
        check_works(container, {**login, "os_user_domain_id": "default", "os_interface": "publicURL"})

    @pytest.mark.parametrize("beside", [{}, {"os_project_name": "freezer", "os_project_domain_name": "Default"}])
    def test_by_application_credential(self, env, container, beside):
        """It has a project of its own: what the environment says of one does no harm."""
        names = ("os_auth_url", "os_application_credential_id", "os_application_credential_secret")
        check_works(container, {**{name: env[name.upper()] for name in names}, **beside})

    def test_by_application_credential_of_a_name(self, env, container):
        login = {"os_auth_url": env["OS_AUTH_URL"], "os_username": "freezer", "os_application_credential_name": "tests"}
        secret = env["OS_APPLICATION_CREDENTIAL_SECRET"]
        check_works(container, {**login, "os_application_credential_secret": secret})

    def test_by_trust(self, env, container):
        login = {"os_auth_url": env["OS_AUTH_URL"], "os_username": env["KEYSTONE_TRUSTEE"]}
        login |= {"os_password": env["KEYSTONE_TRUSTEE_PASSWORD"], "os_trust_id": env["KEYSTONE_TRUST_ID"]}
        check_works(container, {**login, "os_project_name": "freezer"})
        del login["os_trust_id"]
        with pytest.raises(AccessDenied):
            check_works(container, {**login, "os_project_name": "freezer"})

    def test_by_token(self, env, container):
        token, url = issue(env)
        check_works(container, {"os_auth_url": env["OS_AUTH_URL"], "os_token": token, "os_project_name": "freezer"})
        check_works(container, {"os_token": token, "os_storage_url": url})

    def test_by_clouds_yaml(self, env, container, tmp_path):
        files = write_clouds(tmp_path, env)
        check_works(container, {"os_cloud": "mine", **files})
        check_works(container, {"os_cloud": "by-credential", **files})
        with pytest.raises(ConfigurationError, match="elsewhere"):
            SwiftStorage(container=container, os_cloud="elsewhere", **files)
        with pytest.raises(ConfigurationError, match="RegionTwo"):
            check_works(container, {"os_cloud": "mine", "os_region_name": "RegionTwo", **files})
        (tmp_path / "clouds.yaml").write_text("clouds: [secret-canary")
        with pytest.raises(ConfigurationError) as told:
            SwiftStorage(container=container, os_cloud="mine", **files)
        assert "secret-canary" not in str(told.value)

    def test_what_is_given_wins_over_clouds_yaml(self, env, container, tmp_path):
        files = write_clouds(tmp_path, env)
        with pytest.raises(AccessDenied):
            check_works(container, {"os_cloud": "mine", "os_password": "another", **files})

    def test_by_osrc(self, env, container, tmp_path):
        osrc = tmp_path / "openrc"
        osrc.write_text(
            "#!/usr/bin/env bash\n"
            f"export OS_AUTH_URL={env['OS_AUTH_URL']}\n"
            "# With the addition of Keystone we have standardized on the term project\n"
            "export OS_PROJECT_NAME='freezer'\n"
            'export OS_USER_DOMAIN_NAME="Default"\n'
            'if [ -z "$OS_USER_DOMAIN_NAME" ]; then unset OS_USER_DOMAIN_NAME; fi\n'
            "unset OS_TENANT_ID\n"
            "OS_USERNAME=freezer\n"
            f"export OS_PASSWORD={env['OS_PASSWORD']}; touch {tmp_path}/executed\n"
            'export OS_REGION_NAME="RegionOne"\n'
            "export OS_IDENTITY_API_VERSION=3\n"
        )
        check_works(container, {"osrc": str(osrc)})
        assert not (tmp_path / "executed").exists()
        with pytest.raises(AccessDenied):  # what is given wins
            check_works(container, {"osrc": str(osrc), "os_password": "another"})

    def test_an_osrc_that_asks_for_the_password(self, env, container, tmp_path):
        osrc = tmp_path / "openrc"
        osrc.write_text(
            f"export OS_AUTH_URL={env['OS_AUTH_URL']} OS_PROJECT_NAME=freezer\nexport OS_PROJECT_NAME=freezer\n"
            "export OS_USERNAME=freezer\n"
            'echo "Please enter your OpenStack Password: "\n'
            "read -sr OS_PASSWORD_INPUT\n"
            "export OS_PASSWORD=$OS_PASSWORD_INPUT\n"
        )
        with pytest.raises(ConfigurationError, match=r"line 6.*OS_PASSWORD"):
            SwiftStorage(container=container, osrc=str(osrc))
        check_works(container, {"osrc": str(osrc), "os_password": env["OS_PASSWORD"]})

    def test_a_user_without_a_role_for_swift(self, env, container):
        login = password(env, os_username=env["KEYSTONE_READER"], os_password=env["KEYSTONE_READER_PASSWORD"])
        with pytest.raises(AccessDenied) as told:
            check_works(container, login)
        assert "role" in (told.value.hint or "")

    def test_regions_and_interfaces(self, env, container):
        check_works(container, password(env, os_region_name="RegionOne", os_interface="public"))
        with pytest.raises(ConfigurationError) as told:
            check_works(container, password(env, os_region_name="RegionTwo"))
        assert "os_region_name" in (told.value.hint or "")
        with pytest.raises(StorageUnavailable, match="refused"):  # the internal one cannot be reached
            check_works(container, password(env, os_interface="internalURL", connect_timeout=3))

    def test_no_project(self, env, container):
        login = password(env)
        del login["os_project_name"]
        with pytest.raises(ConfigurationError) as told:
            check_works(container, login)
        assert "project" in (told.value.hint or "")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"os_password": "canary-3f9a"},
            {"os_token": "canary-3f9a", "os_password": None},
            {"os_application_credential_id": "0" * 32, "os_application_credential_secret": "canary-3f9a"},
        ],
    )
    def test_wrong_secrets_are_refused_and_told_to_nobody(self, env, container, wrong, caplog):
        caplog.set_level(logging.DEBUG)
        with pytest.raises(AccessDenied) as told:
            check_works(container, {**password(env), **wrong})
        shown = [caplog.text, repr(told.value), str(told.value), str(told.value.hint)]
        assert "canary-3f9a" not in "".join(shown)

    def test_a_token_that_is_revoked_in_mid_use(self, env, container, caplog):
        """The request is made again with a new token, large ones too; nobody notices."""
        content = bytes(5 << 20)
        with SwiftStorage(container=container, listing_lag=0, **password(env)) as storage:
            storage.put("a", [b"content"])
            revoke(env, storage)
            storage.put("b", [content])
            revoke(env, storage)
            assert storage.get("b") == content
            storage.delete_many(["a", "b"])

    def test_a_token_that_cannot_be_renewed(self, env, container):
        token, url = issue(env)
        with SwiftStorage(container=container, os_token=token, os_storage_url=url) as storage:
            storage.put("a", [b"content"])
            revoke(env, token=token)
            with pytest.raises(AccessDenied):
                storage.get("a")


@pytest.mark.swift
class TestVersion1:
    def test_by_name_and_key(self, v1, container):
        login = {"os_auth_url": v1["SWIFT_AUTH_URL"], "os_username": v1["SWIFT_USER"], "os_password": v1["SWIFT_KEY"]}
        check_works(container, login)  # the URL says which version it is
        check_works(container, {**login, "os_identity_api_version": "1"})
        check_works(container, {**login, "os_auth_type": "v1password"})

    def test_by_osrc_with_the_names_of_version_1(self, v1, container, tmp_path):
        osrc = tmp_path / "rc"
        osrc.write_text(
            f"export ST_AUTH={v1['SWIFT_AUTH_URL']}\n"
            f"export ST_USER={v1['SWIFT_USER']}\n"
            f"export ST_KEY={v1['SWIFT_KEY']}\n"
        )
        check_works(container, {"osrc": str(osrc)})

    def test_a_container_that_somebody_shared(self, v1):
        """A user without rights in the account uses what an access list gives; the container must be there."""
        container = f"shared-{uuid.uuid4().hex[:12]}"
        owner = {"os_auth_url": v1["SWIFT_AUTH_URL"], "os_username": v1["SWIFT_USER"], "os_password": v1["SWIFT_KEY"]}
        member = {**owner, "os_username": v1["SWIFT_MEMBER"], "os_password": v1["SWIFT_MEMBER_KEY"]}
        with pytest.raises(AccessDenied):
            check_works(container, member)
        with SwiftStorage(container=container, **owner) as storage:
            storage.put("x", [b""])
            storage.delete("x")
        share(owner, container, v1["SWIFT_MEMBER"])
        check_works(container, member)
        with SwiftStorage(container=container, listing_lag=0, **member) as storage:
            for name in "abc":
                storage.put(name, [b"x"])
            storage.delete_many("abc")
            assert list(storage.list()) == []

    def test_a_versioned_container_keeps_what_its_user_deletes(self, v1):
        """The nearest to append-only that Swift has: only the owner can remove versions, and bring them back."""
        container = f"versioned-{uuid.uuid4().hex[:12]}"
        owner = {"os_auth_url": v1["SWIFT_AUTH_URL"], "os_username": v1["SWIFT_USER"], "os_password": v1["SWIFT_KEY"]}
        member = {**owner, "os_username": v1["SWIFT_MEMBER"], "os_password": v1["SWIFT_MEMBER_KEY"]}
        with SwiftStorage(container=container, listing_lag=0, **owner) as storage:
            storage.put("x", [b""])
        share(owner, container, v1["SWIFT_MEMBER"], **{"X-Versions-Enabled": "true"})
        with SwiftStorage(container=container, listing_lag=0, **member) as storage:
            storage.put("a", [b"first"])
            storage.put("a", [b"second"])
            storage.delete("a")
            assert [info.name for info in storage.list()] == ["x"]
        versions = json.loads(ask(owner, f"{container}?versions&format=json&prefix=a"))
        oldest = f"{container}/a?version-id={versions[-1]['version_id']}"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(member, oldest, method="DELETE")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(member, container, method="POST", **{"X-Versions-Enabled": "false"})
        ask(owner, oldest, method="PUT")
        with SwiftStorage(container=container, listing_lag=0, **member) as storage:
            assert storage.get("a") == b"first"

    def test_a_wrong_key(self, v1, container, caplog):
        caplog.set_level(logging.DEBUG)
        login = {"os_auth_url": v1["SWIFT_AUTH_URL"], "os_username": v1["SWIFT_USER"], "os_password": "canary-8c1d"}
        with pytest.raises(AccessDenied) as told:
            check_works(container, login)
        assert "canary-8c1d" not in caplog.text + repr(told.value) + str(told.value)

    def test_a_token_that_expired(self, v1, container):
        login = {"os_auth_url": v1["SWIFT_AUTH_URL"], "os_username": v1["SWIFT_USER"], "os_password": v1["SWIFT_KEY"]}
        with SwiftStorage(container=container, **login) as storage:
            storage.put("a", [b"content"])
            forget_tokens(v1)
            assert storage.get("a") == b"content"


class TestWithoutServer:
    @pytest.mark.parametrize(
        ("login", "told"),
        [
            ({}, "nothing says how to log in"),
            ({"os_auth_url": "http://127.0.0.1:9/v3", "os_username": "u"}, "nothing says how to log in"),
            ({"os_auth_url": "keystone.example"}, "is not the URL"),
            ({"os_auth_url": "http://h/v2.0", "os_username": "u", "os_password": "p"}, "version 2"),
            ({"os_auth_url": "http://h/v3", "os_auth_type": "v9magic"}, "v9magic"),
            ({"os_cloud": "x", "osrc": "/y"}, "use one of them"),
            ({"osrc": "/nonexistent"}, "cannot be read"),
            ({"os_auth_url": "http://h/v3", "os_auth_type": "v3password"}, "missing"),
            ({"os_unknown": "x", "os_auth_url": "http://h/v3", "os_username": "u", "os_password": "p"}, "os_unknown"),
        ],
    )
    def test_logins_that_make_no_sense(self, login, told):
        with pytest.raises(ConfigurationError, match=told):
            SwiftStorage(container="c", **login)

    @pytest.mark.parametrize(
        ("url", "told"),
        [("http://127.0.0.1:9/v3", "Connection refused"), ("http://nonesuch.invalid/v3", "its name is not known")],
    )
    def test_nobody_answers(self, url, told):
        login = {"os_auth_url": url, "os_username": "u", "os_password": "p", "os_project_name": "x"}
        with SwiftStorage(container="c", **login) as storage, pytest.raises(StorageUnavailable, match=told):
            storage.stat("a")

    def test_somebody_accepts_and_says_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}/v3"
            login = {"os_auth_url": url, "os_username": "u", "os_password": "p", "os_project_name": "x"}
            started = time.monotonic()
            with (
                SwiftStorage(container="c", timeout=0.5, **login) as storage,
                pytest.raises(StorageUnavailable, match="timed out"),
            ):
                storage.stat("a")
            assert time.monotonic() - started < 300

    def test_the_environment_is_not_read(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        for name, value in {
            "OS_AUTH_URL": "http://127.0.0.1:9/v3",
            "OS_USERNAME": "u",
            "OS_PASSWORD": "p",
            "OS_PROJECT_NAME": "x",
            "OS_CLOUD": "envvars",
            "OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml"),
            "HTTP_PROXY": "http://127.0.0.1:9",
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match="nothing says how"):
            SwiftStorage(container="c")
        (tmp_path / "clouds.yaml").write_text("clouds: {}")
        with pytest.raises(ConfigurationError, match="envvars"):
            SwiftStorage(container="c", os_cloud="envvars", os_client_config_file=str(tmp_path / "clouds.yaml"))


def issue(env):
    """A token, and the storage URL that it is good for."""
    cloud = Cloud(password(env), connect_timeout=10, timeout=10)
    try:
        return cloud.token(), cloud.endpoint("object-store")
    finally:
        cloud.close()


def revoke(env, storage=None, *, token=None):
    """Makes a token invalid, and waits until Swift has noticed."""
    token = token or storage._client._cloud.token()
    headers = {"X-Auth-Token": issue(env)[0], "X-Subject-Token": token}
    request = urllib.request.Request(f"{env['OS_AUTH_URL']}/auth/tokens", method="DELETE", headers=headers)
    urllib.request.urlopen(request, timeout=60).close()
    time.sleep(CACHED)


def forget_tokens(v1):
    """Empties the cache that tempauth keeps its tokens in."""
    with socket.create_connection(("127.0.0.1", int(v1["SWIFT_MEMCACHED_PORT"])), timeout=5) as cache:
        cache.sendall(b"flush_all\r\n")
        assert cache.recv(100) == b"OK\r\n"


def share(owner, container, user, **headers):
    acl = {"X-Container-Read": user + ",.rlistings", "X-Container-Write": user}
    ask(owner, container, method="POST", **acl, **headers)


def ask(login, path, *, method="GET", **headers):
    """A request as this user, to the account of the first one."""
    cloud = Cloud(login, connect_timeout=10, timeout=10)
    try:
        headers = {"X-Auth-Token": cloud.token(), "Content-Length": "0", **headers}
        url = f"{cloud.endpoint('object-store')}/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=10) as answer:
            return answer.read()
    finally:
        cloud.close()
