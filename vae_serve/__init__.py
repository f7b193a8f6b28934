"""vae-serve takes a variational autoencoder from training to use. Importing the package imports nothing heavy."""

__version__ = "0.1.0"
