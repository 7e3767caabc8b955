"""What lies on disk: keys, chunks, a shard's files, the manifest."""
