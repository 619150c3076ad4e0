"""A run on disk: its folder, its settings and data, how it is trained, evaluated and drawn."""
