"""Names of objects: what the original reads, and what it never sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.engines.chains.catalog import Catalog, leftovers
from freezer_sdk.engines.chains.layout import LevelId, locks_of, series_name
from freezer_sdk.errors import BackupNotFound, ConfigurationError, IntegrityError
from freezer_sdk.storages.memory import MemoryStorage

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20)
TIMES = st.integers(0, 253_402_300_799)


def level(chain: int, number: int, time: int, *, series: str = "h_n", folder: str = "tar") -> LevelId:
    return LevelId(folder=folder, series=series, chain=chain, level=number, time=time)


def stored(*names: str) -> MemoryStorage:
    storage = MemoryStorage()
    for name in names:
        storage.put(name, [b"{}"])
    return storage


@given(series=NAMES, chain=TIMES, number=st.integers(0, 999), time=TIMES)
def test_what_is_written_is_read_again(series: str, chain: int, number: int, time: int) -> None:
    made = level(chain, number, time, series=series)
    path = made.metadata.removeprefix("metadata/tar/").removesuffix("/metadata")
    assert LevelId.parse("tar", path) == made


def test_names_are_those_of_the_original() -> None:
    made = level(1795407478, 1, 1795407483, series="node1_docs")
    base = "tar/node1_docs/1795407478/1_1795407483"
    assert made.metadata == f"metadata/{base}/metadata"
    assert made.data == f"data/{base}/data"
    assert made.engine_metadata == f"data/{base}/engine_metadata"
    assert made.segments == f"data/{base}/segments"


def test_nothing_of_ours_lies_where_the_original_looks() -> None:
    made = level(5, 0, 5)
    assert all(each.startswith("freezer-sdk/") for each in (made.record, made.started, locks_of("tar", "h_n")))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "h_n",
        "h_n/5",
        "h_n/5/0",
        "h_n/5/0_",
        "h_n/x/0_5",
        "h_n/5/0_5/more",
        "h_n/05/0_5",
        "h_n/-5/0_5",
        "/5/0_5",
        "h_n/5/10000_5",
        "h_n/5/0_253402300800",
        "h_n/999999999999/0_5",
    ],
)
def test_other_names_are_no_levels(path: str) -> None:
    assert LevelId.parse("tar", path) is None


@pytest.mark.parametrize(
    ("host", "name"), [("", "n"), ("h", ""), ("a/b", "n"), ("h", "../n"), ("h", "n\0"), ("h", "\udc80")]
)
def test_names_that_cannot_be_folders_are_refused(host: str, name: str) -> None:
    with pytest.raises(ConfigurationError):
        series_name(host, name)


def test_a_catalog_stands_junk() -> None:
    whole = level(5, 0, 5)
    junk = ("metadata/tar/h_n/README", "metadata/tar/h_n/5/0_5/other", "metadata/tar/h_n/5/x_y/metadata")
    catalog = Catalog.read(stored(whole.metadata, *junk), "tar")
    assert catalog.levels == (whole,)
    assert [problem.path for problem in catalog.problems] == sorted(junk)
    assert not any(problem.fatal for problem in catalog.problems)


def test_series_whose_names_begin_alike_are_apart() -> None:
    ours, other = level(5, 0, 5, series="h_n"), level(5, 0, 5, series="h_n2")
    storage = stored(ours.metadata, other.metadata)
    assert Catalog.read(storage, "tar", series="h_n").levels == (ours,)
    assert Catalog.read(storage, "tar").levels == (ours, other)


def test_both_folders_of_an_engine_are_read_and_no_other() -> None:
    plain, sealed = level(5, 0, 5), level(6, 0, 6, folder="tar-sealed")
    storage = stored(plain.metadata, sealed.metadata, level(7, 0, 7, folder="rsync").metadata)
    assert Catalog.read(storage, "tar").levels == (plain, sealed)


def test_where_a_number_repeats_each_run_needs_the_one_before_it() -> None:
    full, one, again, two, late = (
        level(10, 0, 10),
        level(10, 1, 20),
        level(10, 1, 30),
        level(10, 2, 40),
        level(10, 1, 50),
    )
    catalog = Catalog.read(stored(*(each.metadata for each in (full, one, again, two, late))), "tar")
    chain = catalog.chain(two)
    assert chain.needed(two) == (full, again, two)
    assert chain.needed(late) == (full, late)
    assert chain.needed(one) == (full, one)


def test_a_missing_level_is_told_and_the_rest_is_there() -> None:
    full, two = level(10, 0, 10), level(10, 2, 40)
    chain = Catalog.read(stored(full.metadata, two.metadata), "tar").chain(two)
    with pytest.raises(IntegrityError, match="missing: 1"):
        chain.needed(two)
    assert chain.present(two) == (full, two)


def test_an_unknown_level_is_not_found() -> None:
    with pytest.raises(BackupNotFound):
        Catalog.read(MemoryStorage(), "tar").chain(level(1, 0, 1))


def test_leftovers_tell_ours_from_the_originals() -> None:
    whole, ours, foreign = level(5, 0, 5), level(5, 1, 6), level(5, 1, 7)
    storage = stored(
        whole.data, whole.engine_metadata, whole.record, whole.metadata,
        ours.started, ours.data,
        f"{foreign.segments}/00000000",
    )  # fmt: skip
    found = {each.level: each for each in leftovers(storage, "tar")}
    assert set(found) == {ours, foreign}
    assert found[ours].ours
    assert not found[foreign].ours
    assert found[foreign].objects == (f"{foreign.segments}/00000000",)
