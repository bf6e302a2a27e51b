import pytest

from mlptheory.base import InputError, Registry


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape")
    registry.register_lazily("fraction", "fractions:Fraction", summary="a ratio of integers")

    @registry.register("square")
    def square(side):
        """Four equal sides.

        And more.
        """
        return side**2

    return registry


def test_names_come_in_order_of_registration(shapes):
    assert list(shapes) == ["fraction", "square"]
    assert len(shapes) == 2
    assert "square" in shapes and "circle" not in shapes


def test_summary_is_the_docstring_first_line_unless_given(shapes):
    assert shapes.summary("square") == "Four equal sides."
    assert shapes.summary("fraction") == "a ratio of integers"
    shapes.register("bare")(lambda: None)
    assert shapes.summary("bare") == ""


def test_lazy_entries_load_when_asked_for(shapes):
    from fractions import Fraction

    assert shapes["fraction"] is Fraction
    assert shapes["fraction"] is Fraction


def test_listing_and_summaries_load_nothing():
    registry = Registry("shape")
    registry.register_lazily("broken", "no_such_module_anywhere:thing", summary="never loaded")
    assert list(registry) == ["broken"] and registry.summary("broken") == "never loaded"
    with pytest.raises(ModuleNotFoundError):
        registry["broken"]


@pytest.mark.parametrize("ask", [lambda shapes: shapes["sqare"], lambda shapes: shapes.summary("sqare")])
def test_unknown_names_raise_with_the_nearest(shapes, ask):
    with pytest.raises(InputError, match=r"^shape = 'sqare': unknown; did you mean 'square'\?.*fraction, square"):
        ask(shapes)


def test_a_name_is_taken_once_unless_replaced(shapes):
    with pytest.raises(InputError, match="shape = 'square': already registered"):
        shapes.register("square")(abs)
    assert shapes["square"](3) == 9
    shapes.register("square", replace=True)(abs)
    assert shapes["square"] is abs


def test_the_decorator_returns_what_it_was_given(shapes):
    def circle(radius):
        return radius

    assert shapes.register("circle")(circle) is circle
