"""SVG elements, through the standard library's XML tree: escaped and well-formed by construction."""

import re
from xml.etree.ElementTree import Element, SubElement

INK, FAINT, LINE, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#ffffff"
FONT = "'DejaVu Sans', Verdana, Arial, sans-serif"
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def add(parent: Element, tag: str, text: str = "", /, **attributes: str | float) -> Element:
    """Append an element; `_` in the name of an attribute stands for `-`, numbers are rounded to a hundredth of a pixel."""
    written = {name.strip("_").replace("_", "-"): _value(value) for name, value in attributes.items()}
    element = SubElement(parent, tag, written)
    if text:
        element.text = xml_text(text)
    return element


def add_text(parent: Element, x: float, y: float, text: str, size: float = 12, /, **attributes: str | float) -> Element:
    """A line of text whose baseline is at y."""
    return add(parent, "text", text, **{"x": x, "y": y, "font_size": size, "fill": INK, **attributes})


def xml_text(text: str) -> str:
    """The text with whatever no XML document may hold replaced: control characters and halves of surrogate pairs."""
    return _NOT_IN_XML.sub("\ufffd", text)


def number(value: float) -> str:
    """At most two digits after the point, and no more than are needed."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _value(value: str | float) -> str:
    return xml_text(value) if isinstance(value, str) else number(value)
