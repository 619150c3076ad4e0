"""What several backends use: how they cut a grouped convolution, and windows as tables."""
