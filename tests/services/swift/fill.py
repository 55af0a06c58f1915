"""fill.py ETC DISK ACCOUNT CONTAINER COUNT: lists COUNT objects ``many/NNNNN`` in a container that is there.

They are written into the container's database, as the object servers' updates are, and exist nowhere else: storing ten
thousand of them takes more than a minute.
"""

import sys

from swift.common import utils

etc, disk, account, container, count = sys.argv[1:]
utils.set_swift_dir(etc)  # before Swift's other modules are imported

from swift.common.ring import Ring  # noqa: E402
from swift.common.utils import Timestamp, hash_path, storage_directory  # noqa: E402
from swift.container.backend import ContainerBroker  # noqa: E402

partition = Ring(etc, ring_name="container").get_part(account, container)
digest = hash_path(account, container)
folder = f"{disk}/{storage_directory('containers', partition, digest)}"
broker = ContainerBroker(f"{folder}/{digest}.db", account=account, container=container)
now = Timestamp.now().internal
row = {"created_at": now, "size": 7, "content_type": "text/plain", "etag": "0" * 32, "deleted": 0}
row["storage_policy_index"] = broker.storage_policy_index
broker.merge_items([{**row, "name": f"many/{number:05}"} for number in range(int(count))])
