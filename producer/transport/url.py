"""Parses Redis URLs into servers and options, and redacts them for logs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from producer.errors import SettingsError

Address = tuple[str, int]

_URL = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^@/?#]*)(?P<path>/[^?#]*)?"
    r"(?:\?(?P<query>\w+=[^&#]*(?:&\w+=[^&#]*)*)?)?",
    re.DOTALL,
)
_HOST = re.compile(r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]*))(?::(?P<port>\d{1,5}))?")
_PORT, _SENTINEL_PORT = 6379, 26379


def _boolean(value: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]


def _file(value: str) -> str:
    if not Path(value).is_file():
        raise FileNotFoundError(value)
    return value


def _cert_reqs(value: str) -> str:
    return {"none": "none", "optional": "optional", "required": "required"}[value]


_Readers = dict[str, Callable[[str], object]]

_TLS_OPTIONS: _Readers = {
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_cert_reqs": _cert_reqs,
    "ssl_check_hostname": _boolean,
    "ssl_ciphers": str,
}
_OPTIONS: _Readers = {
    "db": int,
    "username": str,
    "password": str,
    "client_name": str,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "socket_keepalive": _boolean,
    "health_check_interval": int,
    "max_connections": int,
}
_SENTINEL_OPTIONS: _Readers = {
    "sentinel_username": str,
    "sentinel_password": str,
}
_SCHEMES: Mapping[str, _Readers] = {
    "redis": _OPTIONS,
    "rediss": _OPTIONS | _TLS_OPTIONS,
    "unix": _OPTIONS,
    "redis+sentinel": _OPTIONS | _SENTINEL_OPTIONS,
    "rediss+sentinel": _OPTIONS | _SENTINEL_OPTIONS | _TLS_OPTIONS,
    "redis+cluster": _OPTIONS,
    "rediss+cluster": _OPTIONS | _TLS_OPTIONS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """The servers of a URL; `options` are for redis-py's connections and include credentials.

    `path` is the socket of `unix`; `hosts` are the server, the sentinels or the seeds of a cluster;
    `service` is the sentinels' name for the primary.
    """

    scheme: str
    path: str
    hosts: tuple[Address, ...]
    service: str
    options: Mapping[str, Any] = field(repr=False)
    sentinel_options: Mapping[str, Any] = field(repr=False)

    @property
    def tls(self) -> bool:
        """True if connections use TLS."""
        return self.scheme.startswith("rediss")


def parse(url: str) -> RedisUrl:
    """Parse the URL. Raises SettingsError with a message that shows no credentials."""
    found = _match(url)
    if found is None:
        raise SettingsError(
            f"{redacted(url)!r} is not a Redis URL; write scheme://user:password@host:port/0?option=value, "
            "with special characters of user and password percent-encoded"
        )
    if found["scheme"] not in _SCHEMES:
        schemes = ", ".join(_SCHEMES)
        raise SettingsError(f"{redacted(url)!r} is not a Redis URL; use one of these schemes: {schemes}")
    try:
        return _parsed(found)
    except ValueError as error:
        raise SettingsError(f"{redacted(url)!r}: {error}") from None


@lru_cache
def redacted(url: str) -> str:
    """The URL without credentials and query, for logs; only its scheme if it cannot be parsed."""
    found = _match(url)
    if found is not None:
        return f"{found['scheme']}://{found['hosts']}{found['path'] or ''}"
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://..." if separator and re.fullmatch(r"[a-z+]{1,20}", scheme) else "..."


def _match(url: str) -> re.Match[str] | None:
    """None if it is malformed, or may hold an unescaped password, part of which would then be shown."""
    found = _URL.fullmatch(url)
    if found is None or not all(_HOST.fullmatch(host) for host in found["hosts"].split(",")):
        return None
    unix = found["scheme"] == "unix"
    is_ambiguous = bool(found["hosts"]) if unix else "@" in (found["path"] or "")
    return None if is_ambiguous else found


def _parsed(found: re.Match[str]) -> RedisUrl:
    scheme, path = found["scheme"], unquote(found["path"] or "")
    options = _credentials(found["user"] or "") | _query(found["query"] or "", _SCHEMES[scheme])
    sentinel_options = {
        name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options
    }
    if scheme.startswith("rediss"):
        options = {"ssl_check_hostname": options.get("ssl_cert_reqs") != "none", **options}
    sentinels = scheme.endswith("+sentinel")
    service = ""
    if sentinels:
        service, _, path = path.removeprefix("/").partition("/")
        if not service:
            raise ValueError("name the sentinels' service in the path: redis+sentinel://host:26379/service")
    if scheme != "unix" and path.strip("/"):
        if not path.strip("/").isdecimal():
            raise ValueError("the path must be a database number")
        options = {"db": int(path.strip("/")), **options}
    hosts = _hosts(found["hosts"], _SENTINEL_PORT if sentinels else _PORT)
    if len(hosts) > 1 and "+" not in scheme:
        raise ValueError("only +sentinel and +cluster URLs take several hosts")
    return RedisUrl(
        scheme=scheme,
        path=path,
        hosts=hosts,
        service=service,
        options=options,
        sentinel_options=sentinel_options,
    )


def _credentials(user: str) -> dict[str, Any]:
    name, _, password = user.partition(":")
    given = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in given.items() if value}


def _query(query: str, known: _Readers) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"unknown option {name}; use one of {', '.join(known)}")
        try:
            options[name] = known[name](value)
        except FileNotFoundError:
            raise ValueError(f"{name}: no such file: {value}") from None
        except (KeyError, ValueError):
            raise ValueError(f"invalid value for the option {name}") from None
    return options


def _hosts(listed: str, port: int) -> tuple[Address, ...]:
    found = (_HOST.fullmatch(host) for host in listed.split(","))
    return tuple((one["ip6"] or one["name"] or "localhost", int(one["port"] or port)) for one in found if one)
