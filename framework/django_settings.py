"""Django's settings, beyond those that UtilMeta makes."""

from functools import partial
from typing import Any

from django.core import signals
from django.core.cache import close_caches
from django.db import close_old_connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from config import POSTGRESQL_RESPONSE_SECONDS, settings
from framework.connections import pool
from framework.private_files import PrivateConnection

MIDDLEWARE = [
    "web.middleware.record",
    "web.middleware.headers",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Only if needed: it costs every request something.
    *(["corsheaders.middleware.CorsMiddleware"] if settings.trusted_origins else []),
    "django.middleware.common.CommonMiddleware",
    *(["metrics.middleware.serve"] if settings.metrics else []),
    *(["web.pages.middleware.PagesMiddleware"] if settings.pages else []),
    "web.middleware.guard",
    "web.middleware.lend_connection",
]

SETTINGS: dict[str, Any] = {
    "DATABASES": {"default": settings.database_url},
    "ALLOWED_HOSTS": settings.allowed_hosts,
    # New passwords use the first; the others are for imported accounts, until their next login.
    "PASSWORD_HASHERS": [
        "user.passwords.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
        "django.contrib.auth.hashers.Argon2PasswordHasher",
        "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
        "user.foreign_hashes.BCryptPasswordHasher",
        "user.foreign_hashes.ScryptPasswordHasher",
    ],
    # What production refuses as a new password, beside what is too short or the username.
    "AUTH_PASSWORD_VALIDATORS": [
        {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    ],
    "SECRET_KEY_FALLBACKS": settings.secret_key_fallbacks,
    # Django's debug pages show settings, and other people's cookies.
    "DEBUG": False,
    "LOGGING_CONFIG": None,
    "X_FRAME_OPTIONS": "DENY",
    "SECURE_REFERRER_POLICY": "same-origin",
    "SECURE_HSTS_SECONDS": 365 * 24 * 3600 if settings.production else 0,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https") if settings.trusted_proxies else None,
    "CORS_ALLOWED_ORIGINS": settings.trusted_origins,
    "CORS_ALLOW_CREDENTIALS": True,
    # The others are what OpenTelemetry and Sentry add to the requests of a page.
    "CORS_ALLOW_HEADERS": ["content-type", "traceparent", "tracestate", "baggage", "sentry-trace"],
    "CORS_ALLOW_METHODS": ["GET", "POST", "PUT", "PATCH", "DELETE"],
    "CORS_EXPOSE_HEADERS": ["X-Request-ID", "Retry-After"],
    "CORS_URLS_REGEX": r"^/api(/|$)",
    "SILENCED_SYSTEM_CHECKS": [
        "security.W003",  # Django's CSRF tokens: web.middleware.guard stands in their place
        "security.W005",  # HSTS for subdomains binds a whole domain: that is for its owner to say
        "security.W008",  # the redirect from HTTP to HTTPS is the proxy's work
        "security.W021",  # preloading, as W005
    ],
}

is_sqlite = settings.database_url["ENGINE"] == "django.db.backends.sqlite3"
SETTINGS["DATABASES"]["default"]["OPTIONS"] |= {"factory": PrivateConnection} if is_sqlite else {}

pool.install()

# Django looks around each request for a cache, for the log of queries of DEBUG, and for connections that the
# thread keeps. The first two are not used here, and framework/connections.py looks after connections.
signals.request_finished.disconnect(close_caches)
signals.request_started.disconnect(reset_queries)
signals.request_started.disconnect(close_old_connections)
signals.request_finished.disconnect(close_old_connections)


@receiver(connection_created)
def bound_responses(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Limit how long a PostgreSQL connection waits for the server; psycopg itself waits forever."""
    if connection.vendor == "postgresql":
        raw = connection.connection
        raw.wait = partial(raw.wait, timeout=POSTGRESQL_RESPONSE_SECONDS)
