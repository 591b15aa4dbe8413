"""Builds the site into ``site/``, in English, and in Korean under ``site/ko``; `make docs` runs it.

A page in Korean is the file beside the English one that ends in ``.ko.md``. READMEs of the project
and of the course are pages too. Links that lead to no page are named only, since the site has no
source; a link to a page or heading that is missing ends the build.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
DOCS = PROJECT / "docs"
BUILD = PROJECT / "build/docs"
SITE = PROJECT / "site"

SECTIONS = {
    "Start": ("시작", ["README.md"]),
    "Course": ("과정", ["course/README.md", "course/part*/README.md"]),
    "How-to": ("방법 안내", ["docs/how-to/*.md", "docs/operations.md"]),
    "Reference": ("참조", ["docs/reference/*.md"]),
    "Why": ("설계 이유", ["docs/architecture.md", "docs/decisions/*.md"]),
}
ONLY_ENGLISH = "docs/decisions/"
_LINK = re.compile(r"(!?)\[([^\]]+)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_BLOCK = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def pages(section: str) -> list[Path]:
    """The English pages of a section in their order."""
    _, patterns = SECTIONS[section]
    found = [path for pattern in patterns for path in sorted(PROJECT.glob(pattern))]
    return [path for path in found if not path.name.endswith(".ko.md")]


def place(path: Path) -> str:
    """Where the site has a page."""
    inner = path.relative_to(DOCS if path.is_relative_to(DOCS) else PROJECT)
    return inner.as_posix().replace("README.md", "index.md")


def korean(path: Path) -> Path:
    """The Korean counterpart of a page."""
    return path.with_name(f"{path.stem}.ko{path.suffix}")


def without_counterpart() -> list[str]:
    """The pages that lack a Korean one, except decision records."""
    names = {path: path.relative_to(PROJECT).as_posix() for one in SECTIONS for path in pages(one)}
    return [name for path, name in names.items()
            if not name.startswith(ONLY_ENGLISH) and not korean(path).exists()]  # fmt: skip


def lay(language: str) -> list[str]:
    """Lay the pages of a language into a folder of their own; gives the lines of the navigation."""
    places = {path: place(path) for section in SECTIONS for path in pages(section)}
    places |= {korean(path): found for path, found in places.items()}
    navigation = ["nav:"]
    for section, (title, _) in SECTIONS.items():
        if pages(section):
            navigation.append(f"  - {title if language == 'ko' else section}:")
        for path in pages(section):
            source = korean(path) if language == "ko" and korean(path).exists() else path
            target = BUILD / language / places[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_with_links(source, places), "utf-8")
            navigation.append(f"    - {places[path]}")
    for image in DOCS.rglob("*.png"):
        target = BUILD / language / image.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
    return navigation


def build(language: str) -> None:
    """Build the site of a language."""
    lines = [
        *lay(language),
        f"docs_dir: {language}",
        f"site_dir: site-{language}",
        "extra:",
        "  alternate:",
        "    - {name: English, lang: en, link: /EN/}",
        "    - {name: 한국어, lang: ko, link: /KO/}",
    ]
    text = (HERE / "mkdocs.yml").read_text("utf-8")
    text = text.replace("theme:\n", f"theme:\n  language: {language}\n")
    configuration = BUILD / f"mkdocs.{language}.yml"
    configuration.write_text(text + "\n".join(lines) + "\n", "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr.partition('Traceback')[0]}")
    built = BUILD / f"site-{language}"
    for page in built.rglob("*.html"):
        # To the same page, wherever the site lies.
        here = page.parent.relative_to(built)
        up = "../" * (len(here.parts) + (language == "ko")) or "./"
        text = page.read_text("utf-8").replace('"/EN/"', f'"{up}{here}/"')
        page.write_text(text.replace('"/KO/"', f'"{up}ko/{here}/"'), "utf-8")
    built.rename(SITE if language == "en" else SITE / language)


def _with_links(path: Path, places: dict[Path, str]) -> str:
    def led(link: re.Match[str]) -> str:
        image, text, target, heading = link.groups()
        found = Path(os.path.normpath(path.parent / target))
        is_image = found.suffix == ".png" and found.is_relative_to(DOCS)
        there = place(found) if is_image else places.get(found) or places.get(found / "README.md")
        if there is None:
            return text
        here = Path(places[path]).parent
        return f"{image}[{text}]({os.path.relpath(there, here)}{heading or ''})"

    parts = _BLOCK.split(path.read_text("utf-8"))
    return "".join(one if one.startswith("```") else _LINK.sub(led, one) for one in parts)


if __name__ == "__main__":
    if missing := without_counterpart():
        sys.exit(f"No Korean page for: {', '.join(missing)}")
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    for one in ("en", "ko"):
        build(one)
