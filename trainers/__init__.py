"""Heads on cached hidden states: arrays and labels in; scores, predictions and layer rankings out.

Trainers know no audio, no Zarr and no upstream model; `pipeline` hands them arrays.
"""
