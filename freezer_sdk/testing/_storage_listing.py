"""Storage suite, part two: listings."""

from __future__ import annotations

import itertools

from freezer_sdk.testing._storage_case import StorageCase
from freezer_sdk.testing.suite import check, check_equal

TREE = ("a", "a-b", "a.b", "b/c", "b/c-d", "b/c/d", "b0", "b/é", "b/\uffee", "b/\U00010000", "c/d/e/f", "packs/00/aa")


class ListingTests(StorageCase):
    """Prefixes, order, delimiters, many objects."""

    tree = tuple(name for name in TREE if name != "b/c")

    def test_list_nothing(self) -> None:
        """Not an error."""
        self.check_listed([])
        self.check_listed([], "no/such/folder/")

    def test_list_in_order_of_code_points(self) -> None:
        """By the whole name: 'a-b' < 'a.b' < 'b/c' < 'b0', U+FFEE before U+10000."""
        self.put_all(self.tree)
        self.check_listed(sorted(self.tree))

    def test_list_by_prefix(self) -> None:
        """A prefix is any text; it need not end where a name has '/'."""
        self.put_all(self.tree)
        for prefix in ("a", "a-", "b", "b/", "b/c", "b/c/", "b/\uffee", "c/d/e/f", "pack", "packs/0", "b/c/d/e", "zz"):
            expected = sorted(name for name in self.tree if name.startswith(prefix))
            self.check_listed(expected, prefix, what=f"list({prefix!r})")

    def test_list_by_a_prefix_that_no_name_has(self) -> None:
        """Not an error, and nothing from outside."""
        self.put_all(["a/b", "c"])
        for prefix in ("../", "..", "/", "a//", "a/../", "./", "a/b/", "a\0", "x" * 300, "y" * 2000):
            self.check_listed([], prefix, what=f"list({prefix[:20]!r})")

    def test_list_everything(self) -> None:
        """The empty prefix has them too."""
        self.put("there")
        self.check_listed(["there"])
        everything = [info.name for info in self.storage.list()]
        check(self.key("there") in everything, "an object is missing from the listing of everything")
        check_equal(everything, sorted(everything), "order of the listing of everything")

    def test_list_with_delimiter(self) -> None:
        """One level; what lies deeper is one entry a folder."""
        self.put_all(self.tree)
        for prefix in ("", "a", "b", "b/", "b/c", "c/", "c/d", "packs/", "packs/00/", "none/"):
            expected = set()
            for name in self.tree:
                if name.startswith(prefix):
                    end = name.find("/", len(prefix))
                    expected.add(name if end < 0 else name[: end + 1])
            self.check_listed(sorted(expected), prefix, delimiter="/", what=f"list({prefix!r}, delimiter='/')")
            for info in self.storage.list(self.key(prefix), delimiter="/"):
                check_equal(info.is_prefix, info.name.endswith("/"), f"is_prefix of {info.name!r}")

    def test_deleted_folders_are_not_listed(self) -> None:
        """A folder is only what its objects make of it."""
        self.put_all(["gone/deep/a", "stays/b"])
        self.storage.delete(self.key("gone/deep/a"))
        self.check_listed(["stays/"], delimiter="/")
        self.check_listed(["stays/b"])

    def test_list_many(self) -> None:
        """More than a page, each once, in order; also by a prefix within."""
        names = [f"many/{number % 7}/{number:05}" for number in range(self.many)]
        self.put_all(names)
        self.check_listed(sorted(names))
        self.check_listed(sorted(name for name in names if name.startswith("many/3/0")), "many/3/0")
        self.check_listed([f"many/{number}/" for number in range(7)], "many/", delimiter="/")

    def test_listing_survives_deletions(self) -> None:
        """What stays is listed, though other objects vanish meanwhile."""
        names = [f"{number % 20:02}/{number:03}" for number in range(200)]
        self.put_all(names)
        self.check_listed(sorted(names))
        listing = self.storage.list(self.prefix)
        first = [info.name.removeprefix(self.prefix) for info in itertools.islice(listing, 5)]
        gone = {name for name in names if name.endswith(("3", "7"))}
        self.storage.delete_many(self.key(name) for name in gone)
        found = first + [info.name.removeprefix(self.prefix) for info in listing]
        check_equal(found, sorted(found), "order")
        check_equal([name for name in found if name not in gone], sorted(set(names) - gone), "what stayed")

    def test_an_abandoned_listing_costs_nothing(self) -> None:
        """Only the beginning is taken; the storage goes on working."""
        self.put_all(f"n/{number}" for number in range(20))
        for _ in range(50):
            next(iter(self.storage.list(self.prefix)), None)
        self.check_listed(sorted(f"n/{number}" for number in range(20)))
