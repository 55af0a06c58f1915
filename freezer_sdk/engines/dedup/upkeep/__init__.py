"""Maintenance of a repository while writers are at work (repository-format, "Maintenance")."""
