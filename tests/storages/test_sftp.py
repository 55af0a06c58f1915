"""The storage ``sftp`` against a real OpenSSH server."""

from __future__ import annotations

import pytest
from servers import start

from freezer_sdk.storages.sftp import SftpStorage
from freezer_sdk.testing.storage_suite import StorageSuite

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="session")
def sshd():
    return start("sshd")


class TestSftp(StorageSuite):
    many = 10_001

    @pytest.fixture(autouse=True)
    def _server(self, sshd, tmp_path):
        self.options = {
            "host": sshd["SSH_HOST"],
            "port": int(sshd["SSH_PORT"]),
            "user": sshd["SSH_USER"],
            "path": str(tmp_path / "store"),
            "identity_file": [f"{sshd['SSH_KEYS']}/ed25519"],
            "known_hosts": [sshd["SSH_KNOWN_HOSTS"]],
            "ssh_config": "none",
        }

    def make_storage(self):
        return SftpStorage(**self.options)
