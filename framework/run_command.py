"""`meta run`, in place of UtilMeta's own."""

import os
import sys

from utilmeta.bin.base import Arg, command
from utilmeta.bin.commands.base import BaseServiceCommand
from utilmeta.bin.meta import MetaCommand


class ServiceCommand(BaseServiceCommand):
    """`meta run` that exits with the code of the service."""

    @command
    def run(
        self,
        daemon: bool = Arg("-d", default=False),
        connect: bool = Arg("-c", default=False),
        log: str = Arg("--log", default="service.log"),
    ) -> None:
        """Run the service (for development only)."""
        # `meta` has set this for itself; with it, Django would read its settings before server.py sets them.
        os.environ.pop("DJANGO_SETTINGS_MODULE", None)
        if daemon or connect:
            MetaCommand.run(self, daemon, connect, log)
        else:
            # UtilMeta starts it in a shell, and exits with 0 even if the service does not start.
            os.chdir(self.service.project_dir)
            os.execv(sys.executable, [sys.executable, self.main_file])  # noqa: S606  (no shell is the point)
