"""Clones of files and folders as snapshots of Freezer SDK."""
