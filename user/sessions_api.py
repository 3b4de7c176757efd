"""Where the user is logged in: list and revoke sessions."""

from utilmeta.core import api

from web.logs import log_event
from web.problems import NoContent, Problem

from . import auth
from .models import User
from .queries import MAX_SESSIONS, end_in_batches, end_sessions, live_sessions_of
from .schema import EndedSchema, SessionInfoSchema
from .sessions import CLIENT, DBSessionSchema, data_of


@auth.session_config.plugin
class SessionsAPI(api.API):
    """The live sessions of the current user."""

    def get(
        self, user: User = auth.user_config, session: auth.SessionSchema = auth.session_config
    ) -> list[SessionInfoSchema]:
        """List where you are logged in.

        The most recently used session comes first. At most 100 sessions are listed.
        """
        return describe_sessions(user, session)

    def delete(
        self, user: User = auth.user_config, session: auth.SessionSchema = auth.session_config
    ) -> EndedSchema:
        """Log out everywhere else.

        Revokes every session but the one of this request. It needs a recent login or reauthentication.
        """
        auth.user_config.require_fresh_login(self.request)
        others = live_sessions_of(user).exclude(pk=session.require_row().pk)
        ended = end_in_batches(others)
        log_event(self.request, "sessions_revoked")
        return EndedSchema(ended=ended)

    @api.delete("{id}")
    def end(
        self,
        id: int,  # noqa: A002  (the name in the path)
        user: User = auth.user_config,
        session: auth.SessionSchema = auth.session_config,
    ) -> NoContent:
        """Log out of one session.

        The session of this request is logged out. Another one needs a recent login or reauthentication.
        """
        if id == session.require_row().pk:
            session.flush()
            return NoContent()
        found = live_sessions_of(user).filter(pk=id)
        if not found.exists():
            raise Problem("not_found")
        auth.user_config.require_fresh_login(self.request)
        end_sessions(found)
        log_event(self.request, "session_revoked")
        return NoContent()


def describe_sessions(user: User, current: DBSessionSchema) -> list[SessionInfoSchema]:
    """Return the newest sessions of a user that open something, the most recently used first."""
    current.touch()  # or it would seem to have been idle until now
    rows = live_sessions_of(user).order_by("-pk")[:MAX_SESSIONS]
    found = []
    for row in rows:
        row.user = user
        data = data_of(row)
        if data is not None:
            found.append(
                SessionInfoSchema(
                    id=row.pk,
                    client=data.get(CLIENT, ""),
                    created_time=row.created_time,
                    last_activity=row.last_activity or row.created_time,
                    expiry_time=row.expiry_time,
                    current=row.pk == current.require_row().pk,
                )
            )
    return sorted(found, key=lambda each: each.last_activity, reverse=True)
