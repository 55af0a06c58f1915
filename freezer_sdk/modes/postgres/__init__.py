"""Mode ``postgres``: PostgreSQL servers, as data directories or as dumps."""
