"""The commands of the course, from the project's folder.

``python -m course.part lay 1`` makes the folder ``work/part1`` that part 1 is written in, and
``python -m course.part check 1`` runs the part's checks on it; ``--solution`` checks ours instead.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from course.hints import say

COURSE = Path(__file__).parent


def parts() -> list[Path]:
    """The folders of the parts, in their order."""
    return sorted(COURSE.glob("part[1-9]_*"))


def part(number: int | str) -> Path:
    """The folder of one part.

    Raises:
        SystemExit: There is none; the message names those that there are.
    """
    found = [one for one in parts() if one.name.startswith(f"part{number}_")]
    if len(found) != 1:
        names = ", ".join(one.name[4] for one in parts())
        raise SystemExit(say(f"PART is one of {names}.", f"PART는 {names} 중 하나입니다."))
    return found[0]


def lay(folder: Path, chosen: Path, *, solved: bool = False) -> None:
    """Fill a folder with what a part begins from, and with its solution where that is wanted.

    ``needs.txt`` of the part lists what it takes of earlier parts: a path below ``course`` a line.
    """
    needs = chosen / "needs.txt"
    names = needs.read_text("utf-8").split() if needs.exists() else []
    # Else Kedro, called in this folder, writes messages of its own between the answers.
    (folder / "conf").mkdir(parents=True)
    shutil.copy(COURSE.parent / "conf/logging.yml", folder / "conf")
    for name in names:
        shutil.copy(COURSE / name, folder)
    for source in ("starter", "solution")[: 1 + solved]:
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(chosen / source, folder, ignore=unwanted, dirs_exist_ok=True)


def begin(number: str) -> None:
    """Lay ``work/partN`` unless it is there."""
    chosen, folder = part(number), Path("work", f"part{number}")
    if folder.exists():
        print(
            say(
                f"{folder} is there already, so nothing was changed. To begin anew, move it away.",
                f"{folder} 폴더가 이미 있어서 아무것도 바꾸지 않았습니다. 다시 시작하려면 폴더를 옮기십시오.",
            )
        )
        return
    lay(folder, chosen)
    readme = (chosen / say("README.md", "README.ko.md")).relative_to(COURSE.parent)
    print(f"{folder}: {' '.join(sorted(path.name for path in folder.iterdir()))}")
    print(say(f"Now read {readme}.", f"이제 {readme} 파일을 읽으십시오."))


def check(number: str, *options: str) -> int:
    """Run the checks of a part; gives the exit status."""
    checks = part(number) / "checks"
    settings = ["-c", str(COURSE / "pytest.ini"), "--part", number]
    status = int(pytest.main([*settings, *options, str(checks)]))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    sys.exit({"lay": begin, "check": check}[command](*arguments))
