"""``freezer drill``."""
