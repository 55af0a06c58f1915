"""Clouds of OpenStack: the options that say which one and as whom, and one way to log in.

Storages and modes put :data:`OPENSTACK` into their options and hand the values to :class:`Cloud`. The options have the
names, and the command line fills them from the environment variables, that OpenStack's own clients use; nothing here
reads the environment.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from freezer_sdk.errors import AccessDenied, ConfigurationError, StorageError, StorageThrottled, StorageUnavailable
from freezer_sdk.options import Option, parse_bool
from freezer_sdk.streams.network import Proxy
from freezer_sdk.streams.osrc import read_osrc

if TYPE_CHECKING:
    from keystoneauth1.session import Session

INSTEAD = ("os_cloud", "osrc")
"""Options that stand for all the others that say who logs in, and where."""

_ELSEWHERE = "os_auth_url"
_USERINFO = re.compile(r"://[^/]*@")
_V1 = re.compile(r"/v1(\.0)?/?$")
_V3 = re.compile(r"/v3/?$")
_V2 = re.compile(r"/v2\.0/?$")
_SCOPE = ("project_id", "project_name", "project_domain_id", "project_domain_name")


def _login(name: str, text: str, *variables: str, secret: bool = False) -> Option:
    env = (f"OS_{name.upper()}", *variables)
    return Option(name=f"os_{name}", help=text, secret=secret, env=env, env_unless=(*INSTEAD, _ELSEWHERE))


OPENSTACK: tuple[Option, ...] = (
    Option(name="osrc", type="path", help="File with lines such as 'export OS_USERNAME=...'; it is read, never run"),
    Option(name="os_cloud", env=("OS_CLOUD",), env_unless=("osrc", _ELSEWHERE), help="Name of a cloud of clouds.yaml"),
    Option(
        name="os_client_config_file",
        type="path",
        env=("OS_CLIENT_CONFIG_FILE",),
        help="clouds.yaml to read instead of those in the usual places",
    ),
    Option(
        name="os_client_secure_file",
        type="path",
        env=("OS_CLIENT_SECURE_FILE",),
        help="secure.yaml to read instead of those in the usual places",
    ),
    _login("auth_type", "How to log in, where that is not clear from the other options; a plug-in of keystoneauth"),
    _login("identity_api_version", "3, or 1 for the older authentication of Swift alone", "ST_AUTH_VERSION"),
    _login("username", "Name of the user", "ST_USER"),
    _login("user_id", "Id of the user"),
    _login("password", "Password of the user", "ST_KEY", secret=True),
    _login("user_domain_name", "Domain of the user (default: Default)"),
    _login("user_domain_id", "Id of the user's domain"),
    _login("project_name", "Name of the project", "OS_TENANT_NAME"),
    _login("project_id", "Id of the project", "OS_TENANT_ID"),
    _login("project_domain_name", "Domain of the project (default: Default)"),
    _login("project_domain_id", "Id of the project's domain"),
    _login("application_credential_id", "Id of an application credential"),
    _login("application_credential_name", "Name of an application credential of the user"),
    _login("application_credential_secret", "Secret of the application credential", secret=True),
    _login("token", "Token that was made before", "OS_AUTH_TOKEN", secret=True),
    _login("trust_id", "Id of a trust: log in on behalf of another user"),
    Option(
        name="os_region_name",
        env=("OS_REGION_NAME",),
        env_unless=("osrc", _ELSEWHERE),
        help="Region, where the catalogue has several",
    ),
    Option(
        name="os_interface",
        env=("OS_INTERFACE", "OS_ENDPOINT_TYPE"),
        env_unless=("osrc", _ELSEWHERE),
        help="Endpoint of the catalogue: public (the default), internal or admin",
    ),
    Option(
        name="os_cacert",
        type="path",
        env=("OS_CACERT",),
        env_unless=(*INSTEAD, _ELSEWHERE),
        help="File of certificates that servers are checked with, instead of the usual ones",
    ),
    Option(
        name="os_cert",
        type="path",
        env=("OS_CERT",),
        env_unless=(*INSTEAD, _ELSEWHERE),
        help="Certificate of the client",
    ),
    Option(
        name="os_key",
        type="path",
        env=("OS_KEY",),
        env_unless=(*INSTEAD, _ELSEWHERE),
        help="Key of the client's certificate",
    ),
    Option(
        name="os_insecure",
        type="bool",
        env=("OS_INSECURE",),
        env_unless=(*INSTEAD, _ELSEWHERE),
        help="Do not check certificates: whoever sits between can read and change everything",
    ),
    # the last one: where a URL is given, what the environment says of another place, its secrets above all, is not used
    Option(
        name=_ELSEWHERE,
        env=("OS_AUTH_URL", "ST_AUTH"),
        env_unless=INSTEAD,
        help="URL of Keystone, or of a v1 authentication service",
    ),
)


def resolve(values: Mapping[str, Any], options: Sequence[Option]) -> dict[str, Any]:
    """The values with those that the ``osrc`` file adds; what was given wins.

    Args:
        values: by option name; ``None``: not given.
        options: those that the file may give a value, by their ``env``.

    Raises:
        ConfigurationError: the file cannot be read, or only a shell could tell what it says.
    """
    known = {name: value for name, value in values.items() if value is not None}
    path = known.pop("osrc", None)
    if path is None:
        return known
    if "os_cloud" in known:
        raise ConfigurationError("osrc and os_cloud are given: use one of them")
    found = read_osrc(path)
    for option in options:
        variable = next((name for name in option.env if name in found.values or name in found.unknown), None)
        if variable is None or option.name in known:
            continue
        if variable in found.unknown:
            raise ConfigurationError(
                f"{path}, line {found.unknown[variable]}: only a shell could tell the value of {variable}",
                hint=f"write the value there, or give the option {option.name}",
            )
        if found.values[variable]:
            known[option.name] = option.convert(found.values[variable])
    return known


class Cloud:
    """One cloud, as one user; logs in when a token is first needed. May be used from several threads.

    Args:
        values: of the options :data:`OPENSTACK`; others are not looked at.
        endpoint: of the service; with a token this is all that is needed.
        connect_timeout, timeout: seconds.
        proxy: what every connection goes through.

    Attributes:
        session: for clients of OpenStack services that take one.
        region, interface: which endpoint of the catalogue is meant; ``None``: any region.
        verify: ``False``, ``True``, or a file of certificates.
        cert: certificate and key of the client.

    Raises:
        ConfigurationError: the options do not say how to log in, or the cloud is not in clouds.yaml.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        endpoint: str | None = None,
        connect_timeout: float,
        timeout: float,
        proxy: Proxy | None = None,
    ) -> None:
        from freezer_sdk.streams import http

        known = {name: value for name, value in resolve(values, OPENSTACK).items() if name.startswith("os_")}
        if "os_cloud" in known:
            known = _from_clouds_yaml(known)
        self.region: str | None = known.get("os_region_name")
        self.interface: str = known.get("os_interface", "public").removesuffix("URL")
        self.verify: bool | str = not known.get("os_insecure", False) and known.get("os_cacert", True)
        self.cert = (known["os_cert"], known["os_key"]) if "os_cert" in known and "os_key" in known else None
        self._secrets = [str(known[option.name]) for option in OPENSTACK if option.secret and option.name in known]
        self._url = _USERINFO.sub("://", known.get("os_auth_url") or endpoint or "")
        self._endpoint = endpoint
        plugin = _auth_plugin(known, endpoint)
        self.session = _session(plugin, self.verify, self.cert)
        self._http = self.session.session
        http.prepare(self._http, connect_timeout=connect_timeout, timeout=timeout, proxy=proxy)

    def token(self) -> str:
        """A token that is good now, as far as is known here.

        Raises:
            AccessDenied, ConfigurationError, StorageUnavailable, StorageThrottled, StorageError.
        """
        with self.explained():
            return self.session.get_token() or ""

    def renew(self, token: str) -> bool:
        """Forgets a token that a service refused, unless another thread has done so; whether there can be another.

        Raises:
            AccessDenied, ConfigurationError, StorageUnavailable, StorageThrottled, StorageError.
        """
        with self.explained():
            return self.session.get_token() != token or bool(self.session.invalidate())

    def endpoint(self, service: str) -> str:
        """The URL of a service, such as ``object-store``.

        Raises:
            ConfigurationError: the catalogue has none for this region and interface.
            AccessDenied, StorageUnavailable, StorageThrottled, StorageError.
        """
        if self._endpoint is not None:
            return self._endpoint
        with self.explained():
            found = self.session.get_endpoint(
                service_type=service, interface=self.interface, region_name=self.region or None
            )
        if not found:
            region = f" in region {self.region!r}" if self.region else ""
            raise ConfigurationError(
                f"the cloud at {self._url} has no {self.interface} endpoint of {service}{region}",
                hint="check os_region_name, os_interface, and that a project is given",
            )
        return str(found)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Inside, what keystoneauth raises becomes one of our errors, without secrets.

        Raises:
            AccessDenied, ConfigurationError, StorageUnavailable, StorageThrottled, StorageError.
        """
        from keystoneauth1 import exceptions

        from freezer_sdk.streams.http import distrusted, why

        try:
            yield
        except exceptions.SSLError as error:
            raise untrusted(self._url, why(error), hard=distrusted(error)) from error
        except exceptions.HttpError as error:
            raise self._refused(error) from error
        except exceptions.ConnectionError as error:
            raise StorageUnavailable(f"no answer from {self._url}: {why(error)}") from error
        except exceptions.CatalogException as error:
            raise ConfigurationError(
                f"{self._url}: {self._scrubbed(error)}",
                hint="check os_region_name, os_interface, and that a project is given",
            ) from error
        except exceptions.ClientException as error:
            what = self._scrubbed(error) or type(error).__name__
            raise ConfigurationError(f"{self._url} cannot be logged in to: {what}") from error

    def _refused(self, error: Any) -> StorageError | ConfigurationError:
        status = error.http_status
        if status in (401, 403) or (status == 404 and _by_keystone(error)):  # 404: it knows no such credential or token
            hint = "check user, password or credential, their domains, and the project"
            return AccessDenied(f"{self._url} refuses these credentials ({status})", hint=hint)
        if status in (413, 429):
            throttled = StorageThrottled(f"{self._url} asks to slow down ({status})")
            throttled.retry_after = error.retry_after or None
            return throttled
        if status >= 500:
            return StorageUnavailable(f"{self._url} fails: {status}")
        return ConfigurationError(f"{self._url} does not understand the login: {self._scrubbed(error)}")

    def _scrubbed(self, error: Any) -> str:
        text = " ".join(str(getattr(error, "message", None) or error).split())
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def untrusted(place: str, reason: str, *, hard: bool) -> StorageError:
    """The error of a TLS connection that failed; a certificate that is not trusted will not be so later."""
    if hard:
        return StorageError(f"{place}: {reason}", hint="os_cacert names a file of certificates to check with")
    return StorageUnavailable(f"no answer from {place}: {reason}")


def _by_keystone(error: Any) -> bool:
    """Whether an error of HTTP has the form of Keystone's own."""
    try:
        return "error" in error.response.json()
    except (AttributeError, TypeError, ValueError):
        return False


def _session(plugin: Any, verify: bool | str, cert: tuple[str, str] | None) -> Session:
    import requests
    from keystoneauth1.session import Session

    return Session(auth=plugin, session=requests.Session(), verify=verify, cert=cert, redirect=False)


def _from_clouds_yaml(known: Mapping[str, Any]) -> dict[str, Any]:
    """What clouds.yaml and secure.yaml say of a cloud, and what was given beside it."""
    try:
        from openstack.config import OpenStackConfig
        from openstack.exceptions import ConfigException
    except ImportError:
        raise ConfigurationError(
            "clouds.yaml needs openstacksdk", hint="pip install 'freezer-sdk[swift]' or openstacksdk"
        ) from None
    files: dict[str, Any] = {
        name: [known[option]]
        for name, option in (("config_files", "os_client_config_file"), ("secure_files", "os_client_secure_file"))
        if option in known
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what it does itself
            found = OpenStackConfig(load_envvars=False, **files).get_one(
                cloud=known["os_cloud"], region_name=known.get("os_region_name"), validate=False
            )
    except ConfigException as error:
        raise ConfigurationError(f"clouds.yaml: {error}") from None
    except Exception as error:  # files that are not YAML, or are something else than a table; their texts hold secrets
        raise ConfigurationError(f"clouds.yaml cannot be read: {type(error).__name__}") from None
    config = found.config
    values = {f"os_{name}": value for name, value in config.get("auth", {}).items()}
    values |= {f"os_{name}": config.get(name) for name in ("auth_type", "cacert", "cert", "key", "interface")}
    values["os_region_name"] = found.region_name
    values["os_identity_api_version"] = config.get("identity_api_version")
    values["os_insecure"] = config.get("verify") is not None and not parse_bool(config["verify"])
    return {**{name: value for name, value in values.items() if value not in (None, "")}, **known}


def _auth_plugin(known: Mapping[str, Any], endpoint: str | None) -> Any:
    """keystoneauth's plug-in for these values.

    Raises:
        ConfigurationError: they do not say how to log in.
    """
    from keystoneauth1 import exceptions, loading

    given = {name.removeprefix("os_"): value for name, value in known.items()}
    for url in (given.get("auth_url"), endpoint):
        if url is not None and not str(url).startswith(("http://", "https://")):
            raise ConfigurationError(f"{url!r} is not the URL of a service", hint="it begins with http:// or https://")
    if "token" in given and "auth_url" not in given and endpoint is not None:
        kind, given = "admin_token", {**given, "endpoint": endpoint}
    else:
        kind = _kind(given)
        given = _completed(kind, given)
    try:
        loader: Any = loading.get_plugin_loader(kind)
    except exceptions.NoMatchingPlugin:
        raise ConfigurationError(f"os_auth_type {kind!r} is not known here") from None
    names = {option.dest for option in loader.get_options()}
    try:
        return loader.load_from_options(**{name: value for name, value in given.items() if name in names})
    except exceptions.MissingRequiredOptions as error:
        missing = ", ".join(f"os_{option.dest}" for option in error.options)
        raise ConfigurationError(f"to log in to {given.get('auth_url') or 'OpenStack'}, {missing} is missing") from None
    except (exceptions.OptionError, TypeError) as error:  # not every loader knows what its plug-in needs
        raise ConfigurationError(f"options are missing for os_auth_type {kind}: {error}") from None


def _kind(given: Mapping[str, Any]) -> str:
    """Which way to log in is meant."""
    wanted = given.get("auth_type", "password")
    if wanted == "token":
        return "v3token"
    if wanted != "password":
        return str(wanted)
    url = str(given.get("auth_url", ""))
    version = str(given.get("identity_api_version", ""))
    if version.startswith("1") or (not version and _V1.search(url)):
        return "v1password"
    if version.startswith("2") or _V2.search(url):
        raise ConfigurationError("version 2 of Keystone's API is not supported", hint="os_auth_url should end with /v3")
    if "application_credential_secret" in given:
        return "v3applicationcredential"
    if "token" in given and "password" not in given:
        return "v3token"
    if url and "password" in given and ("username" in given or "user_id" in given):
        return "v3password"
    raise ConfigurationError(
        "nothing says how to log in to OpenStack",
        hint="give os_cloud, osrc, or os_auth_url with os_username, os_password and os_project_name, or an application"
        " credential; the freezer program takes OS_* from the environment too",
    )


def _completed(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values as that way of logging in wants them."""
    values = dict(given)
    if not kind.startswith("v3"):
        if kind == "v1password":
            values.pop("project_name", None)  # would name another account than the user's
        return values
    url = str(values.get("auth_url", ""))
    if url and not _V3.search(url):
        values["auth_url"] = url.rstrip("/") + "/v3"
    dropped = _SCOPE if kind == "v3applicationcredential" or "trust_id" in values else ()
    for name in dropped:  # they have a scope of their own, and Keystone refuses another one beside it
        values.pop(name, None)
    for name in ("user", "project"):
        named = "username" if name == "user" else "project_name"
        if named in values and not {f"{name}_domain_id", f"{name}_domain_name"} & values.keys():
            values[f"{name}_domain_id"] = "default"
    return values
