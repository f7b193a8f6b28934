"""`python -m vae_serve` is `vae-serve`."""

from vae_serve.cli import main

if __name__ == "__main__":
    main()
