"""Stubs of ``mongodump`` and ``mongorestore``, which cannot be had here: as much of both as the tests need.

They take the real programs' options, log in as those do, and speak the real archive format (magic number, header,
metadata of each collection, blocks of documents), but know neither checksums, indexes, users, nor the oplog.

    stub_mongo_tools.py mongodump|mongorestore OPTION...
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import bson
import pymongo

MAGIC = 0x8199E26D
END = struct.pack("<i", -1)
OWN = ("admin", "config", "local")


def parse(program: str, arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False)
    for name in ("config", "host", "port", "username", "password", "authenticationDatabase", "db", "uri"):
        parser.add_argument(f"--{name}")
    for name in ("archive", "oplog", "oplogReplay", "drop", "stopOnError"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(arguments)


def connect(options: argparse.Namespace) -> pymongo.MongoClient[dict[str, Any]]:
    secret = {}
    if options.config:
        with open(options.config) as file:
            secret = json.load(file)
    if "uri" in secret:
        return pymongo.MongoClient(secret["uri"])
    login: dict[str, Any] = {}
    if options.username:
        login = {"username": options.username, "password": secret["password"]}
        login["authSource"] = options.authenticationDatabase
    return pymongo.MongoClient(options.host, int(options.port or 27017), directConnection=True, **login)


def dump(options: argparse.Namespace, out: BinaryIO) -> None:
    with connect(options) as client:
        names = [options.db] if options.db else sorted(set(client.list_database_names()) - set(OWN))
        spaces = [(name, each) for name in names for each in sorted(client[name].list_collection_names())]
        out.write(struct.pack("<I", MAGIC))
        out.write(bson.encode({"concurrent_collections": 1, "version": "0.1", "tool_version": "stub"}))
        for name, each in spaces:
            out.write(bson.encode({"db": name, "collection": each, "metadata": "{}", "size": 0, "type": "collection"}))
        out.write(END)
        for name, each in spaces:
            out.write(bson.encode({"db": name, "collection": each, "EOF": False, "CRC": 0}))
            for document in client[name][each].find():
                out.write(bson.encode(document))
            out.write(END)
            out.write(bson.encode({"db": name, "collection": each, "EOF": True, "CRC": 0}))
            out.write(END)
    out.flush()


def documents(source: BinaryIO) -> Iterator[dict[str, Any] | None]:
    """All documents of an archive; ``None`` for each terminator."""
    assert struct.unpack("<I", source.read(4))[0] == MAGIC
    while size := source.read(4):
        (length,) = struct.unpack("<i", size)
        yield None if length == -1 else bson.decode(size + source.read(length - 4))


def restore(options: argparse.Namespace, source: BinaryIO) -> None:
    with connect(options) as client:
        found = documents(source)
        for document in found:  # the header and the metadata
            if document is None:
                break
            if options.drop and "metadata" in document:
                client[document["db"]].drop_collection(document["collection"])
        space: dict[str, Any] | None = None
        for document in found:
            if document is None:
                space = None
            elif space is None:
                space = document
            else:
                client[space["db"]][space["collection"]].insert_one(document)


if __name__ == "__main__":
    given = parse(sys.argv[1], sys.argv[2:])
    assert given.archive
    if sys.argv[1] == "mongodump":
        dump(given, sys.stdout.buffer)
    else:
        restore(given, sys.stdin.buffer)
