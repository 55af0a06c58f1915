"""Mode ``mongo``: MongoDB servers, as data directories or as dumps."""
