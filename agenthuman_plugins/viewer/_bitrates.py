"""How many bits a browser's picture gets."""

from aiortc.codecs import vpx


def set_bitrates() -> None:
    """Let aiortc send a picture that looks good; holds for the whole process.

    It starts at 0.5 Mbit/s, at which a soft background falls into blocks.
    """
    vpx.DEFAULT_BITRATE = 2_000_000
    vpx.MIN_BITRATE = 1_000_000
    vpx.MAX_BITRATE = 3_000_000
