"""The service: declared, configured and mounted. `meta run` or `python server.py` serves it here."""

import framework.utilmeta_patches  # before UtilMeta's own imports, one of which it defers

# isort: split
import logging.config
import sys

import django
from utilmeta import UtilMeta
from utilmeta.conf import Preference
from utilmeta.core import api
from utilmeta.core.orm import Database, DatabaseConnections
from utilmeta.core.server.backends.django import DjangoSettings

from config import settings
from framework.clock import TIME
from framework.django_settings import MIDDLEWARE, SETTINGS
from framework.process_end import close_connections_at_exit
from framework.run_command import ServiceCommand
from web import endpoint, logs

# `python server.py` runs this file as __main__, and Django imports it as `server`: let that be the same.
sys.modules.setdefault("server", sys.modules[__name__])
logging.config.dictConfig(logs.CONFIG)
framework.utilmeta_patches.patch_slow_paths()

service = UtilMeta(
    __name__,
    name="demo-user",
    title="demo-user",
    description="Accounts: sign up, log in, log out, see and change who you are.",
    version=(1, 0, 0),
    backend=django,
    production=settings.production,
    host=settings.host,
    port=settings.port,
)
# UtilMeta installs packages that it misses while it runs, unless told not to.
service.use(Preference(dependencies_auto_install_disabled=True))
service.use(TIME)
service.use(
    DjangoSettings(
        secret_key=settings.secret_key,
        apps=["user", *(["passkey"] if settings.passkeys else [])],
        middleware=MIDDLEWARE,
        extra=SETTINGS,
    )
)
service.use(DatabaseConnections({"default": Database(**settings.database)}))
service.register_command(ServiceCommand)
service.setup()
close_connections_at_exit()
endpoint.install()

from framework.startup import check_production, prepare_development, warn_of_other_sites  # noqa: E402
from user.api import UserAPI  # noqa: E402  (Django's models can be imported only after the setup)
from web.health import HealthAPI  # noqa: E402
from web.problems import QuietResponse, answer_with_problem  # noqa: E402
from web.request import HttpRequest  # noqa: E402

if settings.passkeys:
    from passkey.api import PasskeysAPI


class RootAPI(api.API):
    """Everything under /api."""

    user: UserAPI
    health: HealthAPI
    if settings.passkeys:
        passkeys: PasskeysAPI

    response = QuietResponse
    handle_error = answer_with_problem


service.mount(RootAPI, route="/api")
app = service.application()
app.request_class = HttpRequest

warn_of_other_sites()
if __name__ == "__main__":
    from web import development_server  # of no use to production

    development_server.install()
    prepare_development()
    service.run()
else:
    check_production()
