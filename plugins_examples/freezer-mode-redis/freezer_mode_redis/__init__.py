"""Redis as a mode of Freezer SDK."""
