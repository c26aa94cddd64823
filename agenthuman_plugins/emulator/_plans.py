"""The service's plans and what they allow."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account may use.

    Attributes:
        key: `free`, `explorer`, `growth` or `pro`.
        max_sessions: Sessions at the same time.
        included_minutes: Minutes of each period; used first.
        purchased_minutes: Minutes on top, used when the included ones are gone.
        max_avatars: Avatars that may be made in a period.
        max_session_duration: After it a session ends by itself.
        image_avatars: Whether a session may bring its avatar as an image instead of an id.
    """

    key: str
    max_sessions: int
    included_minutes: int
    max_avatars: int
    purchased_minutes: int = 0
    max_session_duration: timedelta = timedelta(hours=4)  # what the documented bodies show
    image_avatars: bool = True

    @property
    def name(self) -> str:
        """Name for people."""
        return self.key.capitalize()

    def period(self, subscribed_at: datetime, now: datetime) -> tuple[datetime, datetime]:
        """Return the start of the current period, and of the next one.

        A paid plan's begins on the day of the month when it was subscribed to, the free plan's on the first.
        """
        day = 1 if self.key == "free" else subscribed_at.astimezone(UTC).day
        now = now.astimezone(UTC)
        month = now.year * 12 + now.month - 1
        if now < _day_of(month, day):
            month -= 1
        return _day_of(month, day), _day_of(month + 1, day)


def _day_of(month: int, day: int) -> datetime:
    """Return a day of a month, which is counted from year 0; the last one if the month is shorter."""
    year, month = month // 12, month % 12 + 1
    return datetime(year, month, min(day, monthrange(year, month)[1]), tzinfo=UTC)


# The pages list the sessions and avatars of each plan; minutes are listed for none of them: 120 is in the example
# bodies, the others are ours.
PLANS = {
    plan.key: plan
    for plan in (
        Plan("free", max_sessions=1, included_minutes=120, max_avatars=0, image_avatars=False),
        Plan("explorer", max_sessions=5, included_minutes=600, max_avatars=20),
        Plan("growth", max_sessions=10, included_minutes=1_500, max_avatars=60),
        Plan("pro", max_sessions=20, included_minutes=4_000, max_avatars=180),
    )
}
