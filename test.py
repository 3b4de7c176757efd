"""The tutorial's story, told to a running server: `meta run` in one terminal, this in another.

Each run uses names of its own, so it can be told again and again.
"""

import secrets
import sys

from utilmeta.core.response import Response

from server import service


def expect(response: Response, status: int, username: str | None = None) -> None:
    """Print a response, and exit with one line when it is not the one expected."""
    response.print()
    if response.status != status:
        sys.exit(f"Failed: expected status {status}, got {response.status}.")
    user = response.result if isinstance(response.result, dict) else {}
    if username and user.get("username") != username:
        sys.exit(f"Failed: expected the user {username}, got {user.get('username', 'none')}.")


def main() -> None:
    """Sign up, look, log out, look, log in, look, and change the name and the password."""
    tag = secrets.token_hex(3)
    user1 = {"username": f"user1-{tag}", "password": "123123"}
    updated = {"username": f"user-updated-{tag}", "password": "123456"}

    with service.get_client(live=True, default_timeout=30) as client:
        expect(client.post("user/signup", data=user1), 200, user1["username"])
        expect(client.get("user"), 200, user1["username"])
        expect(client.post("user/logout"), 200)
        expect(client.get("user"), 401)
        expect(client.post("user/login", data=user1), 200, user1["username"])
        expect(client.get("user"), 200, user1["username"])
        expect(client.put("user", data=updated), 200, updated["username"])


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001  (each HTTP library that UtilMeta may use has its own)
        sys.exit(f"Failed: no response from {service.base_url} ({error}). Is the service up? Run: meta run")
