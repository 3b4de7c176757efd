"""The settings of the service: all environment variables are read and validated here, and nowhere else."""

from __future__ import annotations

import errno
import io
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from dotenv.parser import parse_stream

BASE_DIR = Path(__file__).resolve().parent
DEVELOPMENT_SECRET_KEY = "development-only-this-key-is-public-and-protects-nothing"  # noqa: S105
SECRET_KEY_MIN_LENGTH = 50
# PostgreSQL time-outs: seconds to connect, milliseconds until unacknowledged data break the connection, and
# the limits of one statement and of an idle transaction.
POSTGRESQL_TIMEOUTS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    # Keep-alives, since load balancers drop idle connections after some minutes, and a dead server should be
    # noticed soon.
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "options": "-c statement_timeout=10s -c idle_in_transaction_session_timeout=30s",
}
# Seconds to wait for any response of PostgreSQL: a frozen server does not enforce its own time-outs.
POSTGRESQL_RESPONSE_SECONDS = 15
# The mailboxes of RFC 2142, and other names that people take for the service itself.
RESERVED_USERNAMES = (
    "abuse,admin,administrator,billing,contact,ftp,help,hostmaster,info,legal,mail,marketing,moderator,news,noc,"
    "no-reply,noreply,official,operator,owner,postmaster,privacy,root,sales,security,service,staff,support,"
    "sysadmin,system,team,trouble,usenet,uucp,webmaster,www"
)
DOMAIN_NAME = r"[a-z0-9-]+(\.[a-z0-9-]+)*"
HOST_NAME = rf"({DOMAIN_NAME}|\[[0-9a-f:.]+\])"
# A name in DNS has at most 253 characters, which are 255 octets as it is sent (RFC 1035, section 2.3.4).
ORIGIN_MAX_LENGTH = len("capacitor://:65535") + 253
# gunicorn stops when a worker exits with this code; with any other code it restarts the worker forever.
EXIT_CODE = 3


class ConfigError(ValueError):
    """An invalid setting; the message names it and says what it takes."""


class PasswordEncodingError(ValueError):
    """A password in a URL that must be percent-encoded."""


def _boolean(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text]


def _switch(text: str) -> bool:
    return {"on": True, "off": False}[text]


def _switch_of_extra(package: str) -> Callable[[str], bool]:
    def parse(text: str) -> bool:
        if _switch(text) and not find_spec(package):
            raise ValueError
        return _switch(text)

    return parse


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError
        return int(text)

    return parse


def _secret_key(text: str) -> str:
    if "," in text:  # it separates the keys of SECRET_KEY_FALLBACKS, where this one is to go some day
        raise ValueError
    return text


def _list(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")] if text else []
    if "" in items or len(set(items)) < len(items) or any(map(_is_quoted, items)):
        raise ValueError
    return items


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _usernames(text: str) -> list[str]:
    names = _list(text)
    if not all(re.fullmatch("[a-z0-9][a-z0-9._-]{0,19}", name) for name in names):
        raise ValueError
    return names


def _log_level(text: str) -> str:
    if text not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError
    return text


def _host(text: str) -> str:
    if text != "localhost":
        ipaddress.IPv4Address(text)
    return text


def _hosts(text: str) -> list[str]:
    hosts = _list(text.lower())
    if not hosts or not all(re.fullmatch(rf"\*|\.?{HOST_NAME}", host) for host in hosts):
        raise ValueError
    for host in hosts:
        _check_address(host)
    return hosts


def _check_address(host: str) -> None:
    """Raise ValueError for an IPv6 address that is not in its compressed form, which clients send."""
    if host.startswith("[") and host != f"[{ipaddress.IPv6Address(host[1:-1])}]":
        raise ValueError


def is_origin(text: str) -> bool:
    """Return whether a text is an origin of a page or of an app's web view, as browsers send it.

    That is scheme, host, and the port if it is not the usual one.
    """
    match = re.fullmatch(rf"(https?|capacitor|ionic)://{HOST_NAME}(:[1-9][0-9]*)?", text)
    if not match or len(text) > ORIGIN_MAX_LENGTH:
        return False
    try:
        _check_address(match[2])
        return urlsplit(text).port not in (0, {"http": 80, "https": 443}.get(match[1], 0))
    except ValueError:  # no such port or IP address
        return False


def _origins(text: str) -> list[str]:
    origins = _list(text)
    if not all(map(is_origin, origins)):
        raise ValueError
    return origins


def _secure_origins(text: str) -> list[str]:
    """Return origins that browsers hold for secure: https, or localhost."""
    origins = _origins(text)
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "localhost"):
            raise ValueError
    return origins


def _domain(text: str) -> str:
    if text and not is_domain(text):
        raise ValueError
    return text


def is_domain(host: str) -> bool:
    """Return whether a host is a name, and neither an IP address nor a pattern."""
    return bool(re.fullmatch(DOMAIN_NAME, host)) and not host.rpartition(".")[2].isdigit()


def is_within(host: str, domain: str) -> bool:
    """Return whether a host is a domain or, if that has two labels or more, a name below it."""
    return host == domain or ("." in domain and host.endswith(f".{domain}"))


def _cookie_name(text: str) -> str:
    # Browsers match the two prefixes case-insensitively (RFC 6265bis, section 5.7).
    if not re.fullmatch("(?!__(?:host|secure)-)[a-z0-9_-]{1,64}", text, re.IGNORECASE | re.ASCII):
        raise ValueError
    return text


def _redis_url(text: str) -> str:
    if text:
        parts = urlsplit(text)
        number = parts.path.removeprefix("/") or "0"
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        if not re.fullmatch(r"rediss?", parts.scheme) or not parts.hostname or parts.port == 0:
            raise ValueError
        if not re.fullmatch("[0-9]+", number) or not find_spec("redis"):
            raise ValueError
        # The redis library silently ignores a fragment, an option without a value, and a repeated option.
        names = [name for name, _ in options] + ["db"] * (parts.path not in ("", "/"))
        if "#" in text or not all(value for _, value in options) or len(set(names)) < len(names):
            raise ValueError
        # Raises an error for invalid options, without connecting.
        import_module("redis").ConnectionPool.from_url(text).make_connection()
    return text


def _database(text: str) -> dict[str, Any]:
    """Return Django's settings of the database at a URL: SQLite (relative to this folder) or PostgreSQL."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in ("sqlite", "postgresql", "postgres"):
        raise ValueError
    database = _sqlite(text) if scheme == "sqlite" else _postgresql(text)
    # Connections are kept; framework/connections.py detects those that have been cut.
    return database | {"CONN_MAX_AGE": None}


def _sqlite(text: str) -> dict[str, Any]:
    """Return Django's settings of the SQLite file at a URL, whose path may be percent-encoded.

    Raises ValueError for a URL that a parser would cut: at `#` and `?`, or a host before the path.
    """
    path = text.removeprefix("sqlite:///")
    if path == text or re.search("[#?]|%(?![0-9A-Fa-f]{2})", path):
        raise ValueError
    path = unquote(path, errors="strict")
    if not path.isprintable() or path == ":memory:" or path.rpartition("/")[2] in ("", ".", ".."):
        raise ValueError
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(BASE_DIR / path),
        "OPTIONS": {
            # A transaction that reads and then writes fails at once with "database is locked" if another one
            # has written in between. An IMMEDIATE one takes the lock first, and waits for it.
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
            # FULL waits for the disk at each commit, so that a power cut loses nothing that was acknowledged.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }


def _postgresql(url: str) -> dict[str, Any]:
    """Return Django's settings of a PostgreSQL, read as libpq reads a URL; it may name several hosts.

    Raises PasswordEncodingError for a password with a character that a URL gives a meaning.
    """
    if not find_spec("psycopg"):
        raise ValueError
    # With one of these before the last "@", the URL does not mean what it seems to.
    authority = url.partition("://")[2].rpartition("@")[0]
    if re.search(r"[/?#@]|%(?![0-9A-Fa-f]{2})", authority.partition(":")[2]):
        raise PasswordEncodingError
    options = dict(import_module("psycopg.conninfo").conninfo_to_dict(url))
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    database = {name: options.pop(option, "") for option, name in names.items()}
    ports = [int(port) for port in database["PORT"].split(",") if port]
    if not database["NAME"] or not all(0 < port < 65_536 for port in ports):
        raise ValueError
    return database | {
        "ENGINE": "django.db.backends.postgresql",
        "OPTIONS": POSTGRESQL_TIMEOUTS | options,
    }


def _setting(default: str, takes: str, parse: Callable[[str], Any], *, secret: bool = False) -> Any:
    metadata = {"default": default, "takes": takes, "parse": parse, "secret": secret}
    return field(metadata=metadata, repr=not secret)


@dataclass
class Settings:
    """The settings: one attribute for each environment variable, with its name in lower case."""

    utilmeta_production: bool = _setting("false", "true, false, 1 or 0", _boolean)
    secret_key: str = _setting(
        "", f"{SECRET_KEY_MIN_LENGTH} characters or more, none of them a comma", _secret_key, secret=True
    )
    secret_key_fallbacks: list[str] = _setting(
        "", "former secret keys, separated by single commas, each once", _list, secret=True
    )
    database_url: dict[str, Any] = _setting(
        "sqlite:///db.sqlite3",
        "sqlite:///FILE with # ? and % percent-encoded, or "
        "postgresql://USER:PASSWORD@HOST:PORT/NAME with the extra `postgres` installed",
        _database,
        secret=True,
    )
    redis_url: str = _setting(
        "",
        "redis://HOST:PORT/NUMBER or rediss://…, with the extra `redis` installed",
        _redis_url,
        secret=True,
    )
    allowed_hosts: list[str] = _setting(
        "localhost,127.0.0.1,[::1]",
        "host names without a port, separated by single commas, each once",
        _hosts,
    )
    trusted_origins: list[str] = _setting(
        "", "origins like https://app.example.com, separated by single commas, each once", _origins
    )
    cookie_name: str = _setting(
        "sessionid", "1 to 64 letters, digits, - and _, without the prefix __Host- or __Secure-", _cookie_name
    )
    trusted_proxies: int = _setting(
        "0", "how many proxies stand before the service, 0 to 10", _whole_number(0, 10)
    )
    host: str = _setting("127.0.0.1", "an IPv4 address or localhost", _host)
    port: int = _setting("8000", "a port, 1 to 65535", _whole_number(1, 65535))
    reserved_usernames: list[str] = _setting(
        RESERVED_USERNAMES, "usernames in lower case, separated by single commas, each once", _usernames
    )
    password_min_length: int = _setting("15", "a number of characters, 8 to 64", _whole_number(8, 64))
    hash_concurrency: int = _setting(
        "0",
        "how many passwords to hash at once on this machine, 1 to 64, or 0 for one on each core",
        _whole_number(0, 64),
    )
    hash_queue_length: int = _setting(
        "100", "how many requests may wait to hash a password, 1 to 1000", _whole_number(1, 1000)
    )
    reauthentication_minutes: int = _setting("20", "minutes, 0 to 10080", _whole_number(0, 10080))
    throttle: bool = _setting("on", "on or off", _switch)
    pages: bool = _setting("on", "on or off", _switch)
    metrics: bool = _setting(
        "off",
        "on or off, and on only with the extra `metrics` installed",
        _switch_of_extra("prometheus_client"),
    )
    passkeys: bool = _setting(
        "off", "on or off, and on only with the extra `passkeys` installed", _switch_of_extra("fido2")
    )
    passkey_rp_id: str = _setting("", "a domain like example.com", _domain)
    passkey_origins: list[str] = _setting(
        "",
        "https:// origins, or http://localhost:PORT, separated by single commas, each once",
        _secure_origins,
    )
    utilmeta_patches: bool = _setting("on", "on or off", _switch)
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL", _log_level)

    @property
    def database(self) -> dict[str, Any]:
        """The database as `utilmeta.core.orm.Database` takes it."""
        names = ("name", "engine", "user", "password", "host", "port")
        database = {name: self.database_url.get(name.upper()) or "" for name in names}
        # UtilMeta takes one port; Django's own settings have the ports of all hosts.
        return database | {"port": database["port"].partition(",")[0]}

    @property
    def reauthentication_age(self) -> timedelta:
        """How long a login or a reauthentication counts as fresh."""
        return timedelta(minutes=self.reauthentication_minutes)

    @property
    def production(self) -> bool:
        """Whether the service runs for real users."""
        return self.utilmeta_production

    @classmethod
    def load(cls, environ: Mapping[str, str | None]) -> Settings:
        """Return the settings that an environment describes.

        Raises ConfigError for a value that its setting does not take. The value itself is never in
        the text: it may be a secret.
        """
        values: dict[str, Any] = {}
        for setting in fields(cls):
            name = setting.name.upper()
            text = _read_secret(name, environ) if setting.metadata["secret"] else environ.get(name)
            try:
                text = setting.metadata["default"] if text is None else text.strip()
                # Unprintable characters are, for example, line breaks and bytes that are not UTF-8.
                if not text.isprintable() or _is_quoted(text):
                    raise ValueError
                values[setting.name] = setting.metadata["parse"](text)
            except PasswordEncodingError:
                raise ConfigError(
                    f"{name}: percent-encode the password where it has one of / ? # @ %, as in %40 for @."
                ) from None
            except Exception:  # noqa: BLE001  (whatever it is, the message is the same)
                if text and _is_quoted(text):  # as Docker's --env-file leaves them
                    raise ConfigError(f"{name} has quotes around its value. Leave them out.") from None
                raise ConfigError(f"{name} takes {setting.metadata['takes']}.") from None
        settings = cls(**values)
        if not settings.production:
            settings.secret_key = settings.secret_key or DEVELOPMENT_SECRET_KEY
        settings._check_keys()
        if settings.passkeys:
            settings._complete_passkeys()
            settings._check_passkeys()
        return settings

    def _check_keys(self) -> None:
        if self.secret_key in self.secret_key_fallbacks:
            raise ConfigError("SECRET_KEY_FALLBACKS takes former secret keys, and SECRET_KEY is none.")
        keys = {"SECRET_KEY": [self.secret_key], "SECRET_KEY_FALLBACKS": self.secret_key_fallbacks}
        for name, texts in keys.items() if self.production else ():
            if any(len(text) < SECRET_KEY_MIN_LENGTH or text == DEVELOPMENT_SECRET_KEY for text in texts):
                raise ConfigError(
                    f"{name} takes {SECRET_KEY_MIN_LENGTH} characters or more, your own, in production."
                )

    def _complete_passkeys(self) -> None:
        """Derive what is left out of the settings of passkeys from ALLOWED_HOSTS.

        Raises ConfigError if that is not clear.
        """
        names = [host for host in self.allowed_hosts if is_domain(host)]
        patterns = [host for host in self.allowed_hosts if host.startswith((".", "*"))]
        only = names[0] if len(names) == 1 and not patterns else ""
        for name in ("passkey_rp_id", "passkey_origins"):
            if not getattr(self, name) and not only:
                raise ConfigError(
                    f"{name.upper()} is required, unless ALLOWED_HOSTS has just one domain name."
                )
        local = only == "localhost" and not self.production
        self.passkey_rp_id = self.passkey_rp_id or only
        self.passkey_origins = self.passkey_origins or [
            f"http://localhost:{self.port}" if local else f"https://{only}"
        ]

    def _check_passkeys(self) -> None:
        """Raise ConfigError unless the settings of passkeys fit each other and the hosts of the service.

        The id of the relying party is a suffix of the host of each origin (WebAuthn level 3, section 5.1.2).
        """
        hosts, domain = self.allowed_hosts, self.passkey_rp_id
        if not any(host == "*" or is_within(host.removeprefix("."), domain) for host in hosts):
            raise ConfigError("PASSKEY_RP_ID takes a domain of ALLOWED_HOSTS, or one that is above it.")
        for origin in self.passkey_origins:
            host = urlsplit(origin).hostname or ""
            if not is_within(host, domain):
                raise ConfigError("PASSKEY_ORIGINS takes origins on PASSKEY_RP_ID, or on a subdomain of it.")
            if origin not in self.trusted_origins and not any(_allows(each, host) for each in hosts):
                raise ConfigError("PASSKEY_ORIGINS takes origins of ALLOWED_HOSTS or of TRUSTED_ORIGINS.")


def _allows(pattern: str, host: str) -> bool:
    """Return whether an item of ALLOWED_HOSTS allows a host, as Django reads it."""
    return pattern in ("*", host) or (pattern.startswith(".") and f".{host}".endswith(pattern))


def _read_secret(name: str, environ: Mapping[str, str | None]) -> str | None:
    """Return a secret setting, from the file that NAME_FILE names if that is set, as container images do it.

    Raises ConfigError if both are set, or the file cannot be read as text.
    """
    text, path = environ.get(name), environ.get(f"{name}_FILE")
    if not path:
        return text
    if text:
        raise ConfigError(f"{name} and {name}_FILE are both set: leave one of them out.")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{name}_FILE is not a text in UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(getattr(error, "errno", None) or errno.EINVAL)
        raise ConfigError(f"{name}_FILE cannot be read: {reason}.") from None


def read_env_file(path: Path) -> dict[str, str]:
    """Return what a file `.env` sets, and nothing when there is none.

    Raises ConfigError, with the number of the line and never what stands there, for a file that sets
    something else than it seems to: python-dotenv leaves out what it does not understand.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:  # UTF-16
            raise ConfigError(".env is not a text in UTF-8.")
    except UnicodeDecodeError:
        raise ConfigError(".env is not a text in UTF-8.") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return {}
        raise ConfigError(f".env cannot be read: {os.strerror(error.errno or 0)}.") from None
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        statement = binding.original.string.lstrip()
        number = binding.original.line + binding.original.string.removesuffix(statement).count("\n")
        line, name, value = f"line {number} of .env", binding.key, binding.value
        # An unclosed quote swallows the lines below it.
        if binding.error or (name and value is None) or "\n" in statement.rstrip():
            raise ConfigError(f"{line} is not NAME=value.")
        if name and value is not None:
            _check_spelling(name, line, [field.name.upper() for field in fields(Settings)])
            if name in values:
                raise ConfigError(f"{line} sets a name that is set already.")
            values[name] = value
    return values


def _check_spelling(name: str, place: str, names: list[str]) -> None:
    """Raise ConfigError for a name that is one of some others but for case, marks and what nobody sees."""
    for right in names:
        if name != right and re.sub(r"[\W_]", "", name).upper() == right.replace("_", ""):
            raise ConfigError(f"{place} must have the name {right}.")


def load_or_exit() -> Settings:
    """Return the settings of this process: its environment, then `.env` beside this file.

    Exits with one line on standard error, and EXIT_CODE, when one of them is wrong.
    """
    try:
        for name in os.environ:  # of the others, some are everybody's in lower case
            _check_spelling(name, "the environment", ["UTILMETA_PRODUCTION"])
        return Settings.load({**read_env_file(BASE_DIR / ".env"), **os.environ})
    except ConfigError as error:
        print(f"demo-user cannot start: {error}", file=sys.stderr)
        sys.exit(EXIT_CODE)


settings = load_or_exit()
