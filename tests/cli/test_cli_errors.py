"""Errors in the CLI name its flags."""

import pytest

from geoxt import cli
from geoxt.cli.errors import command_parser, flags_of, replaced_remedy
from geoxt.errors import InputError


def test_flags_are_those_of_the_command_by_function_argument():
    flags = flags_of(command_parser(cli.parser(), "predict"))
    assert flags["batch_size"] == "--batch-size"
    assert flags["images"] == "IMAGE"
    assert flags["crs"] == "--crs"
    assert "resolution" not in flags
    assert flags_of(command_parser(cli.parser(), "datasets", "fetch"))["force"] == "--force"


def test_arguments_of_another_name_have_the_flag_of_the_command():
    assert flags_of(command_parser(cli.parser(), "demo"))["max_codes"] == "--classes"
    assert "max_codes" not in flags_of(command_parser(cli.parser(), "predict"))


def test_remedies_with_arguments_that_have_no_flag_are_replaced():
    error = InputError("Cannot open.", remedy="Pass {source_crs}.")
    error.add_note("2 regions are kept")
    with pytest.raises(InputError) as caught, replaced_remedy("Pass another file."):
        raise error
    assert caught.value is error
    assert str(error) == "Cannot open. Pass another file."
    assert error.__notes__ == ["2 regions are kept"]


def test_remedies_with_flags_are_kept():
    with pytest.raises(InputError, match="Pass bands=") as caught, replaced_remedy("Pass a file.", flags=("bands",)):
        raise InputError("Cannot open.", remedy="Pass {bands}.")
    assert caught.value.render({"bands": "--bands"}) == "Cannot open. Pass --bands."
