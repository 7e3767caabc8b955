"""What a run uses of its machine, alerts about it, and where both can be seen."""
