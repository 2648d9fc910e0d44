"""A page in a browser: no errors, sorting and filtering work, nothing is wider than the screen."""

import shutil
from dataclasses import replace

import pytest
from smallnet import network

from onnx_merge import optimize
from passes.interface.reason import planned

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except sync_api.Error:
            pytest.skip("there is no Chromium")
        yield found
        found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    result = optimize(network(), keep=0.5)[1]
    long = replace(result.groups[0], name="/layer/" * 30, reason=planned("because " * 30), size=2000, kept=9)
    return replace(result, groups=(*result.groups, long)).html(tmp_path_factory.mktemp("page") / "p.html")


@pytest.fixture(params=["light", "dark"])
def page(request, browser, path):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=request.param)
    opened, errors = context.new_page(), []
    opened.on("console", lambda message: errors.append(message.text))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("requestfailed", lambda request: errors.append(request.url))
    opened.goto(path.as_uri())
    yield opened
    context.close()
    assert not errors


def first_column(page):
    return page.eval_on_selector_all("#group-table tbody tr:not([hidden]) th", "all => all.map(e => e.textContent)")


def test_sorting(page):
    before = first_column(page)
    header = page.locator("#group-table thead th").nth(1)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending" and first_column(page)[0] == "/layer/" * 30
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending" and first_column(page)[-1] == "/layer/" * 30
    page.locator("#group-table thead th").nth(0).locator("button").click()
    assert header.get_attribute("aria-sort") is None and sorted(before) == sorted(first_column(page))


def test_filtering(page):
    count = len(first_column(page))
    page.fill("input[name=text]", "BECAUSE")
    assert first_column(page) == ["/layer/" * 30]
    assert page.text_content("form.filters output") == f"1 of {count} groups"
    page.fill("input[name=text]", "")
    page.uncheck("input[value=frozen]")
    assert 0 < len(first_column(page)) < count
    page.check("input[value=frozen]")
    assert len(first_column(page)) == count and page.text_content("form.filters output") == f"{count} groups"


def test_the_theme_can_be_chosen(page):
    def colour():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    seen = {}
    for name in ("light", "dark", "system"):
        page.click("#theme")
        assert page.text_content("#theme") == f"Theme: {name}"
        seen[name] = colour()
    assert seen["light"] != seen["dark"] and seen["system"] in (seen["light"], seen["dark"])


def test_nothing_is_wider_than_a_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_page_without_scripts_is_whole(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#group-table tbody tr").count() == 4 and not page.locator("form.filters").is_visible()
    context.close()
