"""Made-up text, log lines, database pages and records: the same on every machine, as compressible as real ones."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator

PHRASES = 40_000
PAGE = 8192
PAGE_HEADER = struct.Struct("<QIHHI")  # log sequence number, page number, rows, free bytes, magic
ROW = struct.Struct("<IIQ")
RECORD = struct.Struct("<IIQHHIQ")

CODE = (
    "self.{0}",
    "self._{0} = ",
    "def {0}_{1}(self, ",
    "{0}: {1} | None = None) -> {2}:\n        ",
    "if not {0}.{1}:\n            ",
    "return {0}\n\n    ",
    'raise {0}Error(f"{1} {2}: ',
    "import {0}.{1}\n",
    "from {0} import {1}, {2}\n",
    "for {0} in {1}:\n            ",
    " = {0}({1}, ",
    "[{0}]",
    ".{0}(",
    ", {0}={1}",
    ")\n        ",
    "    # {0} {1} the {2}\n        ",
    '"{0}", ',
    '{0}["{1}"] ',
    "{0} and ",
    "assert {0} == {1}\n        ",
    "with {0}({1}) as {2}:\n            ",
    'class {0}{1}:\n    """The {2}."""\n\n    ',
    "None",
    "True, ",
    "yield {0}\n",
)
PROSE = (
    *("the {0} of ", "{0} ", "{0} {1} ", "a {0}, ", "{0} is {1}. ", "and {0} ", "to {0} the ", "in {0} "),
    *("which {0} ", "{0}; ", "not {0} ", "{0}.\n\n", "as {0} ", "`{0}` ", "({0} {1}) ", "of {0} "),
)
DATA = (
    *('  "{0}": {{\n', '    "{0}": "{1}",\n', '    "{0}": ', "true,\n", "null,\n", "  }},\n", '["{0}", "{1}"],\n'),
    *('"/{0}/{1}/{2}"', "1.{0}", "{0}-{1}", '    "id": "{0}-{1}-{2}",\n'),
)
TEMPLATES = {"code": CODE, "prose": PROSE, "data": DATA}


def make_words(rng: random.Random, count: int) -> list[str]:
    """Different pronounceable words of 2 to 12 letters."""
    heads, vowels, tails = "bcdfghjklmnprstvwz", "aeiou", ("", "", "s", "n", "r", "t", "ed", "ing")
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = (rng.choice(heads) + rng.choice(vowels) for _ in range(rng.randint(1, 4)))
        words.setdefault("".join(syllables) + rng.choice(tails))
    return list(words)


class Phrases:
    """Short phrases with a Zipf-like frequency; joined at random they read and compress about like the real thing."""

    def __init__(self, rng: random.Random, templates: tuple[str, ...], words: list[str]) -> None:
        zipf = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(words))))
        self.phrases = [
            rng.choice(templates).format(*rng.choices(words, cum_weights=zipf, k=3)) for _ in range(PHRASES)
        ]
        self.weights = list(itertools.accumulate(1 / (rank + 200) for rank in range(PHRASES)))
        self.mean = sum(map(len, self.phrases)) / PHRASES

    def text(self, rng: random.Random, size: int) -> bytes:
        """``size`` bytes."""
        parts: list[str] = []
        have = 0
        while have < size:
            new = rng.choices(self.phrases, cum_weights=self.weights, k=int((size - have) / self.mean) + 8)
            parts += new
            have += sum(map(len, new))
        return "".join(parts).encode()[:size]


class Package:
    """A group of files that have passages in common: a licence, boilerplate, what was copied and changed."""

    def __init__(self, rng: random.Random, corpus: Corpus) -> None:
        self.header = rng.choice(corpus.headers)
        self._corpus = corpus
        self._passages: dict[str, list[bytes]] = {}

    def text(self, rng: random.Random, kind: str, size: int) -> bytes:
        """``size`` bytes of a file: the header, then new and common passages in turn."""
        phrases = self._corpus.kinds[kind]
        if kind not in self._passages:
            self._passages[kind] = [phrases.text(rng, rng.randrange(60, 500)) for _ in range(40)]
        parts = [self.header] if size > 2 * len(self.header) else []
        have = sum(map(len, parts))
        common = rng.sample(self._passages[kind], 40)
        while have < size:
            new = phrases.text(rng, rng.randrange(60, 450))
            old = common.pop() if common else b""
            parts += (old, new)
            have += len(old) + len(new)
        return b"".join(parts)[:size]


class Corpus:
    """All made-up content, from one seed."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"{seed}:corpus")
        self.words = make_words(rng, 8000)
        self.kinds = {kind: Phrases(rng, templates, self.words) for kind, templates in TEMPLATES.items()}
        self.headers = [self.kinds["prose"].text(rng, rng.randrange(80, 900)) + b"\n" for _ in range(40)]

    def records(self, rng: random.Random, size: int) -> bytes:
        """Binary data with a structure: counters, offsets, some noise; names between, as in compiled code."""
        base = rng.getrandbits(30)
        parts, have = [], 0
        while have < size:
            block = b"".join(
                RECORD.pack(base + i, i & 7, 0x1000 + i * 32, 1, i & 255, rng.getrandbits(24), rng.getrandbits(6))
                for i in range(8)
            )
            names = "\0".join(rng.choices(self.words, k=16)).encode()
            parts += [block, names]
            have += len(block) + len(names)
            base += 8
        return b"".join(parts)[:size]

    def log(self, rng: random.Random, size: int, clock: int = 0) -> Iterator[bytes]:
        """``size`` bytes of service and access log lines, in blocks.

        Args:
            clock: milliseconds at the first line.
        """
        pick, below = rng.choice, rng.randrange
        modules, verbs = self.words[40:90], self.words[100:180]
        levels, codes = ("INFO", "INFO", "INFO", "DEBUG", "WARNING", "ERROR"), (200, 200, 200, 204, 404, 500)
        while size > 0:
            lines, have = [], 0
            while have < min(size, 4 << 20):
                clock += below(300)
                seconds, ms = divmod(clock, 1000)
                stamp = (
                    f"2024-{1 + seconds // 2592000 % 12:02d}-{1 + seconds // 86400 % 28:02d} "
                    f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
                )
                if below(10) < 6:
                    where = f"{1000 + below(64)} {pick(levels)} {pick(modules)}.{pick(modules)}"
                    what = f"{pick(verbs)} {pick(verbs)} took {below(90000) / 1000:.3f} s"
                    line = f"{stamp} {where} [req-{below(1 << 48):012x} {pick(verbs)}] {what}\n"
                else:
                    path = f"/v2/{pick(modules)}/{below(1 << 24):06x}"
                    result = f"{pick(codes)} {below(20000)} 0.{below(1000000):06d}"
                    line = f'{stamp} 10.{below(4)}.{below(256)}.{below(256)} "GET {path} HTTP/1.1" {result}\n'
                lines.append(line)
                have += len(line)
            block = "".join(lines).encode()[:size]
            size -= len(block)
            yield block

    def page(self, rng: random.Random, number: int, sequence: int) -> bytes:
        """One 8 KiB database page: header, row pointers, free space, rows from the end, each with 12 random bytes."""
        rows: list[bytes] = []
        room = PAGE - PAGE_HEADER.size
        names = iter(rng.choices(self.words, k=480))
        for first in names:
            text = f"{first}.{next(names)}@{next(names)}.example\0{next(names)}\0".encode()
            row = ROW.pack(number * 100 + len(rows), rng.randrange(5000), 1_704_067_200_000 + number * 100) + text
            row += rng.randbytes(12)
            if room < len(row) + 2:
                break
            rows.append(row)
            room -= len(row) + 2
        ends = list(itertools.accumulate(map(len, rows)))
        pointers = b"".join((PAGE - end).to_bytes(2, "little") for end in ends)
        head = PAGE_HEADER.pack(sequence, number, len(rows), room, 0x50474442)
        return head + pointers + bytes(room) + b"".join(reversed(rows))
