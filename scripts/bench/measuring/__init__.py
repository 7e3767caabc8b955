"""What benchmarks share: results and their tables, sample data, turns, processes of their own."""
