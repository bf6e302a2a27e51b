import re

import pytest

import mlptheory
from mlptheory.base import InputError
from mlptheory.reports import bibtex
from mlptheory.reports.references import _entries

KEYS = [
    "mlptheory",
    "Bachmann2023",
    "Keskar2017",
    "Shallue2019",
    "McCandlish2018",
    "Goyal2017",
    "Malladi2022",
    "Chen2023",
    "Loshchilov2019",
    "Zhang2018",
    "Yang2022",
    "Krizhevsky2009",
    "Alpaydin1998",
    "Pedregosa2011",
    "Paszke2019",
    "Salmon2011",
    "Hoffer2017",
    "Jacot2018",
    "Ingrosso2022",
    "Lufkin2025",
    "dAscoli2019",
    "Geiping2023",
    "Anagnostidis2023",
    "GontijoLopes2021",
    "Lee2019",
    "Chizat2019",
    "Fort2020",
    "Atanasov2022",
    "Simon2023",
    "Canatar2021",
    "Radhakrishnan2024",
    "Novak2022",
    "Cohen2021",
    "Cohen2022",
    "Dinh2017",
    "Jiang2020",
    "Kwon2021",
]


@pytest.mark.parametrize("name", KEYS)
def test_every_entry_is_whole(name):
    entry = bibtex([name])
    assert entry.count("{") == entry.count("}")
    fields = dict(re.findall(r"^  (\w+) += \{(.*?)\},$", entry, re.MULTILINE | re.DOTALL))
    assert {"author", "title", "year"} <= fields.keys()
    year = re.search(r"\d{4}$", name)
    assert year is None or year.group() == fields["year"]
    if "eprint" in fields:
        assert re.fullmatch(r"\d{4}\.\d{5}", fields["eprint"])
        assert fields["archiveprefix"] == "arXiv"


def test_the_parser_sees_every_entry_of_the_file():
    assert sorted(_entries()) == sorted(KEYS)


def test_the_package_cites_its_own_version():
    assert f"version = {{{mlptheory.__version__}}}" in bibtex(["mlptheory"])


def test_order_is_kept_and_repeats_are_dropped():
    text = bibtex(["Zhang2018", "Chen2023", "Zhang2018"])
    assert re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE) == ["Zhang2018", "Chen2023"]
    assert bibtex([]) == ""


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(InputError, match=r"'Bachman2023'.*did you mean 'Bachmann2023'") as error:
        bibtex(["Bachman2023"])
    assert "\n" not in str(error.value)
