"""Who is calling: sessions in the database, named by a cookie, and the user whose session it is."""

from typing import Any

from config import settings

from .accounts import UserAuthentication
from .models import Session, User
from .sessions import SESSION_AGE, DBSession, DBSessionSchema

USER_ID = "_user_id"


class SessionSchema(DBSessionSchema):
    """What a session knows: its row also says whose it is."""

    def get_session_data(self) -> dict[str, Any]:
        """Return the columns of a new row."""
        data = super().get_session_data()
        data.update(user_id=self.get(USER_ID))
        return data


session_config = DBSession(
    session_model=Session,
    engine=SessionSchema,
    cookie=DBSession.Cookie(
        # A browser takes a __Host- cookie only from this very host, over TLS, and for every path.
        name=("__Host-" if settings.production else "") + settings.cookie_name,
        age=int(SESSION_AGE.total_seconds()),
        http_only=True,
        secure=settings.production,
        same_site="Lax",
    ),
)

user_config = UserAuthentication(
    user_model=User,
    authentication=session_config,
    key=USER_ID,
    login_fields=User.username,
    password_field=User.password,
)
