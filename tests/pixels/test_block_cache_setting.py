"""The argument and the environment variable of the block cache: folder and size, or an error."""

import pytest

from geoxt.errors import InputError
from geoxt.pixels.block_cache import BlockCache, parse_block_cache


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/blocks", BlockCache("/data/blocks", 50 * 10**9)),
        ("/data/blocks:20GB", BlockCache("/data/blocks", 20 * 10**9)),
        ("/data/blocks:1.5 TB", BlockCache("/data/blocks", 15 * 10**11)),
        ("/data/blocks:512M", BlockCache("/data/blocks", 512 * 10**6)),
        ("/data/a:b/blocks", BlockCache("/data/a:b/blocks", 50 * 10**9)),
        (False, None),
        ("", None),
    ],
)
def test_parse_block_cache(text, expected, monkeypatch):
    monkeypatch.delenv("GEOXT_BLOCK_CACHE", raising=False)
    assert parse_block_cache(text or (False if text is False else None)) == expected


@pytest.mark.parametrize("size", ["0", "-5GB", "many", "5XB", "nanGB", "infGB"])
def test_a_size_that_cannot_be_read_is_an_error(size):
    with pytest.raises(InputError, match="positive number of bytes"):
        parse_block_cache(f"/data/blocks:{size}")
