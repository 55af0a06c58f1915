"""The ``freezer`` command: OpenStackClient habits on top of the public names of ``freezer_sdk``."""
