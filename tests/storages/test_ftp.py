"""The FTP storages on real servers: vsftpd, which has no MLSD, and pyftpdlib, which has."""

from __future__ import annotations

import pytest
from servers import start

from freezer_sdk.storages.ftp import FtpsStorage, FtpStorage
from freezer_sdk.testing.storage_suite import StorageSuite

pytestmark = pytest.mark.ftp


class FtpSuite(StorageSuite):
    service = ""
    tls = False

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls):
        cls.env = start(cls.service)

    def make_storage(self):
        values = {"host": "127.0.0.1", "user": self.env["FTP_USER"], "password": self.env["FTP_PASSWORD"]}
        values |= {"path": self.env["FTP_PATH"], "timeout": 20.0}
        if self.tls:
            return FtpsStorage(port=int(self.env["FTPS_PORT"]), ca_file=self.env["FTP_CA"], **values)
        return FtpStorage(port=int(self.env["FTP_PORT"]), **values)


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
