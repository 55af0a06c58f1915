"""Images of a real Glance: chosen, backed up, restored as new ones."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import uuid
from pathlib import Path

import pytest
from servers import start
from taking_turns import turn
from tcp_proxy import TcpProxy

from freezer_sdk import Freezer, protect
from freezer_sdk.errors import (
    AmbiguousError,
    ConfigurationError,
    RestoreError,
    SourceChanged,
    SourceUnreadable,
)
from freezer_sdk.testing import ModeSuite

pytest.importorskip("glanceclient")

from freezer_sdk.modes.glance import GlanceMode

pytestmark = pytest.mark.glance
LOGIN = ("OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME")
SIZE = 128 << 20
CANARY = "canary-Xk29-password"


class SparseFile(io.RawIOBase):
    """Random bytes at three places, and nothing between."""

    def __init__(self, size, seed=1):
        self._size, self._position = size, 0
        self._data = random.Random(seed).randbytes(64 << 10)

    def read(self, size=-1):
        count = self._size - self._position if size < 0 else min(size, self._size - self._position)
        piece = bytearray(count)
        for place in (0, self._size // 2, self._size - len(self._data)):
            start, end = max(place, self._position), min(place + len(self._data), self._position + count)
            if start < end:
                piece[start - self._position : end - self._position] = self._data[start - place : end - place]
        self._position += count
        return bytes(piece)


class Glance:
    """Glance as its users see it, by OpenStack's own client."""

    def __init__(self, env):
        self.env = env
        self.user = self.client(env["OS_USERNAME"], env["OS_PASSWORD"], env["OS_PROJECT_NAME"])
        self.admin = self.client("admin", "admin-password", "admin")
        self.begin()

    def begin(self):
        """For another test."""
        self.login = {name.lower(): self.env[name] for name in LOGIN}
        self.prefix = uuid.uuid4().hex[:8]
        self.made = []

    def session(self, user, password, project):
        from keystoneauth1 import session
        from keystoneauth1.identity import v3

        domains = {"user_domain_id": "default", "project_domain_id": "default"}
        auth = v3.Password(self.env["OS_AUTH_URL"], username=user, password=password, project_name=project, **domains)
        return session.Session(auth=auth)

    def client(self, *who):
        from glanceclient import Client

        return Client("2", session=self.session(*who), connect_retries=3)  # a server closes what has long been idle

    def add(self, name, content=b"", *, client=None, disk_format="raw", container_format="bare", **properties):
        client = client or self.user
        made = client.images.create(
            name=f"{self.prefix}-{name}", disk_format=disk_format, container_format=container_format, **properties
        )
        client.images.upload(made.id, content if isinstance(content, io.RawIOBase) else io.BytesIO(content))
        self.made.append((client, made.id))
        return dict(client.images.get(made.id))

    def named(self, name):
        return [dict(image) for image in self.user.images.list(filters={"name": f"{self.prefix}-{name}"})]

    def content(self, image):
        return b"".join(self.user.images.data(image))

    def clear(self):
        owned = self.user.images.list(filters={"owner": self.env["OS_PROJECT_ID"]})
        mine = {(self.user, image.id) for image in owned if (image.name or "").startswith(self.prefix)}
        for client, image in mine | set(self.made):
            if client.images.get(image).protected:
                client.images.update(image, protected=False)
            client.images.delete(image)

    def options(self, **options):
        return {**self.login, "retry_time": 30, **options}


@pytest.fixture(autouse=True)
def _alone():
    """Glance's SQLite fails when several tests write at once."""
    with turn("glance"):
        yield


@pytest.fixture(scope="module")
def env():
    return start("glance")


@pytest.fixture(scope="module")
def clients(env):
    return Glance(env)


@pytest.fixture
def glance(clients):
    clients.begin()
    yield clients
    clients.clear()


@pytest.fixture
def repository(tmp_path):
    with Freezer.create(f"local:{tmp_path}/repository", encryption=False) as freezer:
        yield freezer


class TestContract(ModeSuite):
    mode = GlanceMode
    expected = (b"first" * 10_000, b"second" * 10_000)

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _images(cls, clients):
        clients.begin()
        images = [clients.add(str(number), content)["id"] for number, content in enumerate(cls.expected)]
        cls.options = clients.options(image=tuple(images))
        yield
        clients.clear()

    def content(self):
        return sorted(self.expected)

    def restored(self, target):
        return sorted(path.read_bytes() for path in Path(target).iterdir())


def test_a_sparse_image_by_its_id_and_a_filter_comes_back_as_a_new_one(glance, repository):
    big = glance.add(
        "web-1", SparseFile(SIZE), min_disk=1, min_ram=64, tags=["golden"], hw_disk_bus="virtio", os_distro="debian"
    )
    small = glance.add("web-2", b"small" * 1000)
    glance.add("db", b"not this one")
    by_id = repository.backup((), mode="glance", mode_options=glance.options(image=[big["id"]]), name="by-id")
    by_filter = repository.backup(
        (), mode="glance", mode_options=glance.options(image_filter=[f"{glance.prefix}-web-*"]), name="by-filter"
    )
    assert by_id.stats.bytes == SIZE
    assert by_id.stats.added_bytes < 4 << 20  # three times 64 KiB, and holes
    stored = [image["properties"]["id"] for image in by_filter.facts["glance"]["images"]]
    assert sorted(stored) == sorted([big["id"], small["id"]])
    result = repository.restore(
        by_filter.id, "server:", mode_options=glance.options(image=[big["id"]], rename=f"{glance.prefix}-restored")
    )
    assert (str(result.status), result.files, result.bytes) == ("complete", 1, SIZE)
    (made,) = result.facts["glance"]["images"]
    assert made["of"] == big["id"] != made["id"]
    new = dict(glance.user.images.get(made["id"]))
    assert (new["status"], new["size"], new["os_hash_value"]) == ("active", SIZE, big["os_hash_value"])
    kept = ("disk_format", "container_format", "min_disk", "min_ram", "tags", "hw_disk_bus", "os_distro", "visibility")
    assert {name: new[name] for name in kept} == {name: big[name] for name in kept}
    assert new["name"] == f"{glance.prefix}-restored"


def test_by_id_the_content_is_what_was_stored(glance, repository, tmp_path):
    data = random.Random(5).randbytes(3_000_000)
    image = glance.add("disk", data)
    backup = repository.backup((), mode="glance", mode_options=glance.options(image=[image["id"]]))
    assert backup.name == image["id"]
    assert not {"direct_url", "locations"} & backup.facts["glance"]["images"][0]["properties"].keys()
    repository.restore("latest", tmp_path / "files", mode="fs")
    assert (tmp_path / "files" / f"{image['id']}.raw").read_bytes() == data
    result = repository.restore("latest", "server:", mode_options=glance.options())
    (made,) = result.facts["glance"]["images"]
    assert glance.content(made["id"]) == data


def test_an_image_needs_no_name_that_only_it_has(glance, repository):
    glance.add("twin", b"one")
    glance.add("twin", b"two")
    twin = f"{glance.prefix}-twin"
    with pytest.raises(AmbiguousError, match="2 images are named") as caught:
        repository.backup((), mode="glance", mode_options=glance.options(image=[twin]))
    assert all(image["id"] in caught.value.message for image in glance.named("twin"))
    backup = repository.backup((), mode="glance", mode_options=glance.options(image_filter=[twin]))
    assert backup.stats.files == 2


def test_what_can_be_set_only_at_the_end_is_set(glance, repository):
    image = glance.add("safe", b"content", visibility="community", protected=True)
    glance.user.images.update(image["id"], os_hidden=True)
    repository.backup((), mode="glance", mode_options=glance.options(image=[image["id"]]))
    result = repository.restore("latest", "server:", mode_options=glance.options())
    (made,) = result.facts["glance"]["images"]
    new = glance.user.images.get(made["id"])
    assert (new.visibility, new.protected, new.os_hidden) == ("community", True, True)
    glance.made.append((glance.user, made["id"]))  # it is not listed
    assert not result.problems


def test_what_the_user_may_not_set_is_told(glance, repository):
    image = glance.add("public", b"for everybody", client=glance.admin, visibility="public")
    repository.backup((), mode="glance", mode_options=glance.options(image=[f"{glance.prefix}-public"]))
    result = repository.restore("latest", "server:", mode_options=glance.options())
    (problem,) = result.problems
    assert not problem.fatal
    assert "visibility=public" in problem.message
    (made,) = result.facts["glance"]["images"]
    assert glance.user.images.get(made["id"]).visibility == "private"
    assert made["of"] == image["id"]


def test_filters_take_other_projects_images_only_when_asked(glance, repository):
    glance.add("shared", b"of another project", client=glance.admin, visibility="public")
    options = glance.options(image_filter=[f"{glance.prefix}-*"])
    with pytest.raises(SourceUnreadable, match="no image has a name like") as caught:
        repository.backup((), mode="glance", mode_options=options)
    assert "any_owner" in caught.value.hint
    assert repository.backup((), mode="glance", mode_options={**options, "any_owner": True}).stats.files == 1


def test_images_that_others_need_to_start_go_by_their_new_ids(glance, repository):
    kernel = glance.add("kernel", b"k" * 5000, disk_format="aki", container_format="aki")
    ramdisk = glance.add("ramdisk", b"r" * 5000, disk_format="ari", container_format="ari")
    machine = glance.add(
        "ami", b"a" * 5000, disk_format="ami", container_format="ami", kernel_id=kernel["id"], ramdisk_id=ramdisk["id"]
    )
    options = glance.options(image_filter=[f"{glance.prefix}-*"])
    repository.backup((), mode="glance", mode_options=options, name="set")
    result = repository.restore("latest", "server:", mode_options=glance.options())
    ids = {made["of"]: made["id"] for made in result.facts["glance"]["images"]}
    new = glance.user.images.get(ids[machine["id"]])
    assert (new.kernel_id, new.ramdisk_id) == (ids[kernel["id"]], ids[ramdisk["id"]])


def test_an_image_without_content_of_its_own(glance, repository, caplog):
    image = glance.add("volume", b"", block_device_mapping="[]")
    assert image["size"] == 0
    repository.backup((), mode="glance", mode_options=glance.options(image=[image["id"]]))
    assert "volumes that it names are not part of the backup" in caplog.text
    result = repository.restore("latest", "server:", mode_options=glance.options())
    (made,) = result.facts["glance"]["images"]
    new = glance.user.images.get(made["id"])
    assert (new.status, new.size, new.block_device_mapping) == ("active", 0, "[]")


def test_images_that_cannot_be_read(glance, repository):
    with pytest.raises(SourceUnreadable, match="there is no image"):
        repository.backup((), mode="glance", mode_options=glance.options(image=["nowhere"]))
    with pytest.raises(SourceUnreadable, match="there is no image"):
        repository.backup((), mode="glance", mode_options=glance.options(image=["../info/stores"]))
    queued = glance.user.images.create(name=f"{glance.prefix}-new", disk_format="raw", container_format="bare")
    with pytest.raises(SourceUnreadable, match="it is queued"):
        repository.backup((), mode="glance", mode_options=glance.options(image=[queued.id]))
    with pytest.raises(ConfigurationError, match="no image to back up"):
        repository.backup((), mode="glance", mode_options=glance.options())
    assert not repository.backups()


def test_a_wrong_password_is_told_without_it(glance, repository):
    options = glance.options(image=["any"], os_password=CANARY)
    with pytest.raises(SourceUnreadable, match="refuses these credentials") as caught:
        repository.backup((), mode="glance", mode_options=options)
    assert CANARY not in f"{caught.value} {caught.value.hint} {caught.getrepr(style='long')}".replace(repr(options), "")


def test_an_image_that_its_store_damaged_is_not_committed(glance, repository, env):
    image = glance.add("rotten", b"sound" * 10_000)
    with open(f"{env['GLANCE_IMAGES']}/{image['id']}", "r+b") as file:
        file.seek(20_000)
        file.write(b"ROTTEN")
    with pytest.raises(SourceChanged, match="sha512 hash"):
        repository.backup((), mode="glance", mode_options=glance.options(image=[image["id"]]))
    assert not repository.backups()


def test_choosing_among_the_images_of_a_backup(glance, repository):
    one, two = glance.add("one", b"1" * 5000), glance.add("two", b"2" * 6000)
    options = glance.options(image_filter=[f"{glance.prefix}-*"])
    backup = repository.backup((), mode="glance", mode_options=options, name="both")
    plan = repository.restore("latest", "server:", mode_options=glance.options(), dry_run=True).plan
    assert sorted((step.action, step.path.decode(), step.size) for step in plan) == [
        ("create", f"server:{one['name']}", 5000),
        ("create", f"server:{two['name']}", 6000),
    ]
    by_path = repository.restore(
        "latest", "server:", paths=[f"/{two['id']}.raw"], mode_options=glance.options(), dry_run=True
    )
    assert [step.size for step in by_path.plan] == [6000]
    for options, wrong in (
        ({"image": ["three"]}, "the backup holds no image 'three'"),
        ({"rename": "x"}, "2 images cannot all be named"),
    ):
        with pytest.raises(ConfigurationError, match=wrong):
            repository.restore(backup.id, "server:", mode_options=glance.options(**options))
    with pytest.raises(ConfigurationError, match="not by include"):
        repository.restore(backup.id, "server:", include=["x"], mode_options=glance.options())
    assert len(glance.named("one")) == len(glance.named("two")) == 1


@pytest.fixture
def line(glance, env):
    """A way to Glance that can be cut: the endpoint of another region."""
    admin = glance.session("admin", "admin-password", "admin")
    url, region = env["OS_AUTH_URL"], f"cut-{glance.prefix}"
    with TcpProxy("127.0.0.1", int(env["GLANCE_PORT"])) as proxy:
        admin.post(f"{url}/regions", json={"region": {"id": region}})
        (service,) = admin.get(f"{url}/services", params={"type": "image"}).json()["services"]
        endpoint = {"service_id": service["id"], "interface": "public", "region_id": region}
        endpoint["url"] = f"http://127.0.0.1:{proxy.port}"
        made = admin.post(f"{url}/endpoints", json={"endpoint": endpoint}).json()["endpoint"]["id"]
        glance.login["os_region_name"] = region
        yield proxy
        admin.delete(f"{url}/endpoints/{made}")
        admin.delete(f"{url}/regions/{region}")
    admin.session.close()


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_download_goes_on_where_the_connection_broke(glance, repository, line, how):
    data = random.Random(7).randbytes(6 << 20)
    image = glance.add("long", data)
    line.cut(how, after=2 << 20, direction="down", times=2)
    backup = repository.backup((), mode="glance", mode_options=glance.options(image=[image["id"]]))
    assert line.connections >= 3
    with repository.open(backup.id, f"/{image['id']}.raw") as reader:
        assert hashlib.sha256(reader.read()).digest() == hashlib.sha256(data).digest()


def test_of_an_upload_that_broke_nothing_is_left(glance, repository, line):
    image = glance.add("upload", random.Random(8).randbytes(4 << 20))
    repository.backup((), mode="glance", mode_options=glance.options(image=[image["id"]]))
    line.cut("reset", after=1 << 20, direction="up", times=1)
    with pytest.raises(RestoreError, match="cannot send image"):
        repository.restore("latest", "server:", mode_options=glance.options())
    assert [each["id"] for each in glance.named("upload")] == [image["id"]]


def test_alone_in_the_library(glance):
    image = glance.add("alone", b"0123456789" * 1000)
    with protect("glance", mode_options=glance.options(image=[image["id"]])) as protected:
        (stream,) = protected.sources
        buffer = memoryview(bytearray(20_000))
        with stream.open() as reader:
            assert reader.readinto(buffer) == stream.size == 10_000
    assert protected.facts["glance"]["images"][0]["properties"]["name"] == image["name"]


def test_whoever_leaves_early_ends_a_download_that_waits(glance, line):
    image = glance.add("stalled", random.Random(9).randbytes(4 << 20))
    with protect("glance", mode_options=glance.options(image=[image["id"]])) as protected:
        (stream,) = protected.sources
        line.cut("stall", after=1 << 20, direction="down")
        ended = []

        def read(reader):
            try:
                reader.readinto(memoryview(bytearray(4 << 20)))
            except Exception as error:
                ended.append(error)

        with stream.open() as reader:
            thread = threading.Thread(target=read, args=(reader,))
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
        thread.join()
    assert len(ended) == 1
    line.heal()
