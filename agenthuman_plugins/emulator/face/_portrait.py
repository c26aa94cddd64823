"""What is painted once: head, body. Light falls from the upper left."""

import numpy as np

from agenthuman_plugins.emulator.face._canvas import Canvas, Color, Mask, color, mix, shade
from agenthuman_plugins.emulator.face._geometry import Path, ellipse, mirrored, moved, ribbon, smooth
from agenthuman_plugins.emulator.face._hair import (
    fade_strands,
    paint_crown,
    paint_hair,
    paint_hair_behind,
    paint_strands,
)
from agenthuman_plugins.emulator.face._look import Look
from agenthuman_plugins.emulator.face._palette import BLACK, WHITE, Palette


def face_outline(jaw: float) -> Path:
    """The face without ears, from the top of the forehead to the chin."""
    return mirrored(
        [
            (0, -160), (50, -150), (90, -114), (109, -52), (110, 0), (107 * (0.6 + 0.4 * jaw), 44),
            (96 * jaw, 84), (69 * jaw, 123), (34 * jaw, 147), (0, 153),
        ]
    )  # fmt: skip


def paint_body(canvas: Canvas, look: Look) -> None:
    """Paint what moves with the breath: hair that hangs behind, neck, shoulders, clothes."""
    palette = Palette(look)
    paint_hair_behind(canvas, look, palette)
    neck = mirrored([(0, 60), (52, 70), (54, 140), (58, 172), (92, 198), (120, 240), (0, 300)])
    canvas.fill(neck, palette.skin, palette.skin)
    skin = canvas.mask(neck)
    canvas.fill(ellipse(0, 128, 72, 48), palette.skin_deep, blur=11, opacity=0.75, clip=skin)
    canvas.fill(ellipse(46, 170, 26, 60), palette.skin_shade, blur=12, opacity=0.5, clip=skin)
    for side in (-1, 1):
        bone = ribbon([(side * 14, 222), (side * 48, 212), (side * 96, 204)], [2, 5, 2])
        canvas.fill(bone, palette.skin_shade, blur=2.5, opacity=0.55, clip=skin)
    _CLOTHES[look.clothes](canvas, palette)
    paint_strands(canvas, look, palette)


def _torso(neck_half_width: float, collar_y: float) -> Path:
    return mirrored(
        [
            (0, collar_y + 46), (neck_half_width * 0.62, collar_y + 36), (neck_half_width, collar_y), (112, 196),
            (168, 214), (206, 246), (228, 300), (246, 420), (250, 700), (0, 700),
        ]
    )  # fmt: skip


def _paint_torso(canvas: Canvas, torso: Path, top: Color, bottom: Color) -> Mask:
    canvas.fill(torso, top, bottom)
    cloth = canvas.mask(torso)
    canvas.fill(ellipse(-110, 226, 90, 26, -16), WHITE, blur=16, opacity=0.10, clip=cloth)
    for side in (-1, 1):
        fold = ribbon([(side * 150, 262), (side * 138, 330), (side * 142, 430)], [1, 9, 4])
        canvas.fill(fold, BLACK, blur=6, opacity=0.20, clip=cloth)
    canvas.fill(ellipse(190, 380, 80, 190), BLACK, blur=34, opacity=0.22, clip=cloth)
    return cloth


def _tee(canvas: Canvas, palette: Palette) -> None:
    torso = _torso(66, 178)
    cloth = _paint_torso(canvas, torso, palette.cloth, palette.cloth_dark)
    collar = [(-72, 176), (-46, 210), (0, 226), (46, 210), (72, 176)]
    canvas.fill(ribbon(collar, [9, 11, 11, 11, 9]), palette.cloth_light, palette.cloth, clip=None)
    canvas.fill(
        ribbon([(x, y + 8) for x, y in collar], [1.5, 2, 2, 2, 1.5]), BLACK, blur=1.2, opacity=0.3, clip=cloth
    )


def _turtleneck(canvas: Canvas, palette: Palette) -> None:
    _paint_torso(canvas, _torso(64, 150), palette.cloth, palette.cloth_dark)
    roll = mirrored([(0, 150), (36, 146), (60, 136), (66, 160), (70, 200), (36, 216), (0, 220)])
    canvas.fill(roll, palette.cloth_light, palette.cloth)
    knit = canvas.mask(roll)
    canvas.fill(ellipse(0, 138, 78, 26), BLACK, blur=9, opacity=0.45, clip=knit)
    canvas.fill(ellipse(56, 180, 22, 50), BLACK, blur=10, opacity=0.22, clip=knit)
    for x in np.linspace(-60, 60, 13):
        rib = ribbon([(x, 140), (x * 1.05, 180), (x * 1.08, 222)], [1.4, 1.4, 1.4])
        canvas.fill(rib, BLACK, blur=0.8, opacity=0.10, clip=knit)
    crease = ribbon([(-74, 200), (-36, 220), (0, 226), (36, 220), (74, 200)], [3, 6, 6, 6, 3])
    canvas.fill(crease, BLACK, blur=3, opacity=0.3)


def _shirt(canvas: Canvas, palette: Palette) -> None:
    cloth = _paint_torso(canvas, _torso(62, 172), palette.cloth, palette.cloth_dark)
    opening = smooth([(-50, 168), (-30, 214), (-4, 254), (4, 254), (32, 214), (50, 168), (0, 150)])
    canvas.fill(opening, palette.skin, palette.skin_shade)
    canvas.fill(ellipse(0, 166, 62, 26), palette.skin_deep, blur=9, opacity=0.6, clip=canvas.mask(opening))
    placket = ribbon([(1, 258), (1, 400), (1, 690)], [20, 20, 20])
    canvas.fill(placket, palette.cloth_light, palette.cloth, opacity=0.55, clip=cloth)
    canvas.fill(ribbon([(11, 258), (11, 400), (11, 690)], [2, 2, 2]), BLACK, blur=1, opacity=0.25, clip=cloth)
    for y in (296, 372, 448):
        canvas.fill(ellipse(1, y, 4.2, 4.2), palette.cloth_light, palette.cloth_dark)
    for side in (-1, 1):
        wing = np.array(
            [(44, 160), (66, 152), (84, 182), (62, 250), (34, 222), (3, 262), (0, 252), (26, 212)]
        )
        wing = wing * (side, 1)
        canvas.fill(moved(wing, side * 3, 6), BLACK, blur=4, opacity=0.28, clip=cloth)
        canvas.fill(wing, palette.cloth_light, palette.cloth)


def _blazer(canvas: Canvas, palette: Palette) -> None:
    light = mix(palette.cloth, WHITE, 0.86)
    shirt = smooth([(-70, 168), (-34, 204), (0, 214), (34, 204), (70, 168), (90, 320), (0, 720), (-90, 320)])
    canvas.fill(shirt, light, shade(light, 0.9))
    canvas.fill(
        ribbon([(-70, 168), (-36, 202), (0, 213), (36, 202), (70, 168)], [6, 6, 6, 6, 6]), shade(light, 0.82)
    )
    jacket = _torso(80, 172)
    inner = np.array([(-78, 150), (-52, 220), (-8, 420), (0, 470), (8, 420), (52, 220), (78, 150)])
    body = canvas.mask(jacket) * (1 - canvas.mask(inner))
    canvas.fill(jacket, palette.cloth, palette.cloth_dark, clip=body)
    canvas.fill(ellipse(-120, 226, 90, 26, -16), WHITE, blur=16, opacity=0.12, clip=body)
    canvas.fill(ellipse(190, 380, 80, 190), BLACK, blur=34, opacity=0.25, clip=body)
    for side in (-1, 1):
        lapel = np.array(
            [(64, 150), (92, 186), (104, 246), (84, 258), (98, 276), (6, 470), (0, 466), (50, 236)]
        )
        lapel = lapel * (side, 1)
        canvas.fill(moved(lapel, side * 3, 5), BLACK, blur=5, opacity=0.35, clip=body)
        canvas.fill(lapel, palette.cloth_light, palette.cloth)
        edge = ribbon([(side * 84, 258), (side * 70, 240), (side * 56, 232)], [2, 2, 2])
        canvas.fill(edge, BLACK, blur=0.8, opacity=0.35)


def _hoodie(canvas: Canvas, palette: Palette) -> None:
    hood = mirrored([(0, 130), (70, 128), (106, 160), (122, 206), (90, 240), (0, 262)])
    canvas.fill(hood, palette.cloth_dark, shade(palette.cloth_dark, 0.8))
    inner = mirrored([(0, 120), (52, 132), (62, 176), (36, 214), (0, 226)])
    canvas.fill(inner, palette.skin, palette.skin_shade)
    canvas.fill(ellipse(0, 140, 70, 40), palette.skin_deep, blur=11, opacity=0.7, clip=canvas.mask(inner))
    cloth = _paint_torso(canvas, _torso(76, 186), palette.cloth, palette.cloth_dark)
    for side in (-1, 1):
        flap = smooth([(side * 58, 140), (side * 92, 152), (side * 122, 200), (side * 60, 246), (side * 4, 250),
                       (side * 40, 212)])  # fmt: skip
        canvas.fill(moved(flap, 0, 6), BLACK, blur=5, opacity=0.3, clip=cloth)
        canvas.fill(flap, palette.cloth_light, palette.cloth)
        cord = ribbon([(side * 24, 236), (side * 27, 290), (side * 24, 348)], [4, 4, 4])
        canvas.fill(moved(cord, 2, 3), BLACK, blur=2, opacity=0.3)
        canvas.fill(cord, shade(palette.cloth, 1.6))


_CLOTHES = {"tee": _tee, "turtleneck": _turtleneck, "shirt": _shirt, "blazer": _blazer, "hoodie": _hoodie}


def paint_head(canvas: Canvas, look: Look) -> None:
    """Paint what moves with the head, but for eyes, brows, nose and mouth."""
    palette = Palette(look)
    outline = face_outline(look.jaw)
    paint_crown(canvas, look, palette)
    _paint_ears(canvas, look, palette)
    canvas.fill(outline, palette.skin, palette.skin)
    face = canvas.mask(outline)
    # The far side, the temples and the jaw turn away from the light.
    lit = canvas.mask(ellipse(-16, -6, 96, 128), blur=26)
    canvas.fill(outline, palette.skin_shade, opacity=0.85, clip=face * (1 - lit))
    canvas.fill(ellipse(84, 40, 34, 90, 8), palette.skin_shade, blur=20, opacity=0.45, clip=face)
    canvas.fill(ellipse(-30, -92, 62, 34), palette.skin_light, blur=22, opacity=0.35, clip=face)
    canvas.fill(ellipse(0, 132, 26, 12), palette.skin_light, blur=9, opacity=0.25, clip=face)
    for side in (-1, 1):
        canvas.fill(ellipse(side * 44, -16, 36, 22), palette.skin_shade, blur=10, opacity=0.42, clip=face)
        canvas.fill(ellipse(side * 60, 48, 30, 22), palette.blush, blur=13, opacity=0.40, clip=face)
        canvas.fill(
            ellipse(side * 58 - 5, 28, 20, 10, -12 * side),
            palette.skin_light,
            blur=9,
            opacity=0.28,
            clip=face,
        )
    canvas.fill(ellipse(0, 119, 22, 6), palette.skin_shade, blur=5, opacity=0.55, clip=face)
    _paint_nose(canvas, palette, face)
    if look.freckles:
        _paint_freckles(canvas, palette, face)
    _BEARDS[look.beard](canvas, palette, face, look.jaw)
    paint_hair(canvas, look, palette, face)
    fade_strands(canvas, look, face)
    if look.earrings:
        for side in (-1, 1):
            canvas.fill(ellipse(side * 116, 52, 5.5, 6.5), color("#f3d98a"), color("#b98a2e"))
            canvas.fill(ellipse(side * 116 - 1.5, 50, 1.6, 1.8), WHITE, opacity=0.9)


def _paint_ears(canvas: Canvas, look: Look, palette: Palette) -> None:
    if look.hair in {"long", "bob", "waves", "curls"}:
        return  # covered
    for side in (-1, 1):
        ear = smooth([(100, -26), (118, -32), (127, -14), (122, 12), (114, 34), (104, 36), (98, 10)])
        inner = ribbon([(112, -18), (119, -10), (115, 8), (109, 22)], [2, 5, 6, 3])
        canvas.fill(ear * (side, 1), palette.skin, palette.skin_shade)
        canvas.fill(inner * (side, 1), palette.skin_deep, blur=2, opacity=0.5)


def _paint_nose(canvas: Canvas, palette: Palette, face: Mask) -> None:
    canvas.fill(
        ribbon([(9, -14), (10, 16), (15, 42)], [5, 8, 10]),
        palette.skin_shade,
        blur=5,
        opacity=0.55,
        clip=face,
    )
    canvas.fill(
        ribbon([(-2, -22), (-2, 14), (-2, 40)], [6, 8, 10]),
        palette.skin_light,
        blur=4,
        opacity=0.38,
        clip=face,
    )
    canvas.fill(ellipse(-2, 42, 8, 6), palette.skin_light, blur=4, opacity=0.45, clip=face)
    canvas.fill(ellipse(0, 57, 18, 5), palette.skin_deep, blur=3.5, opacity=0.5, clip=face)
    for side in (-1, 1):
        canvas.fill(
            ellipse(side * 7.5, 53, 4.0, 2.2, -14 * side),
            palette.skin_deep,
            blur=0.9,
            opacity=0.85,
            clip=face,
        )
        wing = ribbon([(side * 15, 40), (side * 18.5, 48), (side * 13, 54.5)], [0.8, 2.6, 1.0])
        canvas.fill(wing, palette.skin_deep, blur=1.1, opacity=0.55, clip=face)
        smile = ribbon([(side * 22, 52), (side * 37, 66), (side * 46, 88)], [1, 4, 1])
        canvas.fill(smile, palette.skin_shade, blur=3, opacity=0.4, clip=face)
    canvas.fill(
        ribbon([(0, 63), (0, 70), (0, 77)], [3, 5, 5]), palette.skin_shade, blur=2, opacity=0.4, clip=face
    )


def _paint_freckles(canvas: Canvas, palette: Palette, face: Mask) -> None:
    random = np.random.default_rng(7)
    for x, y in random.normal((0, 30), (44, 11), (46, 2)):
        canvas.fill(ellipse(x, y, 1.5, 1.3), palette.skin_deep, blur=0.5, opacity=0.5, clip=face)


def _no_beard(canvas: Canvas, palette: Palette, face: Mask, jaw: float) -> None:
    """A shaved face has nothing to paint."""


def _beard_outline(jaw: float) -> list[Path]:
    cheek = mirrored(
        [
            (0, 118), (26, 116), (44, 100), (48, 82), (62, 72), (88 * jaw, 50), (108, -6), (116, -4), (114 * jaw, 50),
            (104 * jaw, 92), (80 * jaw, 132), (42 * jaw, 160), (0, 166),
        ]
    )  # fmt: skip
    moustache = mirrored([(0, 64), (14, 61), (40, 70), (54, 92), (46, 100), (30, 84), (0, 78)])
    return [cheek, moustache]


def _stubble(canvas: Canvas, palette: Palette, face: Mask, jaw: float) -> None:
    canvas.fill(_beard_outline(jaw)[0], palette.hair, blur=9, opacity=0.30, clip=face)
    canvas.fill(_beard_outline(jaw)[1], palette.hair, blur=6, opacity=0.24, clip=face)


def _full_beard(canvas: Canvas, palette: Palette, _face: Mask, jaw: float) -> None:
    cheek, moustache = _beard_outline(jaw)
    canvas.fill([cheek, moustache], palette.hair, palette.hair_dark, blur=1.6, opacity=0.97)
    area = canvas.mask(cheek, moustache, blur=1.0)
    random = np.random.default_rng(11)
    for x in np.linspace(-100, 100, 70):
        y = 150 - 0.009 * x * x + random.normal(0, 12)
        lean = x * 0.10
        hair = ribbon([(x, y - 26), (x + lean * 0.4, y - 8), (x + lean, y + 10)], [0.8, 1.8, 0.6])
        tone = palette.hair_light if random.random() < 0.5 else palette.hair_dark  # noqa: PLR2004
        canvas.fill(hair, tone, blur=0.5, opacity=0.35, clip=area)


_BEARDS = {"none": _no_beard, "stubble": _stubble, "full": _full_beard}
