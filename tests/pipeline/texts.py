"""What a recogniser may say: texts that loop, and texts that people speak."""

LOOPS = ("F-" * 400, "thank you for watching " * 12, "no, no, no, " * 20, "हाँ " * 90)
SPEECH = (
    "The little brown dog sat quietly beside the old stone wall and watched the children play in the evening sun.",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
    "yes yes yes",
    "",
)
