"""The contract: what an exported model is, how it is checked when loaded, and how it is run."""
