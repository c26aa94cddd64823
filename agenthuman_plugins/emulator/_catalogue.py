"""The avatars that an account can use: public ones, and those made of its own pictures."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote, unquote

from agenthuman_plugins.client._config import DEFAULT_AVATAR
from agenthuman_plugins.emulator._errors import avatar_is_no_look, avatar_limit_reached, avatar_not_found
from agenthuman_plugins.emulator._ids import ulid
from agenthuman_plugins.emulator._requests import check_avatar_id, stand_in
from agenthuman_plugins.emulator._store import SessionStore

_PUBLIC = {
    "PUBLIC/Avatars/sara-office": ("female", "professional"),
    "PUBLIC/Avatars/omar-studio": ("male", "professional"),
    "PUBLIC/Avatars/mei-cafe": ("female", "casual"),
}
# The older generation: every id begins with `avat_`, and a session shows a look of a character. The looks are the avatars
# that the pages and the vendor's code name, the client's default among them.
_CHARACTERS = {
    "avat_01H3Z8G9YR3K2N5M6P7Q8W6V": (DEFAULT_AVATAR, "avat_01KMZHXFPBVCXA5ATK85HCP8G1"),
    "avat_01H3Z8G9YR3K2N5M6P7Q8W7X": ("avat_01KJBCSKRWWKM9Q1ADP0QNX57D", "avat_01KMDFWB9SW1QX4TVP0RT1RFYQ"),
}
_OWN_LOOK = "-look"  # what is added to the id of an own character to name its look
_PREVIEW_SIDE = 500  # pixels, as documented
_PICTURE = re.compile(r"/emulator/pictures/([^/]+)/(?:preview|image)$")
_KEPT_PORTRAITS = 64  # anybody may ask for that of any id


@dataclass(frozen=True, slots=True)
class CatalogueAvatar:
    """An avatar of the list.

    Attributes:
        avatar_id: `avat_…`, or `PUBLIC/Avatars/…`.
        tags: Words about it; `user_exclusive` marks an account's own.
        created_at: When it was made.
        preview: Its face as JPEG; empty for public ones, which are drawn when asked for.
        image: Its whole picture as JPEG; empty likewise.
    """

    avatar_id: str
    tags: tuple[str, ...]
    created_at: datetime
    preview: bytes = field(default=b"", repr=False)
    image: bytes = field(default=b"", repr=False)

    def urls(self, base_url: str) -> dict[str, str]:
        """Return where its pictures are."""
        place = f"{base_url}/emulator/pictures/{quote(self.avatar_id, safe='')}"
        return {"preview_url": f"{place}/preview", "image_url": f"{place}/image"}


class Catalogue:
    """Public and own avatars.

    Args:
        store: Knows what the plan allows, and in which period.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._own: dict[str, CatalogueAvatar] = {}
        self._deleted: set[str] = set()
        self._made: list[datetime] = []
        public = dict.fromkeys(_CHARACTERS, ()) if store.rules.generation == "managed" else _PUBLIC
        self.public = [CatalogueAvatar(name, tags, store.clock()) for name, tags in public.items()]

    @property
    def own(self) -> list[CatalogueAvatar]:
        """The account's own avatars, newest first."""
        return list(reversed(self._own.values()))

    @property
    def made_this_period(self) -> int:
        """Avatars made in this period, deleted ones included."""
        start, _ = self._store.period
        return sum(at >= start for at in self._made)

    def clear(self) -> None:
        """Forget the account's own avatars, those of this period included."""
        self._own.clear()
        self._deleted.clear()
        self._made.clear()

    def check_allowance(self) -> None:
        """Check that one more avatar may be made.

        Raises:
            ServiceError: The plan's avatars of this period are used up.
        """
        rules, made = self._store.rules, self.made_this_period
        if made >= rules.plan.max_avatars:
            raise avatar_limit_reached(rules.limit_errors["avatars"], made, rules.plan.max_avatars)

    def add(self, preview: bytes, image: bytes) -> CatalogueAvatar:
        """Make an avatar of a picture that was checked.

        Raises:
            ServiceError: See `check_allowance`.
        """
        self.check_allowance()
        now = self._store.clock()
        avatar = CatalogueAvatar(f"avat_{ulid(now)}", ("user_exclusive", "user_1"), now, preview, image)
        self._own[avatar.avatar_id] = avatar
        self._made.append(now)
        return avatar

    def check(self, avatar_id: object) -> str:
        """Check that the account may use an avatar.

        Raises:
            ServiceError: It was deleted; or see `check_avatar_id`.
        """
        checked = check_avatar_id(avatar_id)
        if checked.removesuffix(_OWN_LOOK) in self._deleted:
            raise avatar_not_found()
        return checked

    def of_picture(self, url: str) -> str:
        """Return the id of the avatar that an agent's picture shows.

        Other addresses than those of our own pictures are not fetched; each stands for an avatar of its own.

        Raises:
            ServiceError: The avatar was deleted.
        """
        shown = _PICTURE.search(url)
        return self.check(unquote(shown[1]) if shown else stand_in(url))

    def check_look(self, avatar_id: object) -> str:
        """Check that a session of the older generation may show an avatar.

        As there is no full catalogue, every id is a look's unless it is listed as a character, or has `character` in it.

        Raises:
            ServiceError: It is no look; or see `check`.
        """
        checked = self.check(avatar_id)
        if "character" in checked or any(checked == avatar.avatar_id for avatar in self.every()):
            raise avatar_is_no_look()
        return checked

    def looks(self, character: CatalogueAvatar) -> tuple[str, ...]:
        """Return the ids of a character's looks, in the older generation."""
        return _CHARACTERS.get(character.avatar_id) or (f"{character.avatar_id}{_OWN_LOOK}",)

    def delete(self, avatar_id: str) -> None:
        """Delete an own avatar for good.

        Raises:
            ServiceError: It is none of the account's own; another account's is not told from one that does not exist.
        """
        if avatar_id not in self._own:
            raise avatar_not_found()
        del self._own[avatar_id]
        self._deleted.add(avatar_id)

    def every(self) -> Iterator[CatalogueAvatar]:
        """Yield the public avatars, then the account's own."""
        yield from self.public
        yield from self.own

    def picture(self, avatar_id: str, kind: str) -> bytes:
        """Return a picture as JPEG. Blocks.

        Raises:
            ServiceError: There is no such avatar.
        """
        self.check(avatar_id)
        own = self._own.get(avatar_id)
        if own is None:
            return _portrait(avatar_id)
        return own.preview if kind == "preview" else own.image


@lru_cache(maxsize=_KEPT_PORTRAITS)
def _portrait(avatar_id: str) -> bytes:
    import cv2  # noqa: PLC0415 - hundreds of milliseconds that few callers of the REST side need

    from agenthuman_plugins.emulator.face import Face, Look  # noqa: PLC0415
    from agenthuman_plugins.emulator.mouth import MouthShape  # noqa: PLC0415

    picture = Face(_PREVIEW_SIDE, _PREVIEW_SIDE, Look.of(avatar_id)).draw(0.0, MouthShape())
    return bytes(cv2.imencode(".jpg", picture)[1])
