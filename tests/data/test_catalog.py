import pytest
import torch

from mlptheory.base import InputError, MissingDataError
from mlptheory.data import Dataset, data_roots, datasets, load


def test_unknown_names_show_the_nearest():
    with pytest.raises(InputError, match="dataset = 'cifer10': unknown; did you mean 'cifar10'"):
        load("cifer10", "train")
    with pytest.raises(InputError, match="split = 'tests': unknown; did you mean 'test'"):
        load("digits", "tests")


def test_a_user_registers_their_own(monkeypatch):
    monkeypatch.setattr(datasets, "_entries", dict(datasets._entries))

    @datasets.register("mine", summary="two gray images")
    def mine(split, root):
        return Dataset(
            images=torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            labels=torch.tensor([0, 1]),
            classes=("a", "b"),
            name="mine",
            split=split,
        )

    @datasets.register("broken")
    def broken(split, root):
        return [split, root]

    assert load("mine", "test").split == "test"
    assert datasets.summary("mine") == "two gray images"
    with pytest.raises(InputError, match="dataset = 'broken': its loader returned list: expected a Dataset"):
        load("broken", "train")


def test_roots_come_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path / "environment"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = [place for _, place in data_roots(tmp_path / "given")]
    assert places[:2] == [tmp_path / "given", tmp_path / "environment"]
    assert places[2].name == "mlptheory"
    monkeypatch.delenv("MLPTHEORY_DATA")
    assert data_roots() == [("the cache folder", places[2])]


REMEDIES = {name: f"mlptheory data get {name}" for name in ("cifar10", "cifar100", "stl10", "tinyimagenet")}
REMEDIES |= {name: "mlptheory data convert SOURCE" for name in ("imagenet", "imagenet21k")}


@pytest.mark.parametrize("name", REMEDIES)
def test_missing_data_name_every_place_and_the_remedy(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path / "environment"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingDataError) as error:
        load(name, "train", tmp_path / "given")
    message = str(error.value)
    expected = [
        repr(name),
        str(tmp_path / "given"),
        str(tmp_path / "environment"),
        "mlptheory",
        REMEDIES[name],
        "://",
        "--data-root",
    ]
    assert [part for part in [*expected, "MLPTHEORY_DATA=FOLDER"] if part not in message] == []
    assert "\n" not in message


def test_files_are_named_by_their_kind():
    assert "store:mine" in datasets and "store" not in datasets and "stor:mine" not in datasets
    assert "train.store" in datasets.summary("store:mine")
    assert "store:mine" not in list(datasets)
    for lookup in (datasets.summary, datasets.__getitem__):
        with pytest.raises(InputError, match="dataset = 'stor:mine': unknown"):
            lookup("stor:mine")
