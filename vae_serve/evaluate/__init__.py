"""Figures of merit and plots, of any pair of functions encode and decode."""
