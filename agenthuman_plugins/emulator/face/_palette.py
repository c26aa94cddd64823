"""The colours of a look, lit and shaded."""

from agenthuman_plugins.emulator.face._canvas import Color, color, mix, shade
from agenthuman_plugins.emulator.face._look import Look

BLACK: Color = (0.0, 0.0, 0.0)
WHITE: Color = (255.0, 255.0, 255.0)


class Palette:
    """The colours of a look, lit and shaded."""

    def __init__(self, look: Look) -> None:
        self.skin = color(look.skin)
        # Shadows of skin are redder, not just darker.
        self.skin_shade = mix(shade(self.skin, 0.76), (70, 60, 150), 0.14)
        self.skin_deep = mix(shade(self.skin, 0.55), (50, 40, 110), 0.18)
        self.skin_light = shade(self.skin, 1.22)
        self.blush = mix(self.skin, shade((105, 100, 240), 0.35 + 0.6 * self.skin[2] / 255), 0.45)
        self.hair = color(look.hair_color)
        self.hair_dark = shade(self.hair, 0.66)
        self.hair_light = mix(shade(self.hair, 1.12), (150, 180, 220), 0.16)
        self.lips = color(look.lips)
        self.eyes = color(look.eyes)
        self.cloth = color(look.cloth_color)
        self.cloth_dark = shade(self.cloth, 0.72)
        self.cloth_light = shade(self.cloth, 1.14)
