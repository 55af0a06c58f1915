"""What the engines of the original's layout share: series, chains of levels, and how they are read and written."""
