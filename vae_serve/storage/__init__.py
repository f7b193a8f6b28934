"""Where results go: a Store, and giving a finished file or folder its name, whole or not at all."""
