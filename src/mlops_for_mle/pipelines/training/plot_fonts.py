"""Which names can be drawn with the fonts that this machine has."""

from collections.abc import Sequence
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

_DEFAULT = "DejaVu Sans"
# Usual fonts with Hangul and other scripts of East Asia, on Linux, macOS and Windows.
_OTHERS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Malgun Gothic",
    "UnDotum",
)


def families() -> list[str]:
    """The fonts to draw with, those for other scripts after the usual one."""
    present = {one.name for one in font_manager.fontManager.ttflist}
    return [_DEFAULT, *(name for name in _OTHERS if name in present)]


def drawable(names: Sequence[str], fallback: str) -> list[str]:
    """Names as they can be drawn: themselves, or the fallback with their place behind it."""
    known = frozenset().union(*map(_characters, families()))
    return [
        name if known.issuperset(map(ord, name)) else f"{fallback} {place}"
        for place, name in enumerate(names)
    ]


@lru_cache
def _characters(family: str) -> frozenset[int]:
    return frozenset(FT2Font(font_manager.findfont(family)).get_charmap())
