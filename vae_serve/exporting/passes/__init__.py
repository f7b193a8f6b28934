"""Rewrites of a network, exact in what they compute."""
