"""Hugging Face models. The one folder that imports transformers.

`speech` turns audio into the hidden states of its encoders, `text` texts into those of language models, `recogniser`
audio into texts. `settings` reads what a checkpoint says, `checkpoints` what it holds;
`group_norm`, `wavlm_attention` and `emotion` are the parts of the models that transformers does not have in the form
that is needed here; `miniature` writes random checkpoints for demo and tests.
"""

from strata.extractors.torch_setup import without_compiled_torchaudio

without_compiled_torchaudio()  # before any of them imports transformers, whose speech models import torchaudio
