"""What several backends use: grouped convolution, tables and sums of windows, work per thread."""
