"""Where pictures come from and how they become numbers, for training and serving alike."""
