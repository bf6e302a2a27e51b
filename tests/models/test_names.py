import pytest

from mlptheory.base import InputError
from mlptheory.models import ParsedName, models, parse_name


@pytest.fixture
def registered():
    """Register names and take them away again."""
    names = []

    def register(name, builder, summary="a test's own"):
        models.register(name, summary=summary)(builder)
        names.append(name)

    yield register
    for name in names:
        del models._entries[name]


@pytest.mark.parametrize(
    ("name", "family", "depth", "width", "expansion"),
    [
        ("S-6/Wi-1024", "S", 6, 1024, None),
        ("B-12/Wi-1024", "B", 12, 1024, 4),
        ("B-6/Wi-512/E-2", "B", 6, 512, 2),
        ("CNN-3/Wi-32", "CNN", 3, 32, None),
        ("MLP-2/Wi-200", "MLP", 2, 200, None),
        ("B-1/Wi-1/E-1", "B", 1, 1, 1),
    ],
)
def test_a_name_says_family_depth_width_and_expansion(name, family, depth, width, expansion):
    assert parse_name(name) == ParsedName(name, family, depth, width, expansion)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "B",
        "S",
        "MLP",
        "B-6",
        "B-6/Wi-",
        "B-/Wi-256",
        "B--1/Wi-256",
        "B-6/Wi-256/",
        "B-6/Wi-256/E-",
        "B-6/Wi-256\n",
        " B-6/Wi-256",
        "B-6/wi-256",
        "B_6-Wi_256",
        "B-6.5/Wi-256",
        "B-٣/Wi-256",
        "Q-6/Wi-256",
    ],
)
def test_a_malformed_name_is_refused_with_the_pattern_on_one_line(name):
    with pytest.raises(InputError) as caught:
        parse_name(name)
    message = str(caught.value)
    assert message.startswith(f"model = {name!r}: ")
    assert "B-{depth}/Wi-{width}[/E-{expansion}]" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("b-6/wi-256", "B-6/Wi-256"),
        ("B_12-Wi_1024", "B-12/Wi-1024"),
        ("B_6-Wi_512_E_2", "B-6/Wi-512/E-2"),
        ("S-6/Wi1024", "S-6/Wi-1024"),
        ("cnn-3/wi-32", "CNN-3/Wi-32"),
        ("BMLP-6/Wi-512", "B-6/Wi-512"),
        ("mlp-2/wi-200", "MLP-2/Wi-200"),
    ],
)
def test_the_message_offers_the_name_that_was_meant(name, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'\\?"):
        parse_name(name)
    assert parse_name(meant).name == meant


@pytest.mark.parametrize(
    ("name", "what"), [("B-0/Wi-256", "depth"), ("B-6/Wi-0", "width"), ("B-6/Wi-256/E-0", "expansion")]
)
def test_zero_is_refused(name, what):
    with pytest.raises(InputError, match=f"a {what} of at least 1"):
        parse_name(name)


@pytest.mark.parametrize("name", ["S-6/Wi-1024/E-4", "MLP-2/Wi-32/E-4", "CNN-3/Wi-32/E-4"])
def test_only_bottlenecks_expand(name):
    with pytest.raises(InputError, match="no expansion, which only B-MLPs have"):
        parse_name(name)


@pytest.mark.parametrize("name", [None, 6, b"B-6/Wi-256"])
def test_a_name_is_a_string(name):
    with pytest.raises(InputError, match="expected a name like"):
        parse_name(name)


def test_registered_families_and_full_names_parse(registered):
    registered("Fourier", lambda *_: None)
    registered("My-Net", lambda *_: None)
    assert parse_name("Fourier-2/Wi-8/E-3") == ParsedName("Fourier-2/Wi-8/E-3", "Fourier", 2, 8, 3)
    assert parse_name("Fourier") == ParsedName("Fourier", "Fourier")
    assert parse_name("My-Net") == ParsedName("My-Net", "My-Net")
    with pytest.raises(InputError, match=r"did you mean 'My-Net'.*or with a registered name: Fourier, My-Net"):
        parse_name("my-ne")
