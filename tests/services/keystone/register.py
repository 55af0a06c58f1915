"""register.py KEYSTONE NAME TYPE URL: tells Keystone of one more service; run again, it changes nothing.

The service logs in as a user of its name, with the password ``NAME-password``, in the project ``service``. Only the
public endpoint can be reached, as those that ``populate.py`` makes.
"""

import sys

from keystoneauth1 import session
from keystoneauth1.identity import v3


class Keystone:
    """Keystone as its administrator sees it."""

    def __init__(self, url: str) -> None:
        domain = {"user_domain_id": "default", "project_domain_id": "default"}
        auth = v3.Password(url, username="admin", password="admin-password", project_name="admin", **domain)
        self._session = session.Session(auth=auth)
        self._url = url

    def find(self, collection: str, **query: str) -> list[dict]:
        """What there is."""
        return self._session.get(f"{self._url}/{collection}", params=query, connect_retries=20).json()[collection]

    def ensure(self, collection: str, body: dict, **query: str) -> str:
        """The id of what is found by the query, or is made now."""
        for found in self.find(collection, **query):
            return found["id"]
        kind = collection[:-1]
        return self._session.post(f"{self._url}/{collection}", json={kind: body}).json()[kind]["id"]

    def grant(self, project: str, user: str, role: str) -> None:
        """Gives a user a role."""
        (found,) = self.find("roles", name=role)
        self._session.put(f"{self._url}/projects/{project}/users/{user}/roles/{found['id']}")


def main(url: str, name: str, kind: str, place: str) -> None:
    keystone = Keystone(url)
    (project,) = keystone.find("projects", name="service")
    user = keystone.ensure("users", {"name": name, "domain_id": "default", "password": f"{name}-password"}, name=name)
    for role in ("admin", "service"):
        keystone.grant(project["id"], user, role)
    service = keystone.ensure("services", {"name": name, "type": kind}, name=name)
    for interface, where in (("public", place), ("internal", "http://127.0.0.1:9"), ("admin", "http://127.0.0.1:9")):
        endpoint = {"service_id": service, "interface": interface, "region_id": "RegionOne", "url": where}
        keystone.ensure("endpoints", endpoint, service_id=service, interface=interface)


if __name__ == "__main__":
    main(*sys.argv[1:])
