"""Decisions as pure functions: they read no clock, no environment and no storage."""
