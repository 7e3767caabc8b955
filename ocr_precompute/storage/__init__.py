"""Where it lies: the store's folders, its lock, what is deleted."""
