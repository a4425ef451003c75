"""Images in, batches out: numpy, Pillow and grain, never jax.

`image_files` reads and writes one image; `sources` gives random access to a data set; `transforms` crops and
turns; `pipeline` makes the training batches; `dead_leaves` paints images where no photograph is at hand.
Import the submodule that is needed: only `pipeline` imports grain.
"""
