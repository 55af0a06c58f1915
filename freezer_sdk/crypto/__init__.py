"""The only place that imports a cipher."""
