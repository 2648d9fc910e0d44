"""Colours have enough contrast in both themes (WCAG 2.2: 4.5 for text, 3 for what a chart shows)."""

import importlib.resources
import re

import pytest

STYLE = importlib.resources.files("onnx_merge.html").joinpath("templates", "page.css").read_text("utf-8")


def theme(selector):
    block = STYLE[STYLE.index(selector) :]
    found = dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", block[: block.index("}")]))
    return {
        name: colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:]) for name, colour in found.items()
    }


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("selector", [":root{", ":root:not([data-theme=light]){", ":root[data-theme=dark]{"])
def test_contrast(selector):
    colours = theme(selector)
    for text in ("ink", "soft", "link"):
        assert contrast(colours[text], colours["back"]) >= 4.5 and contrast(colours[text], colours["panel"]) >= 4.5
    for word in ("good", "bad", "untested"):
        assert contrast(colours[word], colours[f"{word}-back"]) >= 4.5
        assert contrast(colours["ink"], colours[f"{word}-back"]) >= 4.5
    for shape in ("whole", "e0", "e1", "e2", "e3", "e4", "strong", "focus"):
        assert contrast(colours[shape], colours["back"]) >= 3, shape


def test_both_dark_themes_are_the_same():
    assert theme(":root:not([data-theme=light]){") == theme(":root[data-theme=dark]{")
