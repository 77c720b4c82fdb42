"""Archives as people write them down: names and what is known of them, at one address."""

from __future__ import annotations

import pytest

from geoxt.datasets import Archive
from geoxt.datasets.archive_list import hosted
from geoxt.errors import InputError

MD5, SHA256 = "0123456789abcdef" * 2, "fedcba9876543210" * 4


def test_words_are_told_by_their_form():
    text = f"""
        ponds.zip {MD5} 5120
            {SHA256} ponds/ more/lists_
        list.txt
    """
    assert hosted("https://a.org/x", text, into="in") == (
        Archive(
            file="ponds.zip",
            url="https://a.org/x/ponds.zip",
            md5=MD5,
            sha256=SHA256,
            size=5120,
            into="in",
            holds=("ponds/", "more/lists_"),
        ),
        Archive(file="list.txt", url="https://a.org/x/list.txt", into="in"),
    )


def test_names_may_stand_within_the_address_and_differ_below_the_root():
    (found,) = hosted("https://a.org/{}?download=1", "train.csv", prefix="ponds-")
    assert found == Archive(file="ponds-train.csv", url="https://a.org/train.csv?download=1")


def test_parts_belong_to_their_whole():
    found = hosted("https://a.org", "x.tar.gzaa x.tar.gzab x.tar.gz y.zip")
    assert [one.join for one in found] == ["x.tar.gz", "x.tar.gz", None, None]


def test_words_without_a_name_are_refused():
    with pytest.raises(InputError, match="no name stands before"):
        hosted("https://a.org", f"{MD5} ponds.zip")
