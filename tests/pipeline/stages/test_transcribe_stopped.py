"""A transcription that is stopped keeps its texts, but those of a minute."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import ClassVar

import pandas as pd
import pytest

from strata.pipeline.extraction.decoding import Recording
from strata.pipeline.stages import transcribe
from strata.pipeline.study.transcripts import Transcripts


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_keeps_its_texts_and_the_next_makes_the_others(study, kind):
    """Ctrl-C and SIGKILL: nothing is transcribed twice, and the table is that of a run that was not stopped."""
    study.rows = study.rows[:5]
    study.params["transcribe"] = {"asr": {"source": "miniature:whisper", "max_new_tokens": 4}}
    study.params["extract"] = {"batch_s": 60}  # two recordings, however short
    study.write_params().add(0).succeeds("corpus")
    study.succeeds("transcribe")
    path = study.folder / "data/transcripts.parquet"
    quiet = path.read_bytes()
    path.unlink()
    script = f"from {__name__} import stopped; stopped(3, {int(kind)})"
    command = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, cwd=study.folder, env=environment, capture_output=True, text=True)
    assert run.returncode == (-kind if kind == signal.SIGKILL else 130), run.stderr
    assert len(Transcripts.read(path).texts["asr"]) == 4
    if kind == signal.SIGINT:
        assert "asr: 4 of 5 texts are kept\nstrata: interrupted; " in run.stderr
    assert "asr: 1 new of 5 utterances" in study.succeeds("transcribe")
    assert path.read_bytes() == quiet


def test_a_table_that_is_written_slowly_is_written_every_minute_all_the_same(tmp_path, monkeypatch):
    """Twenty times as long as writing takes would be more than three minutes here, all of them lost to a kill."""
    clock, written = [0.0], []

    class Table:
        """Takes ten seconds to write."""

        texts: ClassVar = {"asr": {}}

        def write(self):
            clock[0] += 10
            written.append(len(self.texts["asr"]))

    def portions(*_):
        """One recording in half a minute."""
        for recording in recordings:
            clock[0] += 30
            yield [recording], [None]

    names = [{"content": str(i), "utterance": str(i), "audio": "a.wav", "start_s": 0.0} for i in range(6)]
    todo = pd.DataFrame(names).assign(duration_s=1.0, channel=None)
    recordings = [Recording(row["content"], "a.wav", 0.0, 1.0) for row in names]
    monkeypatch.setattr(transcribe, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(transcribe, "divided", lambda *_: [])
    monkeypatch.setattr(transcribe, "decoded", portions)
    monkeypatch.setattr(transcribe, "make_absent_audio", lambda *_: None)
    recogniser = SimpleNamespace(
        batch_s=1.0, device="cpu", least_s=0.0, unusable=None, transcribe=lambda heard, _: ["a text"] * len(heard)
    )
    failures = SimpleNamespace(write=lambda: None)
    transcribe._fill(SimpleNamespace(folder=tmp_path), "asr", recogniser, todo, 6, Table(), failures)
    assert written == [1, 3, 5, 6]


def stopped(at: int, kind: int) -> None:
    """Transcribes in this process, and ends it as a user would when the model is asked for the `at`-th time."""
    from strata.extractors.transformers.recogniser import Recogniser
    from strata.pipeline import cli

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a background job
    calls, transcribe = [], Recogniser.transcribe

    def stopping(self, *arguments):
        calls.append(arguments)
        if len(calls) == at:
            os.kill(os.getpid(), kind)
        return transcribe(self, *arguments)

    Recogniser.transcribe = stopping
    raise SystemExit(cli.main(["transcribe"]))
