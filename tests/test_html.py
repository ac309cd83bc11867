"""The HTML report in a real browser: it opens from disk, fits narrow and wide windows, and unfolds on a click."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from graftsim_conformance import html, suite
from graftsim_conformance.subjects import Asked

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ADAM = ("adam(eps_placement=corrected)",)
COLUMN = 8
"""Pixels of a column of text, as in a terminal."""

PROBE = """<script>
const broken = document.querySelector("details.broken");
const body = broken.querySelector("pre, p"), seen = () => body.checkVisibility();
const height = () => broken.getBoundingClientRect().height, before = [seen(), height()];
broken.querySelector("summary").click();
const after = [seen(), height()];
const colour = (element, name) => getComputedStyle(element)[name];
const cells = [...document.querySelectorAll(".grid td")];
const first = document.querySelector(".grid tbody th.name").getBoundingClientRect();
const result = {
  before, after, open: document.querySelectorAll("details[open]").length,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  clipped: cells.filter(cell => cell.scrollWidth > cell.clientWidth + 1).length,
  ink: colour(document.body, "color"), paper: colour(document.body, "backgroundColor"),
  cells: cells.map(cell => [cell.textContent.trim(), cell.className, colour(cell, "color")]),
  dangling: [...document.querySelectorAll("a")].filter(a => !document.querySelector(a.getAttribute("href"))).length,
  first: first.width, requests: performance.getEntriesByType("resource").length,
};
document.body.textContent = "found:" + JSON.stringify(result) + ":end";
</script>"""


@pytest.fixture(scope="module")
def page():
    """A right and a wrong candidate, and one whose words want to be markup."""
    asked = [Asked(f"tests.suspects:{name}", ADAM, quick=True) for name in ("Adam", "NoCorrection", "Crashing")]
    return html.text([suite.run(one) for one in asked])


@pytest.fixture(scope="module")
def look(page, tmp_path_factory):
    """What a browser finds, in a window of so many columns."""
    browser = next(filter(None, map(shutil.which, [os.environ.get("GRAFTSIM_BROWSER", ""), *BROWSERS])), None)
    if browser is None:
        pytest.fail(
            "the HTML report is tested in Chromium; install it (apt-get install chromium) or set GRAFTSIM_BROWSER"
        )
    folder = tmp_path_factory.mktemp("page")
    path = folder / "probed.html"
    without_policy = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    assert without_policy != page, "the page must forbid scripts and every request"
    path.write_text(without_policy.replace("</body>", f"{PROBE}</body>"))

    def look(columns: int, dark: bool = False):
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        command += [
            f"--window-size={columns * COLUMN},900",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        ]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        found = re.search("found:(.*):end", done.stdout, re.DOTALL)
        assert found, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    return look


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_it_fits_the_window_and_unfolds(look, columns):
    found = look(columns)
    assert found["overflow"] <= 0, "the page scrolls sideways"
    assert found["clipped"] == 0
    (seen, height), (then_seen, then_height) = found["before"], found["after"]
    assert (seen, then_seen) == (False, True)
    assert then_height > height + 50
    assert found["open"] == 1
    assert found["dangling"] == 0
    assert found["requests"] == 0
    assert found["first"] >= 10 * COLUMN


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return sum(
        weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
        for weight, part in zip((0.2126, 0.7152, 0.0722), (red, green, blue), strict=True)
    )


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_in_light_and_dark(look, dark):
    found = look(100, dark)
    ink, paper = luminance(found["ink"]), luminance(found["paper"])
    assert (paper < ink) == dark
    light, deep = max(ink, paper), min(ink, paper)
    assert (light + 0.05) / (deep + 0.05) >= 7, "WCAG's enhanced contrast"


def test_the_cells_have_the_worst_errors(look, page):
    found = look(100)["cells"]
    groups = len(re.findall(r"<th><span>", page))
    right, wrong, crashed = found[:groups], found[groups : 2 * groups], found[2 * groups :]
    assert len(crashed) == groups
    assert {kind for _, kind, _ in right} <= {"equivalent", "exact", "none", "unsupported"}
    assert all(float(text) <= 4 for text, kind, _ in right if kind == "equivalent")
    assert any(kind == "different" and float(text) > 1e6 for text, kind, _ in wrong)
    assert {text for text, kind, _ in crashed if kind == "crashed"} == {"crash"}
    assert len({colour for *_, colour in found}) >= 3


def test_without_scripts_or_references_to_anything_outside(page):
    class References(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            assert tag not in ("script", "link", "img", "iframe", "object", "form")
            self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]

    reader = References()
    reader.feed(page)
    assert reader.found
    assert all(value.startswith("#") for value in reader.found)
    assert not re.search(r"url\(|@import|https?://", page)


def test_a_candidates_words_are_text(page):
    assert "is &lt;full&gt;" in page
    assert "is <full>" not in page


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.04, "4e-2"), (3.96, "4.0"), (999.4, "999"), (4321.0, "4e3"), (1e300, "1e300")]
)
def test_numbers_fit_a_cell(value, text):
    assert html.number(value) == text
