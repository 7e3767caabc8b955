"""Verifying a store byte for byte, and repairing it."""
