"""Heads on cached hidden states: arrays and labels in; scores, predictions and layer rankings out.

Trainers know no audio, no Zarr and no upstream model; `pipeline` hands them arrays. A folder imports those before it:

    tasks < modules < spec < inputs < folds < models < training < evaluation < search < revisions

`tasks` is what is predicted, a file for each kind; `modules` are the parts of models, fusions among them; `spec` the
sections of params.yaml; `inputs` utterances, their statistics and batches; `folds` who trains and who is tested;
`models` what a paper calls its model; `training` makes one or many fit, `evaluation` scores them, `search` chooses;
`revisions` number all of these. `scale`, `section`, `setups` and `suggestion` are for everyone.
"""
