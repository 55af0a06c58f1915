"""One SQLite file as a storage of Freezer SDK."""
