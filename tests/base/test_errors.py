import pytest

from mlptheory.base import DamagedFileError, InputError, MissingDataError, invalid, nearest_names, unknown_name


def test_invalid_names_argument_value_and_what_was_allowed():
    assert str(invalid("lr", -0.1, "a number greater than 0")) == "lr = -0.1: expected a number greater than 0"


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("cifer10", "cifar10"), ("CIFAR10", "cifar10"), ("digit", "digits"), ("Batchsize", "BatchSize")],
)
def test_unknown_name_gives_the_nearest_first_and_all_allowed(typed, nearest):
    allowed = ["digits", "cifar10", "cifar100", "BatchSize"]
    message = str(unknown_name("dataset", typed, allowed))
    assert message.startswith(f"dataset = {typed!r}: unknown; did you mean {nearest!r}")
    assert message.endswith(f"(allowed: {', '.join(allowed)})")


def test_unknown_name_without_anything_near_gives_no_guess():
    assert str(unknown_name("dataset", "zzz", ["digits"])) == "dataset = 'zzz': unknown (allowed: digits)"
    assert str(unknown_name("dataset", "zzz", [])) == "dataset = 'zzz': unknown (allowed: none)"


def test_nearest_names_are_limited_and_ordered():
    names = [f"name{index}" for index in range(9)]
    assert nearest_names("name4", names)[0] == "name4"
    assert len(nearest_names("name4", names, most=2)) == 2


def test_values_with_line_breaks_stay_on_one_line():
    assert "\n" not in str(unknown_name("dataset", "a\nb", ["digits"]))
    assert "\n" not in str(invalid("dataset", "a\nb", "a name"))


def test_errors_are_caught_by_their_general_kinds():
    assert issubclass(InputError, ValueError)
    assert issubclass(DamagedFileError, InputError)
    missing = MissingDataError("cifar10: not found")
    assert isinstance(missing, InputError) and isinstance(missing, FileNotFoundError)
    assert str(missing) == "cifar10: not found"
