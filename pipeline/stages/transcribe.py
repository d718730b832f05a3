"""`strata transcribe NAME…`: manifest → data/transcripts.parquet, the texts that recognisers have not heard yet.

What is there by the same model and setting is kept (`transcripts`), the rest is decoded ahead of the model and
transcribed, the longest first. Whatever stops the run, the next one goes on behind the last portion that was written:
the table is its own journal, for it is small and written whole.
"""

import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from strata import extractors
from strata.extractors.contract import SAMPLING_RATE, UnusableAudio
from strata.extractors.sources import local_only
from strata.pipeline.errors import StageError, for_each
from strata.pipeline.extraction.decoding import Recording, decoded, divided
from strata.pipeline.files import failure_table, write_if_changed
from strata.pipeline.progress import amount, bar, say, speed
from strata.pipeline.study import dvcfile, fingerprints, options
from strata.pipeline.study.failures import Failure, Failures, judge
from strata.pipeline.study.folder import Study
from strata.pipeline.study.manifest import channels, corpus_of, make_absent_audio
from strata.pipeline.study.transcripts import Transcripts, as_json, doubt, memory
from strata.store.lock import exclusive

if TYPE_CHECKING:
    from strata.extractors.transformers.recogniser import Recogniser

PATIENCE = 20
"""The table is written anew when so many times as long has passed as writing it took …"""
MOST_S = 60.0
"""… and after so many seconds at the latest, however long that takes: what a kill costs."""


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes: see `strata.pipeline.cli`."""
    options.add_stage(parser, run, "NAME", "strata transcribe asr")


def run(study: Study, names: list[str]) -> None:
    """Brings the texts of the named recognisers (all where none is named) up to date.

    Raises:
        StageError: no manifest, a table that DVC knows but that is not here, or a larger share of failures than
            `extract.max_failed`; everything that could be transcribed has been written by then.
    """
    chosen = study.chosen("transcribe", names)
    with exclusive(study.transcripts):
        if not chosen:
            Transcripts.read(study.transcripts).write()
            write_if_changed(study.transcribe_failures, failure_table([], extra=("content", "model", "recogniser")))
            say("transcribe: params.yaml names no recogniser, nothing to do")
            return
        if dvcfile.is_elsewhere(study, "transcribe", study.transcripts):
            raise StageError(
                f"{study.transcripts} is listed in dvc.lock but is not here: run `dvc pull transcribe` first "
                "(`dvc push` where it was made, if that has not got it)"
            )
        utterances = study.read_manifest(check=False).drop_duplicates("content")
        utterances["channel"] = channels(study, utterances)
        transcripts = Transcripts.read(study.transcripts)
        for_each(chosen, lambda name: _transcribe(study, name, utterances, transcripts), "recogniser")


def _transcribe(study: Study, name: str, utterances: pd.DataFrame, transcripts: Transcripts) -> None:
    section, how = study.params.transcribe[name], study.params.extract

    @cache
    def recogniser() -> "Recogniser":
        return extractors.load_recogniser(section, device=how.device, batch_s=how.batch_s, folder=study.folder)

    text = as_json(section)

    def look() -> Mapping[str, object]:
        return fingerprints.remembered(study.folder, memory(name), text, lambda: fingerprints.seen(recogniser(), text))

    if section.corpora:
        utterances = utterances[corpus_of(utterances).isin(section.corpora)]
    fingerprint = _fingerprint(study, name, set(utterances["content"]), transcripts, look)
    if forgotten := transcripts.begin(name, section, fingerprint):
        say(f"{name}: another model or setting than before; its {forgotten} texts are made anew")
    contents = set(utterances["content"])
    failures = Failures.read(study.transcribe_failures, fingerprint, contents, {"recogniser": name})
    failures.others = [row for row in failures.others if row["recogniser"] in study.params.transcribe]
    missing = contents - transcripts.texts[name].keys() - failures.rows.keys()
    todo = utterances[utterances["content"].isin(missing)]
    if len(todo):
        _fill(study, name, recogniser(), todo, len(utterances), transcripts, failures)
    else:
        say(f"{name}: up to date ({len(contents) - len(failures.rows)} of {len(contents)} utterances)")
        transcripts.write()
    _note_doubts(name, utterances, transcripts.texts[name], failures)
    failures.write()
    judge(failures, name, len(utterances), how.max_failed)


def _fingerprint(
    study: Study, name: str, contents: set[str], transcripts: Transcripts, look: Callable[[], Mapping[str, object]]
) -> Mapping[str, object]:
    """That of the recogniser; of texts made elsewhere, of which none is missing, without its model if need be.

    Raises:
        ViewError: the recogniser cannot be loaded, and something is to be transcribed.
    """
    made = transcripts.made_from(name, study.params.transcribe[name])
    if made is None:
        return look()
    failures = Failures.read(study.transcribe_failures, made, contents, {"recogniser": name})
    if contents - transcripts.texts[name].keys() - failures.rows.keys():
        return look()
    try:
        with local_only():
            return look()
    except extractors.CheckpointAbsent:
        say(f"{name}: its model is not on this machine; the texts are taken for those that their table names")
        return made


def _note_doubts(name: str, utterances: pd.DataFrame, texts: Mapping[str, str], failures: Failures) -> None:
    """Lists the texts that are not to be trusted: they are kept, and text views may leave them out."""
    for row in utterances.itertuples():
        reason = doubt(texts.get(row.content, ""), row.duration_s)
        if reason is not None:
            failures.note(row.utterance, row.audio, row.content, reason)
    if failures.notes:
        say(
            f"{name}: {len(failures.notes)} of {len(utterances)} texts loop, or are too long for their recording; "
            f"{failures.path} lists them, and `without_loops: true` in a text view leaves them out"
        )


def _fill(
    study: Study,
    name: str,
    recogniser: "Recogniser",
    todo: pd.DataFrame,
    total: int,
    transcripts: Transcripts,
    failures: Failures,
) -> None:
    """Transcribes what is to do and writes it, now and then and at the end."""
    audio_s = float(todo["duration_s"].sum())
    say(f"{name}: {len(todo)} new of {total} utterances, {amount(audio_s)}")
    make_absent_audio(study, todo)
    texts, names = transcripts.texts[name], todo.set_index("content")[["utterance", "audio"]]
    longest_first = todo.sort_values(["duration_s", "content"], ascending=False)
    recordings = [
        Recording(r.content, r.audio, r.start_s, r.duration_s, channel=r.channel) for r in longest_first.itertuples()
    ]
    started = written = time.monotonic()
    before, took = len(texts), 0.0
    try:
        with bar(audio_s / 3600, "h audio", name) as progress:
            portions = divided(recordings, _portion_s(recogniser), recogniser.least_s)
            for portion, waveforms in decoded(study.folder, portions, recogniser.unusable):
                usable = [waveform for waveform in waveforms if not isinstance(waveform, Failure)]
                heard = iter(_heard(recogniser, usable))
                for recording, waveform in zip(portion, waveforms, strict=True):
                    outcome = waveform if isinstance(waveform, Failure) else next(heard)
                    if isinstance(outcome, Failure):
                        failures.add(*names.loc[recording.content], recording.content, outcome)
                    else:
                        texts[recording.content] = outcome
                progress.update(sum(recording.duration_s for recording in portion) / 3600)
                if time.monotonic() - written >= min(MOST_S, PATIENCE * took):
                    begun = time.monotonic()
                    transcripts.write()
                    written = time.monotonic()
                    took = written - begun
    except KeyboardInterrupt:
        say(f"{name}: {len(texts) - before} of {len(todo)} texts are kept")
        raise
    finally:
        transcripts.write()
        failures.write()
    seconds = time.monotonic() - started
    say(f"{name}: transcribed {len(texts) - before} in {seconds:.1f} s ({speed(audio_s, seconds)})")


def _portion_s(recogniser: "Recogniser") -> float:
    """Seconds of audio that are transcribed, and kept, together: what takes less than a minute. Loads the weights."""
    return recogniser.batch_s * (1 if recogniser.device == "cpu" else 4)


def _heard(recogniser: "Recogniser", waveforms: Sequence[np.ndarray]) -> list[str | Failure]:
    """Texts of waveforms at 16 kHz; for one that turns out too large, the reason. Those beside it are heard all the
    same: they are divided in two until it is alone."""
    try:
        return list(recogniser.transcribe(waveforms, SAMPLING_RATE))
    except UnusableAudio as error:
        if len(waveforms) == 1:
            return [Failure(str(error))]  # not lasting: another machine may have the memory
    # Behind the exception, which keeps alive what it ran out of memory with.
    middle = len(waveforms) // 2
    return _heard(recogniser, waveforms[:middle]) + _heard(recogniser, waveforms[middle:])
