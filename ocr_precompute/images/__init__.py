"""Image files: pixels out of bytes, and what is wrong with them."""
