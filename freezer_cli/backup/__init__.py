"""``freezer backup``: make, choose, look into, restore, verify and forget backups."""
