from __future__ import annotations

import gc

import pytest

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.storages.memory import MemoryStorage


def open_url(url):
    return MemoryStorage(**MemoryStorage.parse_url(url))


def test_unnamed_stores_are_apart():
    one, other = open_url("memory:"), open_url("memory:")
    one.put("x", [b"x"])
    assert list(other.list()) == []


def test_named_stores_are_shared_and_stay():
    open_url("memory:shared-and-stays").put("x", [b"x"])
    gc.collect()
    assert open_url("memory:shared-and-stays").get("x") == b"x"


def test_location_opens_the_same_objects_while_somebody_has_them():
    one = open_url("memory:")
    one.put("x", [b"x"])
    location = one.location
    assert open_url(location).get("x") == b"x"
    del one
    gc.collect()
    assert list(open_url(location).list()) == []


def test_what_is_stored_does_not_change_with_the_buffer():
    buffer = bytearray(b"before")
    storage = MemoryStorage()
    storage.put("x", [buffer])
    buffer[:] = b"after!"
    assert storage.get("x") == b"before"


def test_it_says_that_it_forgets():
    assert not MemoryStorage().capabilities.persistent


@pytest.mark.parametrize("url", ["memory", "local:/x", ""])
def test_not_a_url_of_this_storage(url):
    with pytest.raises(ConfigurationError):
        MemoryStorage.parse_url(url)
