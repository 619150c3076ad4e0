"""A page and an interface for other programs, on which a trained network answers."""
