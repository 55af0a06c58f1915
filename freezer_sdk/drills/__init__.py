"""Restore drills: a backup is restored into scratch space and checked, and a record of it stays in the repository."""
