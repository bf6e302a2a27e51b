import re
import time
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from mlptheory.base import InputError
from mlptheory.reports import figure_style, figure_svg, new_figure, save_figure


def draw(values=(1, 3, 2)):
    with figure_style():
        figure = new_figure()
        axes = figure.subplots()
        axes.plot(values, marker="o", clip_on=True)
        axes.fill_between(range(len(values)), values, color="black", alpha=0.1)
        axes.set_title("α of <b> & co")
    return figure


def test_files_are_the_same_bytes_at_another_time(tmp_path):
    first = [path.read_bytes() for path in save_figure(draw(), tmp_path / "one")]
    time.sleep(1.1)
    second = [path.read_bytes() for path in save_figure(draw(), tmp_path / "two")]
    assert first == second


def test_pdf_embeds_truetype_and_png_has_300_dpi(tmp_path):
    pdf, png = save_figure(draw(), tmp_path / "v1.5")
    assert (pdf.name, png.name) == ("v1.5.pdf", "v1.5.png")
    content = pdf.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    with Image.open(png) as image:
        assert image.size[0] == round(3.25 * 300)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        save_figure(draw(), tmp_path / "nowhere" / "figure")


def test_svg_is_well_formed_and_repeatable():
    svg = figure_svg(draw())
    assert svg == figure_svg(draw())
    ET.fromstring(svg)
    assert svg.startswith("<svg ")
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "<script" not in svg


def test_ink_and_black_follow_the_page():
    svg = figure_svg(draw())
    assert "currentColor" in svg
    assert "#1b1f24" not in svg
    assert "#000000" not in svg
    assert "#ffffff" not in svg


def test_every_reference_inside_resolves_and_two_figures_share_no_id():
    one, other = figure_svg(draw()), figure_svg(draw((3, 1, 2)))
    ids = re.findall(r'\sid="([^"]+)"', one)
    used = re.findall(r'href="#([^"]+)"', one) + re.findall(r"url\(#([^)]+)\)", one)
    assert used
    assert set(used) <= set(ids)
    assert len(ids) == len(set(ids))
    assert not set(ids) & set(re.findall(r'\sid="([^"]+)"', other))
