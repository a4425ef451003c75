"""The body of the authors' earlier VAE."""
