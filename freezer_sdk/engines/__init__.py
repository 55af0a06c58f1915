"""Engines: how backups lie in a storage."""
