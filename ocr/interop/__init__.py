"""A store as a dataset of other stacks: docs/interop.md shows each at work."""
