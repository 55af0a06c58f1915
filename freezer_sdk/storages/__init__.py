"""Storages: where objects lie."""
