"""Passkeys: added, used, renamed and deleted."""

from .authenticator import log_in, register


def test_passkey_is_added_and_logs_its_user_in(bob, client):
    authenticator = register(bob)

    response = log_in(client, authenticator)

    assert response.status_code == 200, response.text
    assert response.json() == bob.get("/api/user").json()
    assert client.get("/api/user").json() == response.json()
