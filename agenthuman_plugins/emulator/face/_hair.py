"""Hair: what hangs behind the shoulders, what lies before them, and what sits on the head."""

from collections.abc import Callable

import numpy as np

from agenthuman_plugins.emulator.face._canvas import Canvas, Mask
from agenthuman_plugins.emulator.face._geometry import Path, Points, ellipse, mirrored, moved, ribbon, smooth
from agenthuman_plugins.emulator.face._look import Hair, Look
from agenthuman_plugins.emulator.face._palette import BLACK, Palette


def paint_hair_behind(canvas: Canvas, look: Look, palette: Palette) -> None:
    """Paint the hair behind neck and shoulders."""
    if look.hair in _BEHIND:
        outline = mirrored(_BEHIND[look.hair])
        canvas.fill(outline, palette.hair_dark, palette.hair_dark)
        canvas.fill(ellipse(0, 150, 90, 90), BLACK, blur=26, opacity=0.35, clip=canvas.mask(outline))


def paint_strands(canvas: Canvas, look: Look, palette: Palette) -> None:
    """Paint the hair that falls before the shoulders."""
    if look.hair not in _STRANDS:
        return
    inner, outer = _STRANDS[look.hair]
    for side in (-1, 1):
        lock = np.vstack([smooth(outer, closed=False), smooth(inner, closed=False)[::-1]]) * (side, 1)
        canvas.fill(moved(lock, side * -4, 5), BLACK, blur=7, opacity=0.28)
        canvas.fill(lock, palette.hair, palette.hair)
        _comb(canvas, palette, canvas.mask(lock), _turned(inner, side), _turned(outer, side), strands=16)


def paint_crown(canvas: Canvas, look: Look, palette: Palette) -> None:
    """Paint the hair of the head that is behind the face."""
    if look.hair == "bun":
        canvas.fill(ellipse(0, -190, 44, 40), palette.hair, palette.hair_dark)
        knot = canvas.mask(ellipse(0, -190, 44, 40))
        for turn in range(7):
            loop = [(-40 + turn * 4, -186 - turn), (0, -222 + turn * 9), (40 - turn * 4, -184 - turn)]
            tone = palette.hair_light if turn % 2 else palette.hair_dark
            canvas.fill(ribbon(loop, [1, 2.4, 1]), tone, blur=0.8, opacity=0.5, clip=knot)
        canvas.fill(ellipse(-12, -208, 18, 9, -14), palette.hair_light, blur=6, opacity=0.5, clip=knot)
    if look.hair == "curls":
        _paint_curl_cloud(canvas, palette)
    elif look.hair in _CROWNS:
        canvas.fill(mirrored(_CROWNS[look.hair]), palette.hair_dark, palette.hair_dark)


def paint_hair(canvas: Canvas, look: Look, palette: Palette, face: Mask) -> None:
    """Paint the hair of the head that is before the face."""
    _STYLES[look.hair](canvas, palette, face)


def fade_strands(canvas: Canvas, look: Look, face: Mask) -> None:
    """Let long hair of the head pass into the strands that lie on the shoulders, which do not move with it."""
    if look.hair in _STRANDS:
        y = (np.arange(canvas.alpha.shape[0], dtype=np.float32) - canvas.origin[1]) / canvas.scale
        gone = np.clip((y - 50) / 60, 0, 1)[:, None] * (1 - face)
        canvas.color *= (1 - gone)[..., None]
        canvas.alpha *= 1 - gone


def _turned(points: Points, side: int) -> Points:
    return [(x * side, y) for x, y in points]


def _comb(
    canvas: Canvas, palette: Palette, area: Mask, one: Points, other: Points, strands: int = 26, seed: int = 3
) -> None:
    """Lay light and dark strands between two guides that run with the hair."""
    random = np.random.default_rng(seed)
    first, last = np.asarray(one, float), np.asarray(other, float)
    for share in np.linspace(0.02, 0.98, strands):
        jittered = np.clip(share + random.normal(0, 0.02), 0, 1)
        spine = [tuple(point) for point in first + (last - first) * jittered]
        width = random.uniform(1.2, 3.6)
        light = random.random() < 0.5  # noqa: PLR2004 - evenly
        strand = ribbon(spine, [width * 0.4, *[width] * (len(spine) - 2), width * 0.4])
        tone = palette.hair_light if light else palette.hair_dark
        canvas.fill(strand, tone, blur=0.9, opacity=0.34 if light else 0.5, clip=area)


def _shine(canvas: Canvas, palette: Palette, area: Mask, points: Points, width: float) -> None:
    """Let the light run across the strands."""
    band = ribbon(points, [width * 0.3, width, width * 0.3])
    canvas.fill(band, palette.hair_light, blur=width * 0.42, opacity=0.42, clip=area)


def _cast_shadow(canvas: Canvas, palette: Palette, outline: Path | list[Path], face: Mask) -> None:
    """Darken the skin just below the hair."""
    paths = [outline] if isinstance(outline, np.ndarray) else outline
    canvas.fill([moved(path, 2, 7) for path in paths], palette.skin_deep, blur=5, opacity=0.5, clip=face)


def _sides(
    canvas: Canvas, palette: Palette, face: Mask, left: tuple[Points, Points], right: tuple[Points, Points]
) -> None:
    """Paint two curtains; each is given by its inner and its outer edge, from the parting down."""
    outlines = [
        np.vstack([smooth(outer, closed=False), smooth(inner, closed=False)[::-1]])
        for inner, outer in (left, right)
    ]
    _cast_shadow(canvas, palette, outlines, face)
    for (inner, outer), outline in zip((left, right), outlines, strict=True):
        canvas.fill(outline, palette.hair, palette.hair)
        _comb(canvas, palette, canvas.mask(outline), inner, outer)


def _long(canvas: Canvas, palette: Palette, face: Mask) -> None:
    inner: Points = [(-6, -154), (44, -128), (84, -84), (101, -26), (106, 34), (112, 90), (108, 150)]
    outer: Points = [(-6, -188), (54, -179), (105, -142), (134, -70), (140, 10), (145, 90), (146, 150)]
    # The parting is a little to the left; further down both sides are alike.
    left = tuple([(-x - 12 * (1 - i / 6), y) for i, (x, y) in enumerate(edge)] for edge in (inner, outer))
    _sides(canvas, palette, face, (left[0], left[1]), (inner, outer))
    for side in (-1, 1):
        points = [(side * 52 - 6, -164), (side * 96 - 6, -118), (side * 118 - 6, -58)]
        _shine(canvas, palette, canvas.mask(mirrored(_CROWNS["long"])), points, 22)


def _waves(canvas: Canvas, palette: Palette, face: Mask) -> None:
    part = 34
    right: tuple[Points, Points] = (
        [(part, -152), (66, -124), (92, -84), (103, -30), (108, 26), (108, 80), (100, 130)],
        [(part, -184), (86, -176), (122, -132), (140, -66), (138, 8), (150, 76), (146, 132)],
    )
    left: tuple[Points, Points] = (
        [(part, -152), (-14, -136), (-66, -108), (-96, -52), (-110, 18), (-108, 76), (-100, 130)],
        [(part, -184), (-44, -188), (-112, -146), (-142, -66), (-138, 8), (-150, 76), (-146, 132)],
    )
    _sides(canvas, palette, face, left, right)
    crown = canvas.mask(mirrored(_CROWNS["waves"]))
    _shine(canvas, palette, crown, [(8, -170), (-60, -150), (-112, -84)], 26)
    _shine(canvas, palette, crown, [(-128, 6), (-134, 50), (-124, 90)], 14)
    _shine(canvas, palette, crown, [(78, -154), (112, -112), (124, -56)], 18)


def _bob(canvas: Canvas, palette: Palette, face: Mask) -> None:
    inner: Points = [(74, -70), (94, -40), (101, 10), (99, 60), (86, 104)]
    outer: Points = [(112, -130), (136, -60), (144, 16), (140, 84), (98, 126)]
    _sides(canvas, palette, face, (_turned(inner, -1), _turned(outer, -1)), (inner, outer))
    fringe = smooth(
        [(0, -186), (64, -182), (114, -138), (134, -68), (104, -36), (92, -62), (50, -58), (0, -56), (-50, -58), (-92, -62),
         (-104, -36), (-134, -68), (-114, -138), (-64, -182)]
    )  # fmt: skip
    _cast_shadow(canvas, palette, fringe, face)
    canvas.fill(fringe, palette.hair, palette.hair)
    area = canvas.mask(fringe)
    for side in (-1, 1):
        one: Points = [(side * 2, -184), (side * 3, -130), (side * 4, -52)]
        other: Points = [(side * 60, -180), (side * 112, -132), (side * 112, -40)]
        _comb(canvas, palette, area, one, other, strands=22, seed=5)
    _shine(canvas, palette, area, [(-104, -104), (-40, -132), (30, -134), (104, -104)], 24)


def _curl_centers() -> list[tuple[float, float, float]]:
    random = np.random.default_rng(4)
    curls = []
    for radius, count in ((0.72, 20), (0.93, 26), (1.08, 30)):
        for angle in np.linspace(-np.pi * 1.12, np.pi * 0.12, count):
            x = 138 * radius * np.cos(angle) + random.normal(0, 4)
            y = -36 + 140 * radius * np.sin(angle) + random.normal(0, 4)
            curls.append((float(x), float(y), float(random.uniform(20, 29))))
    return curls


def _curl(
    canvas: Canvas, palette: Palette, x: float, y: float, radius: float, clip: Mask | None = None
) -> None:
    canvas.fill(ellipse(x, y, radius, radius), palette.hair, palette.hair_dark, clip=clip)
    for ring in (0.82, 0.56, 0.30):
        arc = np.linspace(np.pi * 0.9, np.pi * 1.9, 6)
        points = [(x + radius * ring * np.cos(a), y + radius * ring * np.sin(a)) for a in arc]
        canvas.fill(ribbon(points, [0.6, 2.2, 0.6]), palette.hair_light, blur=0.8, opacity=0.42, clip=clip)


def _paint_curl_cloud(canvas: Canvas, palette: Palette) -> None:
    canvas.fill(ellipse(0, -34, 140, 134), palette.hair_dark, palette.hair_dark)
    for x, y, radius in sorted(_curl_centers(), key=lambda curl: -(curl[0] ** 2 + curl[1] ** 2)):
        _curl(canvas, palette, x, y, radius)


def _curls(canvas: Canvas, palette: Palette, face: Mask) -> None:
    line = [(-104, -46, 21), (-92, -84, 23), (-66, -114, 24), (-34, -130, 24), (0, -136, 25), (34, -130, 24),
            (66, -114, 24), (92, -84, 23), (104, -46, 21), (-112, -8, 19), (112, -8, 19)]  # fmt: skip
    _cast_shadow(canvas, palette, [ellipse(x, y, r, r) for x, y, r in line], face)
    for x, y, radius in line:  # a second row behind, so that no skin shows between
        _curl(canvas, palette, x * 1.06, y * 1.14 - 4, radius)
    for x, y, radius in line:
        _curl(canvas, palette, x, y, radius)


def _crop(canvas: Canvas, palette: Palette, face: Mask) -> None:
    cap = smooth(
        [(-116, 8), (-124, -50), (-116, -116), (-78, -166), (-14, -184), (54, -178), (104, -142), (124, -84), (122, -30),
         (115, 8), (107, -26), (100, -64), (82, -96), (44, -104), (0, -110), (-46, -118), (-76, -106), (-98, -66),
         (-107, -26)]
    )  # fmt: skip
    _cast_shadow(canvas, palette, cap, face)
    canvas.fill(cap, palette.hair, palette.hair)
    area = canvas.mask(cap)
    _comb(
        canvas, palette, area,
        [(-66, -170), (-84, -140), (-74, -112), (-60, -108)],
        [(112, -136), (70, -176), (60, -130), (84, -92)], strands=30,
    )  # fmt: skip
    for side in (-1, 1):
        _comb(canvas, palette, area, [(side * 104, -100), (side * 106, -40), (side * 110, 6)],
              [(side * 122, -90), (side * 122, -40), (side * 117, 6)], strands=8)  # fmt: skip
    _shine(canvas, palette, area, [(-86, -138), (-30, -162), (44, -158)], 18)


def _quiff(canvas: Canvas, palette: Palette, face: Mask) -> None:
    sides = smooth(
        [(-115, 14), (-123, -48), (-114, -112), (-70, -150), (70, -150), (114, -112), (123, -48), (115, 14), (106, -24),
         (99, -66), (84, -98), (0, -120), (-84, -98), (-99, -66), (-106, -24)]
    )  # fmt: skip
    _cast_shadow(canvas, palette, sides, face)
    canvas.fill(sides, palette.hair_dark, palette.hair_dark, blur=1.2)
    top = smooth(
        [(-96, -92), (-116, -140), (-88, -192), (-20, -216), (58, -208), (108, -172), (116, -124), (96, -88), (60, -106),
         (10, -118), (-44, -114)]
    )  # fmt: skip
    _cast_shadow(canvas, palette, top, face)
    canvas.fill(top, palette.hair, palette.hair)
    area = canvas.mask(top)
    _comb(
        canvas, palette, area,
        [(-92, -94), (-100, -130), (-84, -180), (-50, -204)],
        [(92, -90), (84, -130), (104, -170), (92, -188)], strands=34,
    )  # fmt: skip
    _shine(canvas, palette, area, [(-76, -160), (-14, -190), (62, -182)], 24)


def _pixie(canvas: Canvas, palette: Palette, face: Mask) -> None:
    cap = smooth(
        [(-112, 34), (-128, -20), (-130, -84), (-106, -146), (-54, -182), (10, -190), (74, -174), (116, -130), (132, -70),
         (128, -14), (112, 34), (104, -6), (100, -44), (96, -74), (62, -70), (14, -84), (-40, -112), (-58, -118),
         (-84, -84), (-99, -44), (-104, -6)]
    )  # fmt: skip
    _cast_shadow(canvas, palette, cap, face)
    canvas.fill(cap, palette.hair, palette.hair)
    area = canvas.mask(cap)
    _comb(
        canvas, palette, area,
        [(-62, -166), (-48, -130), (10, -88), (80, -66)],
        [(20, -188), (84, -160), (118, -110), (118, -20)], strands=30,
    )  # fmt: skip
    _comb(canvas, palette, area, [(-66, -164), (-84, -110), (-104, -40), (-108, 26)],
          [(-80, -168), (-122, -120), (-128, -50), (-116, 26)], strands=14)  # fmt: skip
    _shine(canvas, palette, area, [(-34, -150), (34, -136), (92, -94)], 20)
    _shine(canvas, palette, area, [(-110, -110), (-118, -60), (-118, -20)], 12)


def _buzz(canvas: Canvas, palette: Palette, _face: Mask) -> None:
    cap = smooth(
        [(-113, 2), (-119, -50), (-112, -106), (-72, -152), (0, -168), (72, -152), (112, -106), (119, -50), (113, 2),
         (104, -40), (94, -76), (78, -98), (40, -110), (0, -112), (-40, -110), (-78, -98), (-94, -76), (-104, -40)]
    )  # fmt: skip
    canvas.fill(cap, palette.hair, palette.hair, blur=2.4, opacity=0.92)
    area = canvas.mask(cap)
    random = np.random.default_rng(2)
    for x, y in random.uniform((-116, -166), (116, 0), (420, 2)):
        canvas.fill(ellipse(x, y, 1.1, 1.1), palette.hair_light, opacity=0.22, clip=area)
    canvas.fill(ellipse(-34, -140, 52, 15, -10), palette.hair_light, blur=11, opacity=0.35, clip=area)


def _bun(canvas: Canvas, palette: Palette, face: Mask) -> None:
    cap = smooth(
        [(-110, 0), (-120, -52), (-112, -112), (-70, -162), (0, -180), (70, -162), (112, -112), (120, -52), (110, 0),
         (101, -36), (86, -78), (46, -112), (0, -122), (-46, -112), (-86, -78), (-101, -36)]
    )  # fmt: skip
    _cast_shadow(canvas, palette, cap, face)
    canvas.fill(cap, palette.hair, palette.hair)
    area = canvas.mask(cap)
    for side in (-1, 1):
        _comb(
            canvas, palette, area,
            [(side * 2, -130), (side * 3, -150), (side * 3, -180)],
            [(side * 106, -10), (side * 116, -84), (side * 44, -172)], strands=24,
        )  # fmt: skip
        wisp = ribbon([(side * 100, -50), (side * 111, -6), (side * 106, 44)], [2.5, 2.5, 0.6])
        canvas.fill(wisp, palette.hair)
    _shine(canvas, palette, area, [(-84, -116), (-36, -150), (20, -156)], 18)


def _bald(canvas: Canvas, palette: Palette, face: Mask) -> None:
    canvas.fill(ellipse(-30, -118, 44, 18, -14), (255, 255, 255), blur=10, opacity=0.30, clip=face)
    for side in (-1, 1):
        temple = smooth(
            [(side * 104, -60), (side * 112, -30), (side * 113, 4), (side * 102, -6), (side * 98, -40)]
        )
        canvas.fill(temple, palette.hair, blur=4, opacity=0.5, clip=face)


_Style = Callable[[Canvas, Palette, Mask], None]

_STYLES: dict[Hair, _Style] = {
    "long": _long, "waves": _waves, "bob": _bob, "curls": _curls, "crop": _crop, "quiff": _quiff, "pixie": _pixie,
    "buzz": _buzz, "bun": _bun, "bald": _bald,
}  # fmt: skip
_CROWNS: dict[Hair, Points] = {
    "long": [(0, -189), (58, -180), (108, -142), (136, -68), (140, 10), (140, 60), (108, 90), (0, 60)],
    "waves": [(0, -188), (76, -182), (124, -138), (144, -66), (138, 8), (140, 60), (108, 90), (0, 60)],
    "bob": [(0, -186), (64, -182), (114, -138), (138, -66), (145, 14), (140, 88), (96, 122), (0, 90)],
    "crop": [(0, -172), (70, -160), (112, -110), (120, -40), (110, 20), (0, 0)],
    "pixie": [(0, -180), (70, -170), (116, -120), (128, -40), (116, 40), (0, 0)],
}
_BEHIND: dict[Hair, Points] = {
    "long": [(0, -120), (110, -90), (142, 20), (146, 140), (160, 260), (150, 420), (0, 440)],
    "waves": [(0, -120), (110, -90), (142, 20), (146, 120), (164, 190), (140, 250), (0, 250)],
    "bob": [(0, -60), (110, -40), (140, 30), (134, 90), (104, 122), (0, 126)],
    "curls": [(0, -120), (120, -90), (160, -10), (150, 60), (110, 96), (0, 96)],
}
# Before the shoulders: inner and outer edge, from the neck down.
_STRANDS: dict[Hair, tuple[Points, Points]] = {
    "long": (
        [(102, 10), (104, 80), (100, 150), (92, 220), (88, 300), (98, 400)],
        [(141, 10), (147, 80), (151, 150), (160, 220), (162, 300), (138, 410)],
    ),
    "waves": (
        [(104, 10), (100, 64), (108, 120), (96, 170), (108, 214), (104, 250)],
        [(141, 10), (152, 70), (152, 110), (166, 164), (160, 214), (112, 256)],
    ),
}
