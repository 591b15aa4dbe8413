import json
import re
import sys
from runpy import run_path
from types import SimpleNamespace

from tests import PROJECT
from tests.expectations import succeed

SITE = PROJECT / "docs/site"


def program(name: str) -> SimpleNamespace:
    """What one of the site's programs defines."""
    return SimpleNamespace(**run_path(str(SITE / f"{name}.py")))


def test_the_reference_says_what_the_code_says(tmp_path):
    succeed(sys.executable, SITE / "reference.py", tmp_path)
    kept = {path.name: path.read_text("utf-8") for path in (PROJECT / "docs/reference").iterdir()}
    new = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert kept == new, "run `make docs` and commit docs/reference"


def test_every_variable_is_in_the_reference():
    reference = (PROJECT / "docs/reference/environment.md").read_text("utf-8")
    named = program("reference").variables_of_source()
    assert {"DATABASE_URL", "MLOPS_ACTOR"} <= named
    assert sorted(name for name in named if f"`{name}`" not in reference) == []


def test_every_page_has_a_korean_counterpart():
    assert program("build").without_counterpart() == []


def test_korean_pages_call_a_thing_by_the_word_of_the_glossary_and_link_to_korean_pages():
    glossary = PROJECT / "docs/glossary.ko.md"
    rows = glossary.read_text("utf-8").splitlines()[6:]
    unwanted = {word for row in rows for word in row.split("|")[3].strip().split(", ") if word}
    # They have other meanings, too.
    unwanted -= {"결정", "그래프", "묶음", "런"}
    globs = ("README.ko.md", "docs/**/*.ko.md", "course/**/*.ko.md", "notebooks/*.ipynb")
    pages = {page for glob in globs for page in PROJECT.glob(glob)} - {glossary}
    for page in pages | {PROJECT / "src/mlops_for_mle/serving/page/texts.js"}:
        text = page.read_text("utf-8").replace("[English](", "")
        assert re.findall(rf"(?<![가-힣])(?:{'|'.join(unwanted)})", text) == [], page
        links = re.findall(r"\]\(([^)#]+?)(?<!\.ko)\.md", text) if page.suffix == ".md" else []
        assert [name for name in links if (page.parent / f"{name}.ko.md").exists()] == [], page


def test_the_site_is_built_without_a_broken_link():
    succeed(sys.executable, SITE / "build.py")
    for language, folder, up in (("en", "site", "../.."), ("ko", "site/ko", "../../..")):
        page = (PROJECT / folder / "reference/contract/index.html").read_text("utf-8")
        assert f'lang="{language}"' in page
        assert f'href="{up}/ko/reference/contract/"' in page
        assert f'href="{up}/reference/contract/"' in page


def test_the_pictures_show_what_is_there_now():
    """They are taken anew by `python docs/site/screenshots.py`."""
    shots = program("screenshots")
    kept = json.loads((shots.IMAGES / "sources.json").read_text("utf-8"))
    assert kept == {name: shots.digest(name) for name in shots.SHOWN}
    assert all((shots.IMAGES / f"{name}.png").stat().st_size < 200_000 for name in kept)
