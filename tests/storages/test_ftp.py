"""The FTP storages on real servers: vsftpd, which has no MLSD, and pyftpdlib, which has."""

from __future__ import annotations

import pytest
from ftp_server import own_server
from servers import start

from freezer_sdk.storages.ftp import FtpsStorage, FtpStorage
from freezer_sdk.testing.storage_suite import StorageSuite

pytestmark = pytest.mark.ftp


class FtpSuite(StorageSuite):
    service = ""
    tls = False
    many = 300

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls):
        cls.env = start(cls.service)

    @property
    def options(self):
        values = {"host": "127.0.0.1", "user": self.env["FTP_USER"], "password": self.env["FTP_PASSWORD"]}
        values |= {"port": int(self.env["FTP_PORT"]), "path": self.env["FTP_PATH"], "timeout": 20.0}
        return values | ({"port": int(self.env["FTPS_PORT"]), "ca_file": self.env["FTP_CA"]} if self.tls else {})

    def make_storage(self):
        return (FtpsStorage if self.tls else FtpStorage)(**self.options)


class TestVsftpd(FtpSuite):
    service = "vsftpd"
    many = 10_001


class TestVsftpdOverTls(FtpSuite):
    service = "vsftpd"
    tls = True


class TestPyftpdlib(FtpSuite):
    service = "pyftpdlib"


class TestPyftpdlibOverTls(FtpSuite):
    service = "pyftpdlib"
    tls = True


class TestListOverDataConnections(FtpSuite):
    """A server without MLSD, and whose STAT does not take "-a"."""

    many = 100

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls):
        with own_server("pyftpdlib", "list", PYFTPDLIB_OPTIONS="no-mlsd") as cls.env:
            yield
