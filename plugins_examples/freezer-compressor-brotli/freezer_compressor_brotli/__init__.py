"""Brotli compression for Freezer SDK."""
