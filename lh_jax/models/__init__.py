"""The networks: linen modules and pure functions, NHWC; they import `lh_jax.ops` and `lh_jax.models.layers` only."""
