"""The sounds and the words of the synthetic corpus: data for `synthesiser.py`.

Vowels are the averages over adult male speakers; the remaining targets and durations are rounded from Klatt's tables.
The symbols are ARPAbet's.

Sources: Peterson & Barney, "Control methods used in a study of the vowels", JASA 24 (1952), table II.
Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67 (1980), tables II and III.
"""

from typing import NamedTuple


class Phone(NamedTuple):
    """One position of the vocal tract."""

    formants_hz: tuple[float, float, float]
    """F1, F2 and F3 of an adult male."""
    duration_s: float
    """At a tempo of 1."""
    voicing: float = 1.0
    """Amplitude of the glottal pulses."""
    frication: float = 0.0
    """Amplitude of the noise made at a constriction."""
    noise_hz: float = 4000.0
    """Centre of that noise."""


_VOWELS = {
    "iy": (270, 2290, 3010), "ih": (390, 1990, 2550), "eh": (530, 1840, 2480), "ae": (660, 1720, 2410),
    "aa": (730, 1090, 2440), "ao": (570, 840, 2410), "uh": (440, 1020, 2240), "uw": (300, 870, 2240),
    "ah": (640, 1190, 2390), "er": (490, 1350, 1690),
}  # fmt: skip

_CONSONANTS = {
    "m": Phone((250, 1100, 2130), 0.07, 0.5),
    "n": Phone((250, 1600, 2600), 0.07, 0.5),
    "l": Phone((330, 1050, 2880), 0.07, 0.7),
    "r": Phone((330, 1060, 1380), 0.07, 0.7),
    "w": Phone((290, 610, 2150), 0.07, 0.7),
    "y": Phone((260, 2070, 3020), 0.06, 0.7),
    "s": Phone((320, 1390, 2530), 0.11, 0.0, 0.25, 6000),
    "sh": Phone((300, 1840, 2750), 0.11, 0.0, 0.3, 3200),
    "z": Phone((240, 1390, 2530), 0.08, 0.4, 0.15, 6000),
    "f": Phone((340, 1100, 2080), 0.10, 0.0, 0.08, 5000),
    "v": Phone((220, 1100, 2080), 0.06, 0.5, 0.04, 5000),
    "th": Phone((320, 1290, 2540), 0.10, 0.0, 0.06, 6500),
    "dh": Phone((270, 1290, 2540), 0.05, 0.5, 0.03, 6500),
    "hh": Phone((500, 1400, 2400), 0.06, 0.0, 0.08, 1500),
}

# A stop is a closure and then a burst.
_STOPS = {
    "p": (Phone((400, 1100, 2150), 0.06, 0.0), Phone((400, 1100, 2150), 0.03, 0.0, 0.15, 1000)),
    "t": (Phone((400, 1600, 2600), 0.06, 0.0), Phone((400, 1600, 2600), 0.04, 0.0, 0.3, 4800)),
    "k": (Phone((300, 1990, 2850), 0.06, 0.0), Phone((300, 1990, 2850), 0.04, 0.0, 0.25, 2000)),
    "b": (Phone((200, 1100, 2150), 0.05, 0.2), Phone((200, 1100, 2150), 0.01, 0.4, 0.1, 1000)),
    "d": (Phone((200, 1600, 2600), 0.05, 0.2), Phone((200, 1600, 2600), 0.015, 0.4, 0.15, 4800)),
    "g": (Phone((200, 1990, 2850), 0.05, 0.2), Phone((200, 1990, 2850), 0.02, 0.4, 0.15, 2000)),
}

PHONES: dict[str, tuple[Phone, ...]] = {
    **{symbol: (Phone(formants, 0.11),) for symbol, formants in _VOWELS.items()},
    **{symbol: (phone,) for symbol, phone in _CONSONANTS.items()},
    **_STOPS,
}
"""The targets of each sound, in order."""

KEYWORDS: dict[str, tuple[str, ...]] = {
    "yes": ("y", "eh", "s"),
    "no": ("n", "ao", "uw"),
    "stop": ("s", "t", "aa", "p"),
    "go": ("g", "ao", "uw"),
    "left": ("l", "eh", "f", "t"),
    "right": ("r", "aa", "iy", "t"),
    "seven": ("s", "eh", "v", "ah", "n"),
    "three": ("th", "r", "iy"),
}
"""How to say the words of which each utterance holds exactly one."""

CARRIERS: dict[str, tuple[str, ...]] = {
    "please": ("p", "l", "iy", "z"),
    "the": ("dh", "ah"),
    "more": ("m", "ao", "r"),
    "again": ("ah", "g", "eh", "n"),
    "now": ("n", "aa", "uw"),
    "she": ("sh", "iy"),
    "had": ("hh", "ae", "d"),
    "work": ("w", "er", "k"),
    "you": ("y", "uw"),
    "book": ("b", "uh", "k"),
    "him": ("hh", "ih", "m"),
}
"""How to say the words around it."""
