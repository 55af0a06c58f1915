"""Freezer SDK: backup, restore and disaster recovery as a library.

::

    from freezer_sdk import Freezer

    with Freezer("local:/srv/backups", password="...", create=True) as freezer:
        backup = freezer.backup("/etc", name="etc")
        freezer.restore(backup.id, "/tmp/out", paths=["ssh"])
"""
