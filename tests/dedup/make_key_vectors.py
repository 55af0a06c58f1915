"""Writes the test vectors of the key sections into the format's document: ``python tests/dedup/make_key_vectors.py``.

To be run when the format changes on purpose; sealing is randomised, so every run gives other vectors. Those of
``make_data_vectors.py`` lie in the repository that is made here: run it afterwards.
"""

from __future__ import annotations

import json
import sys

from document import write_blocks

from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.crypto.kdf import Argon2Params, normalise_password
from freezer_sdk.engines.dedup import control
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.recovery_key import generate, phrase_of
from freezer_sdk.engines.dedup.slots import decode_slot
from freezer_sdk.storages.memory import MemoryStorage

PASSWORD = "Caf\u00e9 of\u00a0the corner"


def vectors() -> dict[str, dict[str, object]]:
    """All vectors, from one repository."""
    storage = MemoryStorage()
    keys = create_repository(
        storage, password=PASSWORD, kdf=Argon2Params(memory=1024, time=2, lanes=2), label="first slot"
    )
    objects = {info.name: storage.get(info.name) for info in storage.list() if not info.name.startswith("copies/")}
    slot = decode_slot(next(data for name, data in objects.items() if name.startswith("keys/")))
    root = slot.kdf.root(normalise_password(PASSWORD))
    epoch, run, recovery = keys.epochs[1], keys.new_run_key(), generate()
    ids = {"repository": keys.repository_id.hex(), "slot": keys.slot_id.hex()}
    mark, backup = "marks/" + "5a" * 16, "backups/20260102T030405.678Z-" + "5b" * 16
    mark_payload = {"generation": 7, "packs": ["11" * 32, "22" * 32], "created": "2026-01-02T03:04:05.678000+00:00"}
    backup_payload = {"version": 1, "note": "x" * 5000}
    return {
        "hash-keys": {
            "hash_key": epoch.hash_key.hex(),
            "data_hash_key": keys.data_hash_key().hex(),
            "meta_hash_key": keys.meta_hash_key().hex(),
            "blob": "hello",
            "data_id": blob_id(keys.data_hash_key(), b"hello").hex(),
            "meta_id": blob_id(keys.meta_hash_key(), b"hello").hex(),
        },
        "slot": {
            **ids,
            "password": PASSWORD,
            "password_bytes": normalise_password(PASSWORD).hex(),
            "salt": slot.kdf.salt.hex(),
            "memory": 1024,
            "time": 2,
            "lanes": 2,
            "root": root.hex(),
            "open_root": decode_slot(_open_slot()).kdf.root(b"").hex(),
            "kem_private": keys.secret.kem_private.hex(),
            "signing_private": keys.secret.signing.secret().hex(),
        },
        "recovery-key": {
            "text": recovery,
            "typed": recovery.replace("-", " ").replace("0", "o").lower(),
            "password_bytes": phrase_of(recovery).hex(),
        },
        "bundle": {
            **ids,
            "epoch": 1,
            "chunker_seed": f"{epoch.chunker_seed:016x}",
            "hash_key": epoch.hash_key.hex(),
            "index_key": epoch.index_key.hex(),
            "data_public": epoch.data_public.hex(),
            "data_private": (epoch.data_private or b"").hex(),
            "commitment": keys.config.epochs[0].commitment.hex(),
        },
        "run-key": {
            **ids,
            "epoch": 1,
            "data_private": (epoch.data_private or b"").hex(),
            "sealed": run.sealed.hex(),
            "run_key": run.key.hex(),
        },
        "repository": {"password": PASSWORD, "objects": {name: data.decode() for name, data in objects.items()}},
        "control-index": {
            "kind": "mark",
            "name": mark,
            "payload": mark_payload,
            "stored": control.seal(keys, "mark", mark, mark_payload, secrecy="index").hex(),
        },
        "control-data": {
            "kind": "backup",
            "name": backup,
            "payload_length": len(json.dumps(backup_payload, separators=(",", ":"))),
            "stored": control.seal(keys, "backup", backup, backup_payload, secrecy="data").hex(),
        },
    }


def _open_slot() -> bytes:
    storage = MemoryStorage()
    create_repository(storage, password=None)
    return storage.get(next(info.name for info in storage.list("keys/")))


def main() -> int:
    """Rewrites the blocks in place."""
    write_blocks(vectors())
    return 0


if __name__ == "__main__":
    sys.exit(main())
