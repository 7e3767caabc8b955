"""What benchmarks compare: formats and loaders, readers, layouts, codecs, ways to draw labels."""
