"""Summaries of the dataset catalog: the tables of the docs, and the CLI."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.dataset_trees import make_tree

from geoxt import cli, datasets
from geoxt.datasets.summary import describe
from geoxt.datasets.tables import benchmark_table, render_page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "datasets.md"


def test_docs_tables_equal_generated_tables():
    page = PAGE.read_text(encoding="utf-8")
    assert render_page(page) == page, "run: python -m geoxt.datasets.tables docs/reference/datasets.md"


def test_table_has_one_row_per_dataset():
    rows = benchmark_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(datasets.names())
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize("name", datasets.names())
def test_description_names_bands_and_quirks(name):
    spec = datasets.get(name)
    text = describe(spec)
    assert all(band.name in text for band in spec.bands)
    assert all(quirk in text for quirk in spec.quirks)


def test_cli_lists_and_describes_datasets(capsys):
    assert cli.main(["datasets", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(datasets.names())
    assert cli.main(["datasets", "info", "EuroSAT"]) == 0
    assert "B8A nir08 0.8647" in capsys.readouterr().out
    assert cli.main(["datasets", "info", "eurosatt"]) == 2
    assert "Did you mean eurosat" in capsys.readouterr().err


def test_cli_verifies_a_dataset(capsys, tmp_path):
    make_tree(datasets.get("levircd_plus"), tmp_path)
    assert cli.main(["datasets", "verify", "levircd_plus", str(tmp_path), "--deep"]) == 2
    output = capsys.readouterr()
    assert "2 samples, but the release has 985" in output.out
    assert "1 problems" in output.err


def test_cli_shows_manual_download_instructions(capsys, tmp_path):
    assert cli.main(["datasets", "fetch", "tropical_cyclone", str(tmp_path)]) == 2
    assert "Copy the folder train from https://source.coop" in capsys.readouterr().err
