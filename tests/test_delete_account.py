"""DELETE /api/user."""

from user.models import RecoveryCode, Session, User
from user.queries import delete_user

from .support import COOKIE, OTHER_PASSWORD, assert_problem, login, run

PROTECTED = """
import server
from django.core.management import call_command
from django.db import connection, models
from user.models import User

call_command("migrate", verbosity=0)


class Invoice(models.Model):
    user = models.ForeignKey(User, on_delete=models.{rule})

    class Meta:
        app_label = "user"


with connection.schema_editor() as editor:
    editor.create_model(Invoice)

import httpx

client = httpx.Client(transport=httpx.WSGITransport(app=server.app), base_url="http://127.0.0.1")
client.post("/api/user/signup", json={{"username": "bob", "password": "correct horse battery"}})
client.post("/api/user/recovery-code")
Invoice.objects.create(user=User.objects.get())
response = client.delete("/api/user")
print(response.status_code, response.json()["code"], client.get("/api/user").status_code)
print(client.get("/api/user/recovery-code").json()["created_time"] is not None)
call_command("deleteuser", "bob", "--yes")
"""


def test_account_and_all_that_belongs_to_it_is_deleted(bob, make_client, make_user, records):
    other, eve = make_client(), make_user("eve")
    login(other)
    bob.post("/api/user/recovery-code")
    pk = User.objects.get(username="bob").pk

    response = bob.delete("/api/user")

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Set-Cookie"].startswith(f'{COOKIE}=""; ')
    for client in (bob, other):
        assert_problem(client.get("/api/user"), 401, "not_logged_in")
    assert_problem(login(bob), 403, "invalid_credentials")
    assert [user.username for user in User.objects.all()] == ["eve"]
    assert Session.objects.get().user == User.objects.get()
    assert not RecoveryCode.objects.exists()
    assert eve.get("/api/user").status_code == 200
    [record] = [each for each in records if each["event"] == "account_deleted"]
    assert record["user_id"] == pk


def test_username_is_free_again(bob, make_user):
    before = bob.get("/api/user").json()["id"]
    bob.delete("/api/user")

    assert make_user("bob").get("/api/user").json()["id"] != before


def test_deletion_needs_a_login(client):
    assert_problem(client.delete("/api/user"), 401, "not_logged_in")


def test_deletion_that_a_new_password_overtakes_is_refused(bob, make_client, monkeypatch):
    other = make_client()
    login(other)

    def change_the_password(user):
        bob.put("/api/user", json={"password": OTHER_PASSWORD})
        return delete_user(user)

    monkeypatch.setattr("user.accounts.delete_user", change_the_password)

    assert_problem(other.delete("/api/user"), 401, "not_logged_in")

    assert bob.get("/api/user").status_code == 200


def test_deletions_logins_and_changes_at_once_leave_nothing(bob, make_client, in_threads):
    # A login with bob's cookie would revoke his session, and so might have every deletion refused.
    clients = [make_client(cookies={} if number % 4 == 1 else dict(bob.cookies)) for number in range(12)]
    actions = [
        lambda client: client.delete("/api/user"),
        lambda client: login(client),
        lambda client: client.get("/api/user"),
        lambda client: client.put("/api/user", json={"username": "robert"}),
    ]

    statuses = in_threads(12, lambda number: actions[number % 4](clients[number]).status_code)

    assert set(statuses) <= {200, 204, 401, 403}
    assert statuses.count(204) == 1
    assert not User.objects.exists()
    assert not Session.objects.exists()


def test_account_that_other_rows_need_is_kept_whole(tmp_path):
    for rule in ("PROTECT", "RESTRICT", "DO_NOTHING"):
        url = f"sqlite:///{tmp_path}/{rule}.sqlite3"

        settings = {"DATABASE_URL": url, "UTILMETA_PRODUCTION": "0"}

        done = run("python", "-c", PROTECTED.format(rule=rule), **settings)

        assert done.stdout.split("\n")[:2] == ["409 account_in_use 200", "True"], done.stderr
        assert "bob cannot be deleted: other data need the account." in done.stderr
