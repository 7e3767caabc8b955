"""What a store holds, how fast it is, what it looks like."""
