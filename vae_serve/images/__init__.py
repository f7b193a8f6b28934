"""How picture files become the model's input, for training and serving alike."""
