"""nginx, started for a test."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .support import until

needs_nginx = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="nginx or openssl is not installed"
)


@contextmanager
def nginx(folder: Path, configuration: str, port: int) -> Iterator[None]:
    """Have an nginx with these contents of its `http` block, that listens on a port, in a folder."""
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root, nginx gives its workers to a user who cannot enter the folder of a test.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}\ndaemon off;\npid {folder}/pid;\nevents {{}}\n"
        f"http {{\n{temporary}    access_log off;\n    {configuration}\n}}\n"
    )
    log = folder / "nginx"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nginx", "-p", folder, "-e", log, "-c", folder / "nginx.conf"], stdout=output, stderr=output
        )
    try:

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
