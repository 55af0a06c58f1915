"""The vectors of the format's document: by our code, and by a second reader that was written from the document."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from dedup.document import read_vectors

from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.crypto.kdf import normalise_password
from freezer_sdk.engines.dedup import control
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.keyring import OWNER, Role
from freezer_sdk.engines.dedup.recovery_key import phrase_of
from freezer_sdk.storages.memory import MemoryStorage

VECTORS = read_vectors()


@pytest.fixture(scope="module")
def ring():
    storage = MemoryStorage()
    for name, text in VECTORS["repository"]["objects"].items():
        storage.put(name, [text.encode()])
    return open_repository(storage, lambda: VECTORS["repository"]["password"])


def test_the_repository_opens(ring):
    slot, bundle = VECTORS["slot"], VECTORS["bundle"]
    assert ring.repository_id.hex() == slot["repository"]
    assert ring.slot_id.hex() == slot["slot"]
    assert ring.roles == OWNER
    assert ring.secret.kem_private.hex() == slot["kem_private"]
    assert ring.secret.signing.secret().hex() == slot["signing_private"]
    assert ring.chunker_seed == int(bundle["chunker_seed"], 16)
    assert ring.index_key(1).hex() == bundle["index_key"]
    assert normalise_password(slot["password"]).hex() == slot["password_bytes"]


def test_recovery_keys():
    vector = VECTORS["recovery-key"]
    assert vector["text"] != vector["typed"]
    for text in (vector["text"], vector["typed"]):
        assert phrase_of(text).hex() == vector["password_bytes"]
    assert second_password(vector["typed"]).hex() == vector["password_bytes"]
    assert second_password("no recovery key") == b"no recovery key"


def second_password(text):
    """As the document says it."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    typed = "".join(text.split()).replace("-", "").upper().replace("O", "0").replace("I", "1").replace("L", "1")
    if len(typed) == 48 and set(typed) <= set(alphabet):
        for line in range(4):
            data, check = typed[12 * line : 12 * line + 8], typed[12 * line + 8 : 12 * line + 12]
            digest = hashlib.sha256(b"freezer-sdk/1/recovery-key\0" + bytes([line]) + data.encode()).digest()
            bits = f"{int.from_bytes(digest, 'big'):0256b}"
            if check != "".join(alphabet[int(bits[at : at + 5], 2)] for at in range(0, 20, 5)):
                break
        else:
            return typed.encode()
    return text.encode()


def test_names_of_blobs(ring):
    vector = VECTORS["hash-keys"]
    blob = vector["blob"].encode()
    assert ring.data_hash_key().hex() == vector["data_hash_key"]
    assert ring.meta_hash_key().hex() == vector["meta_hash_key"]
    assert blob_id(ring.data_hash_key(), blob).hex() == vector["data_id"]
    assert blob_id(ring.meta_hash_key(), blob).hex() == vector["meta_id"]


def test_run_keys(ring):
    vector = VECTORS["run-key"]
    assert ring.open_run_key(vector["epoch"], bytes.fromhex(vector["sealed"])).hex() == vector["run_key"]


def test_control_objects(ring):
    index, data = VECTORS["control-index"], VECTORS["control-data"]
    opened = control.open(ring, index["kind"], index["name"], bytes.fromhex(index["stored"]), role=Role.MAINTAINER)
    assert opened == (index["payload"], ring.slot_id)
    opened = control.open(ring, data["kind"], data["name"], bytes.fromhex(data["stored"]), role=Role.WRITER)
    assert len(json.dumps(opened.payload, separators=(",", ":"))) == data["payload_length"]


class SecondReader:
    """Nothing of ours but the document."""

    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

    def __init__(self, objects, password_bytes):
        self.config_lines = objects["config/00000001"].encode().split(b"\n")
        self.config, self.tail = (json.loads(line) for line in self.config_lines[:2])
        name, text = next((name, text) for name, text in objects.items() if name.startswith("keys/"))
        assert name == "keys/" + hashlib.sha256(text.encode()).hexdigest()
        self.slot = json.loads(text)
        self.repository, self.slot_id = (bytes.fromhex(self.slot[field]) for field in ("repository", "slot"))
        kdf = self.slot["kdf"]
        salt = bytes.fromhex(kdf["salt"])
        self.root = Argon2id(
            salt=salt, length=32, iterations=kdf["time"], lanes=kdf["lanes"], memory_cost=kdf["memory"]
        ).derive(password_bytes)
        binding = b"freezer-sdk/1/slot\0" + self.repository + self.slot_id
        wrapped = base64.b64decode(self.slot["wrapped"])
        self.secrets = json.loads(self.open(self.hkdf(self.root, salt, binding), wrapped, binding))
        self.bundle = self.open_bundle()

    @staticmethod
    def hkdf(key, salt, info):
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)

    @staticmethod
    def open(key, sealed, aad):
        return AESGCM(key).decrypt(bytes(12), sealed, aad)

    def verify(self, public, context, payload, signature):
        head = b"freezer-sdk/1/signature\0" + self.repository + self.slot_id
        message = head + struct.pack("<I", len(context)) + context + payload
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, message)

    def check_config(self):
        (trusted,) = self.secrets["trust"]
        assert trusted["slot"] == self.tail["signer"]
        signature = bytes.fromhex(self.tail["signature"])
        self.verify(trusted["signing_public"], b"config\0", self.config_lines[0], signature)
        assert self.config_lines[2:] == [b""]
        assert base64.b64decode(self.slot["config"]) == b"\n".join(self.config_lines)

    def open_bundle(self):
        (bundle,) = self.slot["bundles"]
        assert bundle["suite"] == [0x0020, 0x0001, 0x0002]
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(self.secrets["kem_private"]))
        info = b"freezer-sdk/1/bundle\0" + self.repository + self.slot_id + struct.pack("<I", 1)
        return json.loads(self.suite.decrypt(base64.b64decode(bundle["sealed"]), private, info))

    def commitment(self):
        keys = b"".join(bytes.fromhex(self.bundle[name]) for name in ("hash_key", "index_key", "data_public"))
        material = self.repository + struct.pack("<IQ", 1, int(self.bundle["chunker_seed"], 16)) + keys
        return blake3(material, derive_key_context="freezer-sdk/1/epoch-commitment").hexdigest()

    def run_key(self, sealed):
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(self.bundle["data_private"]))
        info = b"freezer-sdk/1/run-key\0" + self.repository + struct.pack("<I", 1)
        return self.suite.decrypt(sealed, private, info)

    def control(self, kind, name, stored):
        magic, version, secrecy, zero, epoch, salt = struct.unpack_from("<4sBBHI32s", stored)
        assert (magic, version, zero, epoch) == (b"FZCT", 1, 0, 1)
        size = 124 if secrecy else 44
        base = self.run_key(stored[44:124]) if secrecy else bytes.fromhex(self.bundle["index_key"])
        context = b"control\0" + kind.encode() + b"\0" + name.encode()
        domain = b"freezer-sdk/1/control\0" + self.repository
        aad = domain + struct.pack("<I", size) + stored[:size] + context
        plain = self.open(self.hkdf(base, salt, domain), stored[size:], aad)
        signer, signature, encoding, length = struct.unpack_from("<16s64sBI", plain)
        body = zlib.decompress(plain[85:]) if encoding else plain[85:]
        assert signer == self.slot_id
        assert len(body) == length
        self.verify(self.config["roster"][0]["signing_public"], context, body, signature)
        return json.loads(body), encoding


def test_a_second_reader_written_from_the_document():
    slot, bundle, run = VECTORS["slot"], VECTORS["bundle"], VECTORS["run-key"]
    reader = SecondReader(VECTORS["repository"]["objects"], bytes.fromhex(slot["password_bytes"]))
    assert reader.root.hex() == slot["root"]
    assert hashlib.sha256(b"freezer-sdk/1/no-encryption").hexdigest() == slot["open_root"]
    assert reader.secrets["kem_private"] == slot["kem_private"]
    assert reader.secrets["signing_private"] == slot["signing_private"]
    assert reader.secrets["trust_number"] == 1
    reader.check_config()
    for name in ("hash_key", "index_key", "chunker_seed", "data_public", "data_private", "epoch"):
        assert reader.bundle[name] == bundle[name]
    assert reader.commitment() == bundle["commitment"] == reader.config["epochs"][0]["commitment"]
    hashes = VECTORS["hash-keys"]
    for kind in ("data", "meta"):
        key = blake3(bytes.fromhex(bundle["hash_key"]), derive_key_context=f"freezer-sdk/1/{kind}-ids").digest()
        assert key.hex() == hashes[f"{kind}_hash_key"]
        assert blake3(hashes["blob"].encode(), key=key).hexdigest() == hashes[f"{kind}_id"]
    assert reader.run_key(bytes.fromhex(run["sealed"])).hex() == run["run_key"]
    index, data = VECTORS["control-index"], VECTORS["control-data"]
    stored = bytes.fromhex(index["stored"])
    assert reader.control(index["kind"], index["name"], stored) == (index["payload"], 0)
    payload, encoding = reader.control(data["kind"], data["name"], bytes.fromhex(data["stored"]))
    assert encoding == 1
    assert len(json.dumps(payload, separators=(",", ":"))) == data["payload_length"]
