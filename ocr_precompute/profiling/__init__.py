"""What bounds a run: the verdict and its page, a build's evidence, and a trace to look at."""
