"""Engine ``rsync``: the original's rsyncv2 streams, written and read, and its older rsync streams, read."""
