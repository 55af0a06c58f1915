"""Snapshot providers."""
