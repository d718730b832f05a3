"""What is asked of whoever computes the blocks holds where they compute."""

from concurrent.futures import ThreadPoolExecutor

from strata.extractors import sources
from strata.pipeline.extraction import work
from strata.pipeline.extraction.threads import Threads
from strata.pipeline.extraction.work import Extraction


class Elsewhere(Threads):
    """Answers where nothing of the caller's is known, as Dask's workers do."""

    def ask(self, question):
        """In a thread of its own."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(question, self.extraction).result()


def test_nobody_fetches_a_model_to_tell_a_fingerprint_of_what_is_here(tmp_path, monkeypatch):
    """Not on a worker either; where something is to be computed it is fetched."""
    monkeypatch.setattr(work, "look", lambda _: {"fingerprint": {"may ask the hub": sources._MAY_ASK.get()}})
    with Elsewhere(Extraction(str(tmp_path), "", "{}", "cpu", None, None)) as runner:
        assert runner.fingerprint("wavlm", local=True) == {"may ask the hub": False}
        assert runner.fingerprint("wavlm") == {"may ask the hub": True}
