"""The settings: what each takes, and what it refuses."""

import dataclasses
import os
import re

import pytest
from dotenv import dotenv_values

from config import BASE_DIR, DEVELOPMENT_SECRET_KEY, ConfigError, Settings, read_env_file

from .support import run

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
        ("SECRET_KEY_FALLBACKS", "a, b", ["a", "b"]),
        ("SECRET_KEY_FALLBACKS", "", []),
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
        ("RESERVED_USERNAMES", "", []),
        ("RESERVED_USERNAMES", "admin, the.boss", ["admin", "the.boss"]),
        ("PASSWORD_MIN_LENGTH", "8", 8),
        ("REAUTHENTICATION_MINUTES", "0", 0),
        ("THROTTLE", "off", False),
        ("METRICS", "on", True),
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
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///users#1.db"),  # a fragment, without which users is left
        ("DATABASE_URL", "sqlite:///users.db#"),
        ("DATABASE_URL", "sqlite:///100%.db"),
        ("DATABASE_URL", "sqlite:///%ff.db"),
        ("DATABASE_URL", "sqlite:///users%00.db"),
        ("DATABASE_URL", "sqlite:///%2F"),
        ("DATABASE_URL", "sqlite:///data/"),  # a file that is called data
        ("DATABASE_URL", "sqlite:///data/."),
        ("DATABASE_URL", "sqlite:///.."),
        ("DATABASE_URL", "sqlite://data/users.db"),  # a host, which is left out
        ("DATABASE_URL", "sqlite:users.db"),
        ("DATABASE_URL", "SQLITE:///users.db"),
        ("DATABASE_URL", "postgresql://localhost/db?nonsense=1"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://localhost:99999"),
        ("REDIS_URL", "redis://localhost:port"),
        ("REDIS_URL", "redis://localhost/abc"),
        ("REDIS_URL", "redis://localhost/0?db=x"),
        ("REDIS_URL", "redis://localhost/0?socket_timeout=abc"),
        ("REDIS_URL", "redis://localhost/0?nonsense=1"),
        ("REDIS_URL", "redis://localhost/1#2"),
        ("REDIS_URL", "redis://user:12#34@redis.example/0"),  # port 12 of a host that is called user
        ("REDIS_URL", "redis://user:12?34@redis.example/0"),
        ("REDIS_URL", "redis://localhost/1?db=2"),
        ("REDIS_URL", "redis://localhost/?db=1&db=2"),
        ("REDIS_URL", "rediss://localhost/0?ssl_ca_certs="),
        ("REDIS_URL", "redis://localhost/\N{ARABIC-INDIC DIGIT ONE}"),
        ("SECRET_KEY", "\udcff" * 60),
        ("SECRET_KEY", "k" * 25 + "," + "k" * 25),  # SECRET_KEY_FALLBACKS would take it for two
        ("SECRET_KEY", "k" * 50 + "\N{ZERO WIDTH SPACE}k"),
        ("SECRET_KEY_FALLBACKS", "\udcff"),
        ("SECRET_KEY_FALLBACKS", "a,,b"),
        ("SECRET_KEY_FALLBACKS", "a,b,"),
        ("SECRET_KEY_FALLBACKS", "a,b,a"),
        ("SECRET_KEY_FALLBACKS", "a,'b'"),
        ("RESERVED_USERNAMES", "Admin"),
        ("RESERVED_USERNAMES", "admin,,root"),
        ("RESERVED_USERNAMES", "a" * 21),
        ("ALLOWED_HOSTS", ""),
        ("ALLOWED_HOSTS", " , "),
        ("ALLOWED_HOSTS", "a b"),
        ("ALLOWED_HOSTS", "http://example.com"),
        ("ALLOWED_HOSTS", "example.com:80"),
        ("ALLOWED_HOSTS", "ex*mple.com"),
        ("ALLOWED_HOSTS", "example.com,"),
        ("ALLOWED_HOSTS", "example.com,Example.com"),
        ("ALLOWED_HOSTS", "'a.example',b.example"),
        ("ALLOWED_HOSTS", "[::1]:8000"),
        ("ALLOWED_HOSTS", "[1]"),
        ("ALLOWED_HOSTS", "[0:0:0:0:0:0:0:1]"),  # clients write [::1]
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
        ("TRUSTED_ORIGINS", "https://example.com:08443"),
        ("TRUSTED_ORIGINS", "https://a.example,https://a.example"),
        ("TRUSTED_ORIGINS", "https://a.example,"),
        ("TRUSTED_ORIGINS", "https://[0::1]"),
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
        ("METRICS", "1"),
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


@pytest.mark.parametrize("former", ["short-secret", "k" * 49, DEVELOPMENT_SECRET_KEY])
def test_production_takes_no_former_key_that_anybody_could_guess(former):
    fallbacks = f"{'o' * 50},{former}"

    with pytest.raises(ConfigError, match=r"^SECRET_KEY_FALLBACKS takes 50 characters or more") as error:
        Settings.load(PRODUCTION | {"SECRET_KEY_FALLBACKS": fallbacks})

    assert former not in str(error.value)


def test_present_key_is_no_former_one():
    with pytest.raises(ConfigError, match=r"^SECRET_KEY_FALLBACKS takes former") as error:
        Settings.load({"SECRET_KEY": KEY, "SECRET_KEY_FALLBACKS": f"{'o' * 50},{KEY}"})

    assert KEY not in str(error.value)


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize(("name", "text"), [("SECRET_KEY", KEY), ("REDIS_URL", ""), ("THROTTLE", "on")])
def test_quotes_that_were_left_around_a_value_are_refused(name, text, quote):
    with pytest.raises(ConfigError, match=rf"^{name} has quotes around its value[^\n]*\.$") as error:
        Settings.load({name: f"{quote}{text}{quote}"})

    assert KEY not in str(error.value)


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
        ("sqlite:///our users%231.db", str(BASE_DIR / "our users#1.db")),
        ("sqlite:///100%25.db", str(BASE_DIR / "100%.db")),
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
    [
        ("REDIS_URL", "redis://localhost:6379/0"),
        ("DATABASE_URL", "postgresql://localhost/users"),
        ("METRICS", "on"),
    ],
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
            "SECRET_KEY_FALLBACKS": "hunter2" * 8,
        }
    )

    assert "hunter2" not in repr(settings)
    assert KEY not in repr(settings)


def test_env_file_need_not_be_there(tmp_path):
    assert read_env_file(tmp_path / ".env") == {}


def test_env_file_sets_other_names_as_well(tmp_path):
    (tmp_path / ".env").write_text("# for Compose\nPOSTGRES_PASSWORD='a b'\n\nPORT=8001 # here\n")

    assert read_env_file(tmp_path / ".env") == {"POSTGRES_PASSWORD": "a b", "PORT": "8001"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("\n# a\n\nUTILMETA_PRODUCTION: 1\n", "line 4 of .env is not NAME=value."),
        ("UTILMETA_PRODUCTION\n", "line 1 of .env is not NAME=value."),
        ("export UTILMETA_PRODUCTION\n", "line 1 of .env is not NAME=value."),
        ("set UTILMETA_PRODUCTION=1\n", "line 1 of .env is not NAME=value."),
        ("A=1\nUTILMETA_PRODUCTION='1\n", "line 2 of .env is not NAME=value."),
        ("PORT=1\n\nA='\nUTILMETA_PRODUCTION=1\nB='\n", "line 3 of .env is not NAME=value."),
        ("utilmeta_production=1\n", "line 1 of .env must have the name UTILMETA_PRODUCTION."),
        ("UTILMETA-PRODUCTION=1\n", "line 1 of .env must have the name UTILMETA_PRODUCTION."),
        ('"UTILMETA_PRODUCTION"=1\n', "line 1 of .env must have the name UTILMETA_PRODUCTION."),
        ("A=1\n\ufeffUTILMETA_PRODUCTION=1\n", "line 2 of .env must have the name UTILMETA_PRODUCTION."),
        ("PORT=1\nA=1\nPORT=2\n", "line 3 of .env sets a name that is set already."),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_env_file_that_says_something_else_than_it_seems_is_refused(tmp_path, content, line, end):
    (tmp_path / ".env").write_bytes(content.replace("\n", end).encode())

    with pytest.raises(ConfigError) as error:
        read_env_file(tmp_path / ".env")

    assert str(error.value) == line


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-be"])
def test_env_file_that_is_no_text_in_utf_8_is_refused(tmp_path, encoding):
    (tmp_path / ".env").write_bytes("UTILMETA_PRODUCTION=1\n".encode(encoding))

    with pytest.raises(ConfigError, match=r"^\.env is not a text in UTF-8\.$"):
        read_env_file(tmp_path / ".env")


def test_env_file_that_points_nowhere_is_refused(tmp_path):
    (tmp_path / ".env").symlink_to(tmp_path / "missing")

    with pytest.raises(ConfigError, match=r"^\.env cannot be read: No such file or directory\.$"):
        read_env_file(tmp_path / ".env")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_env_file_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / ".env").touch(mode=0)

    with pytest.raises(ConfigError, match=r"^\.env cannot be read: Permission denied\.$"):
        read_env_file(tmp_path / ".env")


def test_nothing_else_reads_the_environment():
    folders = ("framework", "metrics", "user", "web")
    sources = [path for folder in folders for path in (BASE_DIR / folder).rglob("*.py")]

    readers = [
        path.name
        for path in [*sources, BASE_DIR / "server.py"]
        if re.search(r"os\.environ\[|os\.environ\.get|getenv", path.read_text())
    ]

    assert readers == []


SECRETS = {
    "SECRET_KEY": "k" * 50,
    "SECRET_KEY_FALLBACKS": "a" * 50 + "," + "b" * 50,
    "DATABASE_URL": "sqlite:///secret.sqlite3",
    "REDIS_URL": "redis://localhost/3",
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_is_read_from_a_file(tmp_path, name, mark, end):
    (tmp_path / "secret").write_text(mark + SECRETS[name] + end, encoding="utf-8")

    by_file = Settings.load({f"{name}_FILE": str(tmp_path / "secret"), name: ""})

    assert by_file == Settings.load({name: SECRETS[name]}) != Settings.load({})


@pytest.mark.parametrize("name", SECRETS)
def test_secret_that_is_given_twice_is_refused(tmp_path, name):
    (tmp_path / "secret").write_text(SECRETS[name])

    with pytest.raises(ConfigError, match=f"^{name} and {name}_FILE are both set: leave one of them out.$"):
        Settings.load({f"{name}_FILE": str(tmp_path / "secret"), name: SECRETS[name]})


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "SECRET_KEY_FILE cannot be read: No such file or directory."),
        (".", "SECRET_KEY_FILE cannot be read: Is a directory."),
        ("binary", "SECRET_KEY_FILE is not a text in UTF-8."),
        ("a\0b", "SECRET_KEY_FILE cannot be read: Invalid argument."),
        ("two-lines", "SECRET_KEY takes 50 characters or more, none of them a comma."),
    ],
)
def test_secret_file_that_cannot_be_read_is_refused(tmp_path, path, reason):
    (tmp_path / "binary").write_bytes(b"\xff" * 60)
    (tmp_path / "two-lines").write_text("k" * 50 + "\n" + "k" * 50)

    with pytest.raises(ConfigError) as caught:
        Settings.load({"SECRET_KEY_FILE": f"{tmp_path}/{path}"})

    assert str(caught.value) == reason


def test_service_starts_with_a_secret_in_a_file(tmp_path):
    (tmp_path / "key").write_text("k" * 60)
    code = "from config import settings; print(settings.secret_key)"

    done = run("python", "-c", code, SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "key"))

    assert done.stdout == "k" * 60 + "\n"
