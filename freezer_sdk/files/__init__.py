"""Local file trees: scanning, metadata, patterns, safe restore. Public to plug-in authors."""
