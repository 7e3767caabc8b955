"""The training side: what reads a compiled store into a training loop lives in this package."""
