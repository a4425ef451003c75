"""Images in, batches out: numpy, Pillow and grain, never jax.

`image_files` reads and writes one image; `sources` gives random access to a data set; `transforms` crops and
turns; `pipeline` makes the training batches; `dead_leaves` paints images where no photograph is at hand.
`datasets` knows the published data sets, `layouts` pairs their files, `splits` sets validation images aside, `check`
looks for damage, `prepare` cuts crops that `crops` reads, `builders` are for TensorFlow Datasets.
Import the submodule that is needed: only `pipeline` imports grain, only `crops` array_record, only `builders` TFDS.
"""
