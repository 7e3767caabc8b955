"""Opening a store, and reading samples and batches."""
