"""identity.py PORT: as much of OpenStack Identity v3 as the original's agent needs before it touches a local store.

Everybody may log in. The catalogue names Compute, Image and Block Storage below this server, which has nothing in them.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SERVICES = {"compute": ("nova", "v2.1"), "image": ("glance", "v2"), "block-storage": ("cinder", "v3")}
TOKEN = "0123456789abcdef0123456789abcdef"
PROJECT = "00000000000000000000000000000001"


class Handler(BaseHTTPRequestHandler):
    """Answers for all services."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """What versions a service has; it has nothing else."""
        service = self.path.strip("/").split("/")[0]
        if service == "v3":
            self._answer(200, {"version": self._version("v3.14", "v3")})
        elif service in SERVICES:
            version = SERVICES[service][1]
            self._answer(200, {"versions": [self._version(version, f"{service}/{version}")]})
        else:
            self._answer(300, {"versions": {"values": [self._version("v3.14", "v3")]}})

    def do_POST(self) -> None:
        """Logs somebody in."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.rstrip("/") != "/v3/auth/tokens":
            self._answer(404, {"error": {"code": 404, "message": "not here", "title": "Not Found"}})
            return
        self._answer(201, {"token": self._token()}, {"x-subject-token": TOKEN})

    def _token(self) -> dict[str, Any]:
        domain = {"id": "default", "name": "Default"}
        return {
            "methods": ["password"],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2096-01-01T00:00:00.000000Z",
            "user": {"id": "1", "name": "freezer", "domain": domain},
            "project": {"id": PROJECT, "name": "freezer", "domain": domain},
            "roles": [{"id": "1", "name": "member"}],
            "catalog": [
                {"type": kind, "name": name, "id": name, "endpoints": self._endpoints(kind, version)}
                for kind, (name, version) in SERVICES.items()
            ],
        }

    def _endpoints(self, kind: str, version: str) -> list[dict[str, str]]:
        url = f"{self._here()}/{kind}/{version}"
        place = {"region": "RegionOne", "region_id": "RegionOne", "url": url}
        return [{"id": f"{kind}-{interface}", "interface": interface, **place} for interface in ("public", "internal")]

    def _version(self, version: str, path: str) -> dict[str, Any]:
        links = [{"rel": "self", "href": f"{self._here()}/{path}/"}]
        return {"id": version, "status": "CURRENT" if version[1] != "3" else "stable", "links": links}

    def _here(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}"

    def _answer(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "content-type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
