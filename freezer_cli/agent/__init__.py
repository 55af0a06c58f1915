"""``freezer-agent`` and ``freezerc``: the command lines and INI files of the original Freezer."""
