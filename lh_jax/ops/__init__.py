"""Array maths without parameters: pure functions of JAX or NumPy arrays that import nothing else of lh_jax."""
