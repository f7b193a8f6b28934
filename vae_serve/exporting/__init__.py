"""A run becomes a bundle, through the gate. Needs the extra `train`."""
