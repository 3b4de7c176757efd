"""The settings: what each takes, and what it refuses."""

import dataclasses
import re

import pytest
from dotenv import dotenv_values

from config import BASE_DIR, DEVELOPMENT_SECRET_KEY, ConfigError, Settings

KEY = "k" * 50


PRODUCTION = {"UTILMETA_PRODUCTION": "1", "SECRET_KEY": KEY}


def test_defaults_are_for_development():
    settings = Settings.load({})

    assert not settings.production
    assert settings.secret_key == DEVELOPMENT_SECRET_KEY
    assert settings.database_url["NAME"] == str(BASE_DIR / "db.sqlite3")
    assert settings.throttle


def test_example_lists_every_setting_with_its_default():
    example = dotenv_values(BASE_DIR / ".env.example")

    assert list(example) == [field.name.upper() for field in dataclasses.fields(Settings)]
    assert Settings.load(example) == Settings.load({})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("UTILMETA_PRODUCTION", "false", False),
        ("UTILMETA_PRODUCTION", "0", False),
        ("SECRET_KEY_FALLBACKS", "a, b,", ["a", "b"]),
        ("REDIS_URL", "redis://localhost:6379/1", "redis://localhost:6379/1"),
        (
            "REDIS_URL",
            "rediss://redis.example/0?ssl_cert_reqs=none",
            "rediss://redis.example/0?ssl_cert_reqs=none",
        ),
        ("ALLOWED_HOSTS", " example.com , www.example.com", ["example.com", "www.example.com"]),
        (
            "TRUSTED_ORIGINS",
            "https://a.example,http://b.example:81",
            ["https://a.example", "http://b.example:81"],
        ),
        (
            "TRUSTED_ORIGINS",
            "capacitor://localhost,ionic://localhost",
            ["capacitor://localhost", "ionic://localhost"],
        ),
        ("COOKIE_NAME", "users_session-2", "users_session-2"),
        ("COOKIE_NAME", "__hostess", "__hostess"),
        ("TRUSTED_PROXIES", "2", 2),
        ("HOST", "0.0.0.0", "0.0.0.0"),
        ("HOST", "localhost", "localhost"),
        ("PORT", "65535", 65535),
        ("PASSWORD_MIN_LENGTH", "8", 8),
        ("REAUTHENTICATION_MINUTES", "0", 0),
        ("THROTTLE", "off", False),
        ("LOG_LEVEL", "DEBUG", "DEBUG"),
    ],
)
def test_value_is_read(name, text, value):
    assert getattr(Settings.load({name: text}), name.lower()) == value


@pytest.mark.parametrize("text", ["true", "1", " 1 "])
def test_production_is_read(text):
    assert Settings.load(PRODUCTION | {"UTILMETA_PRODUCTION": text}).production


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("UTILMETA_PRODUCTION", ""),
        ("UTILMETA_PRODUCTION", "yes"),
        ("UTILMETA_PRODUCTION", "True"),
        ("UTILMETA_PRODUCTION", "2"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "db.sqlite3"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "mysql://root@localhost/db"),
        ("DATABASE_URL", "postgresql://localhost"),
        ("DATABASE_URL", "postgresql://localhost:port/db"),
        ("DATABASE_URL", "postgresql://localhost:0/db"),
        ("DATABASE_URL", "postgresql://a:1,b:99999/db"),
        ("DATABASE_URL", "sqlite:///db.sqlite3?timeout=abc"),
        ("DATABASE_URL", "postgresql://localhost/db?nonsense=1"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://localhost:99999"),
        ("REDIS_URL", "redis://localhost:port"),
        ("REDIS_URL", "redis://localhost/abc"),
        ("REDIS_URL", "redis://localhost/0?db=x"),
        ("REDIS_URL", "redis://localhost/0?socket_timeout=abc"),
        ("REDIS_URL", "redis://localhost/0?nonsense=1"),
        ("SECRET_KEY", "\udcff" * 60),
        ("SECRET_KEY_FALLBACKS", "\udcff"),
        ("ALLOWED_HOSTS", ""),
        ("ALLOWED_HOSTS", " , "),
        ("ALLOWED_HOSTS", "a b"),
        ("ALLOWED_HOSTS", "http://example.com"),
        ("ALLOWED_HOSTS", "example.com:80"),
        ("ALLOWED_HOSTS", "ex*mple.com"),
        ("TRUSTED_ORIGINS", "example.com"),
        ("TRUSTED_ORIGINS", "*"),
        ("TRUSTED_ORIGINS", "https://*.example.com"),
        ("TRUSTED_ORIGINS", "https://example.com/"),
        ("TRUSTED_ORIGINS", "https://user@example.com"),
        ("TRUSTED_ORIGINS", "null"),
        ("TRUSTED_ORIGINS", "https://example.com:99999"),
        ("TRUSTED_ORIGINS", "https://example.com:443"),
        ("TRUSTED_ORIGINS", "http://example.com:80"),
        ("TRUSTED_ORIGINS", "https://example.com:"),
        ("TRUSTED_ORIGINS", "https://exa mple.com"),
        ("TRUSTED_ORIGINS", "https://example.com;x"),
        ("TRUSTED_ORIGINS", "https://Example.com"),
        ("TRUSTED_ORIGINS", "htps://example.com"),
        ("TRUSTED_ORIGINS", "file://localhost"),
        ("TRUSTED_ORIGINS", "capacitor://"),
        ("TRUSTED_ORIGINS", "capacitor://localhost/"),
        ("TRUSTED_ORIGINS", "ionic://localhost:0"),
        ("TRUSTED_ORIGINS", "https://[:::]"),
        *(
            ("COOKIE_NAME", name)
            for name in (
                "",
                "a b",
                "a;b",
                "a=b",
                "session.id",
                "séssion",
                "\u017fession",
                "__Host-sessionid",
                "__HOST-sessionid",
                "__Secure-sessionid",
                "__secure-x",
                "a" * 65,
            )
        ),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "many"),
        ("HOST", "example.com"),
        ("HOST", ""),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "8000.0"),
        ("PORT", "٨٠٠٠"),
        ("PASSWORD_MIN_LENGTH", "7"),
        ("PASSWORD_MIN_LENGTH", "65"),
        ("REAUTHENTICATION_MINUTES", "1.5"),
        ("THROTTLE", "true"),
        ("LOG_LEVEL", "info"),
    ],
)
def test_wrong_value_is_refused_by_name(name, text):
    with pytest.raises(ConfigError, match=rf"^{name} takes [^\n]+\.$"):
        Settings.load({name: text})


@pytest.mark.parametrize("key", [None, "", "short-secret", "k" * 49, DEVELOPMENT_SECRET_KEY])
def test_production_needs_a_secret_key_of_its_own(key):
    with pytest.raises(ConfigError, match=r"^SECRET_KEY takes 50 characters or more") as error:
        Settings.load({"UTILMETA_PRODUCTION": "1", "SECRET_KEY": key})

    assert not key or key not in str(error.value)


def test_refused_secret_is_not_shown():
    with pytest.raises(ConfigError) as error:
        Settings.load({"DATABASE_URL": "mysql://root:hunter2@localhost/db"})

    assert "hunter2" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///db.sqlite3", str(BASE_DIR / "db.sqlite3")),
        ("sqlite:///data/users.db", str(BASE_DIR / "data/users.db")),
        ("sqlite:////var/lib/users.db", "/var/lib/users.db"),
    ],
)
def test_sqlite_file_is_found_whatever_the_working_directory(monkeypatch, tmp_path, url, name):
    monkeypatch.chdir(tmp_path)

    settings = Settings.load({"DATABASE_URL": url})

    assert settings.database["name"] == name
    assert settings.database_url["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_postgresql_is_read():
    settings = Settings.load({"DATABASE_URL": "postgresql://user:p%40ss@db.example:5433/users"})

    assert settings.database == {
        "name": "users",
        "engine": "django.db.backends.postgresql",
        "user": "user",
        "password": "p@ss",
        "host": "db.example",
        "port": "5433",
    }


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:secret@db1:5432,db2:5433/users?target_session_attrs=read-write",
        "postgresql:///users?host=db1,db2&port=5432,5433&target_session_attrs=read-write&user=app&password=secret",
    ],
)
def test_postgresql_of_several_hosts_is_read(url):
    database = Settings.load({"DATABASE_URL": url}).database_url

    assert (database["HOST"], database["PORT"]) == ("db1,db2", "5432,5433")
    assert (database["NAME"], database["USER"], database["PASSWORD"]) == ("users", "app", "secret")
    assert database["OPTIONS"]["target_session_attrs"] == "read-write"
    assert database["OPTIONS"]["connect_timeout"] == 5


def test_option_in_the_url_of_postgresql_comes_before_the_service_s_own():
    url = "postgresql://localhost/users?connect_timeout=2&options=-c%20statement_timeout%3D0"

    options = Settings.load({"DATABASE_URL": url}).database_url["OPTIONS"]

    assert (options["connect_timeout"], options["options"]) == ("2", "-c statement_timeout=0")


@pytest.mark.parametrize("password", ["a#b", "a/b", "a?b", "a@b", "100%", "%zz"])
def test_password_that_must_be_percent_encoded_is_refused_with_that_advice(password):
    with pytest.raises(ConfigError, match=r"^DATABASE_URL: percent-encode the password") as error:
        Settings.load({"DATABASE_URL": f"postgresql://app:{password}@localhost/users"})

    assert password not in str(error.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [("REDIS_URL", "redis://localhost:6379/0"), ("DATABASE_URL", "postgresql://localhost/users")],
)
def test_service_that_needs_an_extra_says_so(monkeypatch, name, url):
    monkeypatch.setattr("config.find_spec", lambda module: None)

    with pytest.raises(ConfigError, match=rf"^{name} takes .* with the extra `"):
        Settings.load({name: url})


def test_settings_do_not_show_their_secrets():
    settings = Settings.load(
        PRODUCTION
        | {
            "DATABASE_URL": "postgresql://u:hunter2@h/n",
            "REDIS_URL": "redis://:hunter2@h",
            "SECRET_KEY_FALLBACKS": "hunter2",
        }
    )

    assert "hunter2" not in repr(settings)
    assert KEY not in repr(settings)


def test_nothing_else_reads_the_environment():
    sources = [path for folder in ("framework", "user", "web") for path in (BASE_DIR / folder).rglob("*.py")]

    readers = [
        path.name
        for path in [*sources, BASE_DIR / "server.py"]
        if re.search(r"os\.environ\[|os\.environ\.get|getenv", path.read_text())
    ]

    assert readers == []
