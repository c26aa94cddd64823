"""Who the avatar is: eleven people, each in clothes of several colours."""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

Hair = Literal["long", "quiff", "bob", "curls", "waves", "crop", "pixie", "buzz", "bun", "bald"]
Beard = Literal["none", "stubble", "full"]
Clothes = Literal["blazer", "shirt", "turtleneck", "tee", "hoodie"]
Room = Literal["studio", "window", "evening", "shelf", "garden"]


@dataclass(frozen=True, slots=True)
class Look:
    """How an avatar looks. Colours are `#rrggbb`.

    Attributes:
        name: Of the person.
        skin: Lit skin.
        lips: Lips.
        hair: Style of the hair.
        hair_color: Hair.
        eyes: Iris.
        jaw: Width of the jaw; 1 is in the middle.
        lashes: Length of the lashes, 0 to 1.
        beard: Style of the beard.
        glasses: Whether glasses are worn.
        earrings: Whether earrings are worn.
        freckles: Whether there are freckles.
        clothes: What is worn.
        cloth_color: Its colour.
        room: What is behind.
        room_colors: Its light and its dark colour.
    """

    name: str
    skin: str
    lips: str
    hair: Hair
    hair_color: str
    eyes: str
    jaw: float
    lashes: float
    beard: Beard
    glasses: bool
    earrings: bool
    freckles: bool
    clothes: Clothes
    cloth_color: str
    room: Room
    room_colors: tuple[str, str]

    @classmethod
    def of(cls, avatar_id: str) -> "Look":
        """Choose a look: always the same for an id."""
        digest = hashlib.blake2b(avatar_id.encode(), digest_size=8).digest()
        person = PEOPLE[digest[7] % len(PEOPLE)]
        if digest[1] % 2:
            return person
        return replace(person, cloth_color=_CLOTH_COLORS[digest[2] % len(_CLOTH_COLORS)])


_CLOTH_COLORS = ("#2f4a6d", "#7b2d3b", "#3f5d4c", "#c9a227", "#e9e4da", "#33363f", "#9a5b3c", "#5b4a78")


def _person(name: str, **traits: object) -> Look:
    plain: dict[str, object] = {
        "jaw": 1.0, "lashes": 0.3, "beard": "none", "glasses": False, "earrings": False, "freckles": False,
    }  # fmt: skip
    return Look(name=name, **{**plain, **traits})  # type: ignore[arg-type]


# fmt: off - a table
PEOPLE = (
    _person(
        "Ava",
        skin="#f0c6a4",
        lips="#c4676a",
        hair="long",
        hair_color="#6b3f27",
        eyes="#5f7d4f",
        jaw=0.94,
        lashes=1.0,
        clothes="blazer",
        cloth_color="#2c3f5e",
        room="studio",
        room_colors=("#9fb2c4", "#4a5d74"),
    ),
    _person(
        "Noah",
        skin="#e3b08c",
        lips="#b5706a",
        hair="quiff",
        hair_color="#3d2a20",
        eyes="#6b4a2e",
        jaw=1.06,
        beard="stubble",
        clothes="shirt",
        cloth_color="#dfe6ec",
        room="window",
        room_colors=("#dfe3e0", "#7f8f94"),
    ),
    _person(
        "Mei",
        skin="#f3cfae",
        lips="#c2545c",
        hair="bob",
        hair_color="#211c22",
        eyes="#43302a",
        jaw=0.95,
        lashes=0.9,
        clothes="turtleneck",
        cloth_color="#8a3145",
        room="evening",
        room_colors=("#e8b27a", "#3a2f45"),
    ),
    _person(
        "Amara",
        skin="#8a5a3c",
        lips="#8e3f45",
        hair="curls",
        hair_color="#241a17",
        eyes="#3a241a",
        jaw=0.97,
        lashes=1.0,
        earrings=True,
        clothes="tee",
        cloth_color="#d39a2c",
        room="garden",
        room_colors=("#b9cfa5", "#4b6a55"),
    ),
    _person(
        "Lena",
        skin="#f6d3b8",
        lips="#cf7476",
        hair="waves",
        hair_color="#d9b06a",
        eyes="#4f7fa6",
        jaw=0.95,
        lashes=0.9,
        clothes="tee",
        cloth_color="#2f7d7a",
        room="shelf",
        room_colors=("#d8c7b0", "#7a6653"),
    ),
    _person(
        "Ravi",
        skin="#b57a50",
        lips="#9a5650",
        hair="crop",
        hair_color="#1f1916",
        eyes="#3b2618",
        jaw=1.05,
        beard="full",
        glasses=True,
        clothes="shirt",
        cloth_color="#56684a",
        room="shelf",
        room_colors=("#c9b59a", "#5d5148"),
    ),
    _person(
        "Ingrid",
        skin="#f1cdb6",
        lips="#b8646a",
        hair="pixie",
        hair_color="#c9cbd0",
        eyes="#5d87a8",
        jaw=0.99,
        lashes=0.6,
        glasses=True,
        earrings=True,
        clothes="turtleneck",
        cloth_color="#2e3038",
        room="window",
        room_colors=("#e4ddd2", "#98897b"),
    ),
    _person(
        "Kofi",
        skin="#6b4430",
        lips="#7a4440",
        hair="buzz",
        hair_color="#16110f",
        eyes="#2e1c14",
        jaw=1.07,
        clothes="blazer",
        cloth_color="#4a4f5c",
        room="studio",
        room_colors=("#c7a98a", "#6d5444"),
    ),
    _person(
        "Sofia",
        skin="#dca880",
        lips="#b8383f",
        hair="bun",
        hair_color="#33211b",
        eyes="#5a3b22",
        jaw=0.96,
        lashes=1.0,
        earrings=True,
        clothes="shirt",
        cloth_color="#f0e6d6",
        room="garden",
        room_colors=("#cfd8c0", "#6c8068"),
    ),
    _person(
        "Finn",
        skin="#f5cfb3",
        lips="#c27a70",
        hair="crop",
        hair_color="#b5592b",
        eyes="#4c8a7d",
        jaw=1.03,
        freckles=True,
        clothes="hoodie",
        cloth_color="#5a6f8c",
        room="evening",
        room_colors=("#d8a48a", "#41364f"),
    ),
    _person(
        "Yusuf",
        skin="#cf9a70",
        lips="#a8655c",
        hair="bald",
        hair_color="#2a211c",
        eyes="#4b5a3a",
        jaw=1.06,
        beard="full",
        clothes="turtleneck",
        cloth_color="#3c5a57",
        room="studio",
        room_colors=("#a9b7ae", "#53655f"),
    ),
)
# fmt: on
