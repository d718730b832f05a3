"""What every test shares: checked shapes and a quiet machine."""

import os

os.environ.setdefault("POT_BACKEND_DISABLE_TENSORFLOW", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models here are too small to share, and cores may be busy

from jaxtyping import install_import_hook

# Axis names in signatures are checked against the arrays that really pass, in every test run.
install_import_hook(["trainers", "store"], "beartype.beartype")
