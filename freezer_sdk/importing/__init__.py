"""Backups of another engine turned into backups of this one."""
