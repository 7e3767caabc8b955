"""Building a split: scan, plan, encode, publish. Start with `build`."""
