"""The training side: Keras. Needs the extra `train`."""
