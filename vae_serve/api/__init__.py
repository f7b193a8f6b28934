"""The Python API, a module for each function. `vae_serve` itself offers the names, and loads them when first used.

What a function is given is checked here, and what it returns is a record with types. The command line calls these
functions and nothing below them.
"""
