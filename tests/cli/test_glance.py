"""Images of a real Glance by the command line, as the how-to page has it."""

from __future__ import annotations

import io
import shlex
import uuid

import pytest
from running_writer import commands
from servers import ROOT, start
from taking_turns import turn

pytest.importorskip("glanceclient")
pytestmark = pytest.mark.glance
PAGE = ROOT / "docs" / "how-to" / "glance.md"
LOGIN = ("OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_REGION_NAME")


@pytest.fixture(autouse=True)
def _alone():
    """Glance's SQLite fails when several tests write at once."""
    with turn("glance"):
        yield


@pytest.fixture(scope="module")
def env():
    return start("glance")


@pytest.fixture(scope="module")
def glance(env):
    from glanceclient import Client
    from keystoneauth1 import session
    from keystoneauth1.identity import v3

    domains = {"user_domain_id": "default", "project_domain_id": "default"}
    auth = v3.Password(
        env["OS_AUTH_URL"],
        username=env["OS_USERNAME"],
        password=env["OS_PASSWORD"],
        project_name=env["OS_PROJECT_NAME"],
        **domains,
    )
    return Client("2", session=session.Session(auth=auth), connect_retries=3)


@pytest.fixture
def images(glance):
    """Adds and finds images of a prefix of this test alone."""
    images = Images(glance)
    yield images
    for image in images.found():
        glance.images.delete(image)


class Images:
    def __init__(self, glance):
        self._glance = glance
        self.prefix = uuid.uuid4().hex[:8]

    def add(self, name, content):
        made = self._glance.images.create(name=f"{self.prefix}-{name}", disk_format="raw", container_format="bare")
        self._glance.images.upload(made.id, io.BytesIO(content))
        return made.id

    def found(self):
        """Their names, by their ids."""
        return {each.id: each.name for each in self._glance.images.list() if (each.name or "").startswith(self.prefix)}

    def content(self, image):
        return b"".join(self._glance.images.data(image))

    def delete(self, image):
        self._glance.images.delete(image)


def test_the_recovery_runbook(repo, env, images, tmp_path):
    repo.env |= {name: env[name] for name in LOGIN}
    lost, other = images.add("web-1", b"lost" * 10_000), images.add("web-2", b"other" * 10_000)
    repo("backup", "create", "--mode", "glance", "--mode-image-filter", f"{images.prefix}-web-*", "--name", "images")
    images.delete(lost)
    deleted, gone = (
        "".join(commands(PAGE, heading, "sh")).replace("web-1", f"{images.prefix}-web-1").replace("/srv", str(tmp_path))
        for heading in ("### An image was deleted", "### The cloud is gone")
    )
    for line in deleted.splitlines():
        done = repo(*shlex.split(line)[1:])
    assert images.prefix in done.out  # the new id is told with the name
    (new,) = images.found().keys() - {other}
    assert images.found()[new] == f"{images.prefix}-web-1"
    assert images.content(new) == b"lost" * 10_000
    images.delete(new)
    images.delete(other)
    for line in gone.splitlines():
        repo(*shlex.split(line)[1:])
    assert sorted(map(images.content, images.found())) == [b"lost" * 10_000, b"other" * 10_000]
    files = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert files == {f"{lost}.raw": b"lost" * 10_000, f"{other}.raw": b"other" * 10_000}


def test_a_login_by_flags_stands_above_that_of_the_environment(repo, env, images, tmp_path):
    repo.env |= {"OS_AUTH_URL": "http://127.0.0.1:9", "OS_PASSWORD": "of another cloud", "OS_USERNAME": "nobody"}
    password = tmp_path / "password"
    password.write_text(env["OS_PASSWORD"] + "\n")
    image = images.add("one", b"content")
    flags = ("--mode-os-auth-url", env["OS_AUTH_URL"], "--mode-os-username", env["OS_USERNAME"])
    flags += ("--mode-os-project-name", env["OS_PROJECT_NAME"], "--mode-os-password-file", str(password))
    repo("backup", "create", "--mode", "glance", "--mode-image", image, *flags)
    planned = repo(
        *("backup", "restore", "latest", "server:", "--mode", "glance", "--mode-rename", "new", "--dry-run"), *flags
    )
    assert "server:new" in planned.out
    assert list(images.found()) == [image]


def test_who_may_only_look_at_images_is_told_so(repo, env, images):
    image = images.add("one", b"content")
    repo.env |= {name: env[name] for name in LOGIN}
    repo.env |= {"OS_USERNAME": env["KEYSTONE_READER"], "OS_PASSWORD": env["KEYSTONE_READER_PASSWORD"]}
    refused = repo("backup", "create", "--mode", "glance", "--mode-image", image, code=1)
    assert "answers 403" in refused.err
    assert "check the user's role in the project" in refused.err
    assert repo("backup", "list", "-f", "json").json == []
