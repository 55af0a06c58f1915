"""Modes: what is protected, and when it is consistent."""
