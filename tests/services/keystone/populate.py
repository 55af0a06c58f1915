"""populate.py KEYSTONE SWIFT: makes what the tests need, with Keystone's own API; prints NAME=value lines.

Project ``freezer`` has the users ``freezer`` (member: may use Swift), ``reader`` (may not), and ``delegate`` (has no
role of its own; ``freezer`` trusts it). Run once, after ``keystone-manage bootstrap``.
"""

import sys

from keystoneauth1 import session
from keystoneauth1.identity import v3

PASSWORDS = {"freezer": "freezer-password", "reader": "reader-password", "delegate": "delegate-password"}


class Keystone:
    """Keystone as one user sees it."""

    def __init__(self, url: str, user: str, password: str, project: str) -> None:
        auth = v3.Password(
            url,
            username=user,
            password=password,
            user_domain_id="default",
            project_name=project,
            project_domain_id="default",
        )
        self.session = session.Session(auth=auth)
        self.user_id = self.session.get_user_id()
        self.project_id = self.session.get_project_id()
        self._url = url

    def post(self, path: str, **body: object) -> dict:
        """Makes something, and gives what Keystone says of it."""
        answer = self.session.post(self._url + path, json=body, connect_retries=20).json()
        return next(iter(answer.values()))

    def put(self, path: str) -> None:
        """Grants a role."""
        self.session.put(self._url + path)

    def roles(self) -> dict[str, str]:
        """Ids by name."""
        return {role["name"]: role["id"] for role in self.session.get(self._url + "/roles").json()["roles"]}


def main(url: str, swift: str) -> None:
    admin = Keystone(url, "admin", "admin-password", "admin")
    roles = admin.roles()

    def add(user: str, password: str, project: str, *names: str) -> str:
        made = admin.post("/users", user={"name": user, "domain_id": "default", "password": password})["id"]
        for name in names:
            admin.put(f"/projects/{project}/users/{made}/roles/{roles[name]}")
        return made

    def add_project(name: str) -> str:
        return admin.post("/projects", project={"name": name, "domain_id": "default"})["id"]

    add("swift", "swift-password", add_project("service"), "admin", "service")
    project = add_project("freezer")
    add("freezer", PASSWORDS["freezer"], project, "member", "reader")
    add("reader", PASSWORDS["reader"], project, "reader")
    delegate = add("delegate", PASSWORDS["delegate"], project)

    service = admin.post("/services", service={"name": "swift", "type": "object-store"})["id"]
    # only the public one can be reached: a test sees which one is used
    for interface, place in (("public", swift), ("internal", "http://127.0.0.1:9"), ("admin", "http://127.0.0.1:9")):
        endpoint = {"service_id": service, "interface": interface, "region_id": "RegionOne"}
        admin.post("/endpoints", endpoint={**endpoint, "url": f"{place}/v1/AUTH_%(tenant_id)s"})

    user = Keystone(url, "freezer", PASSWORDS["freezer"], "freezer")
    credential = user.post(f"/users/{user.user_id}/application_credentials", application_credential={"name": "tests"})
    keys = user.post(f"/users/{user.user_id}/credentials/OS-EC2", tenant_id=project)
    trust = user.post(
        "/OS-TRUST/trusts",
        trust={
            "trustor_user_id": user.user_id,
            "trustee_user_id": delegate,
            "project_id": project,
            "impersonation": True,
            "roles": [{"name": "member"}],
        },
    )
    for name, value in {
        "OS_USERNAME": "freezer",
        "OS_PASSWORD": PASSWORDS["freezer"],
        "OS_PROJECT_NAME": "freezer",
        "OS_PROJECT_ID": project,
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_APPLICATION_CREDENTIAL_ID": credential["id"],
        "OS_APPLICATION_CREDENTIAL_SECRET": credential["secret"],
        "KEYSTONE_READER": "reader",
        "KEYSTONE_READER_PASSWORD": PASSWORDS["reader"],
        "KEYSTONE_TRUSTEE": "delegate",
        "KEYSTONE_TRUSTEE_PASSWORD": PASSWORDS["delegate"],
        "KEYSTONE_TRUST_ID": trust["id"],
        "S3_ACCESS": keys["access"],
        "S3_SECRET": keys["secret"],
    }.items():
        print(f"{name}={value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
