"""What part 4 must do: tests that find bad models, a history that goes back, and routers."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import yaml

from course.conftest import not_copied
from course.hints import hint

GOOD = json.loads(Path(__file__).parents[1].joinpath("starter/candidate.json").read_text("utf-8"))
FLOWER = (6.7, 3.3, 5.7, 2.1)
BAD_MODELS = {
    "answers_one_class_only": {"1": GOOD["centroids"]["1"]},
    "is_blind_for_a_class": {"0": GOOD["centroids"]["0"], "1": GOOD["centroids"]["1"]},
    "exchanges_two_classes": {
        **GOOD["centroids"],
        "1": GOOD["centroids"]["2"],
        "2": GOOD["centroids"]["1"],
    },
    "answers_a_class_that_is_none": {**GOOD["centroids"], "7": [6.0, 3.0, 4.8, 1.8]},
}


def with_centroids(path: Path, centroids: dict) -> Path:
    """Write a model file."""
    path.write_text(json.dumps({"centroids": centroids}), "utf-8")
    return path


PASS_FIRST = (
    "pytest test_candidate.py must pass for candidate.json and iris.csv, before it is tried on bad ones.",
    "나쁜 모델과 행에 시험하기 전에, candidate.json과 iris.csv에 대해 pytest test_candidate.py가 통과해야 합니다.",
)


@pytest.fixture(scope="session")
def failures(work: Path):
    """Runs the learner's tests on a model and rows; gives what pytest says of those that fail."""

    @cache
    def run(**variables: str) -> list[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        # Plugins of other tests take longer to import than all of it.
        command += ["--disable-plugin-autoload", "--rootdir", str(work), "-c", os.devnull]
        finished = subprocess.run(
            [*command, "test_candidate.py"],
            cwd=work,
            env={**os.environ, "CANDIDATE": "candidate.json", "ROWS": "iris.csv", **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        said = [one for one in finished.stdout.splitlines() if one.startswith(("FAILED", "ERROR"))]
        return said or [f"exit status {finished.returncode}"] * bool(finished.returncode)

    return run


@pytest.fixture
def models(tmp_path: Path):
    """Three model files; the first answers the flower with 2, the second with 1, the third with 0."""
    centroids = dict(GOOD["centroids"])
    return [
        with_centroids(tmp_path / f"{code}.json", {code: centroids[code]})
        for code in ("2", "1", "0")
    ]


def test_your_tests_pass_for_a_good_model(failures):
    with hint(*PASS_FIRST):
        assert failures() == []


@pytest.mark.parametrize("name", BAD_MODELS)
def test_your_tests_find_a_model_that(failures, tmp_path, name):
    path = with_centroids(tmp_path / "bad.json", BAD_MODELS[name])
    with hint(*PASS_FIRST):
        assert failures() == []
    with hint(
        f"A model that {name.replace('_', ' ')} passes your tests. Test each class by itself, not only the mean.",
        "잘못된 모델이 여러분의 테스트를 통과합니다. 평균만이 아니라 클래스마다 따로 테스트하십시오.",
    ):
        assert failures(CANDIDATE=str(path))


@pytest.mark.parametrize(
    "line", ["-5.1,3.5,1.4,0.2,0", "5.1,3.5,140,0.2,0", "5.1,3.5,1.4,0.2,3"], ids=str
)
def test_your_tests_find_bad_rows(failures, tmp_path, work: Path, line):
    rows = tmp_path / "rows.csv"
    rows.write_text((work / "iris.csv").read_text("utf-8").rstrip() + f"\n{line}\n", "utf-8")
    with hint(*PASS_FIRST):
        assert failures() == []
    with hint(
        f"The row {line} passes your tests of the data: every length is above 0 and at most 30, every class known.",
        f"행 {line}이 데이터 테스트를 통과합니다. 모든 길이는 0보다 크고 30 이하이며, 클래스는 알려진 것이어야 합니다.",
    ):
        assert failures(ROWS=str(rows))


def test_a_release_is_named_by_its_content_and_never_changes(learner, tmp_path, models):
    folder = tmp_path / "releases"
    with hint(
        "The same file must get the same name, another file another one, and what was changed must be refused.",
        "같은 파일은 같은 이름을, 다른 파일은 다른 이름을 받아야 하고, 바뀐 릴리스는 거부해야 합니다.",
    ):
        releases = learner.releases
        first, again, other = (releases.publish(models[place], folder) for place in (0, 0, 1))
        assert (first == again, first == other) == (True, False)
        assert releases.load(first, folder).predict(FLOWER) == 2
        (folder / f"{first}.json").write_text(models[2].read_text("utf-8"), "utf-8")
        with pytest.raises(ValueError, match=r"\w"):
            releases.load(first, folder)


def test_rolling_back_twice_goes_back_twice(learner, tmp_path, models):
    folder = tmp_path / "releases"
    with hint(
        "After A, B, C the first rollback serves B, the second A, and a third is refused.",
        "A, B, C를 배포한 뒤 첫 번째 롤백은 B를, 두 번째는 A를 서빙하고, 세 번째는 거부해야 합니다.",
    ):
        releases = learner.releases
        names = [releases.publish(path, folder) for path in models]
        for name in names:
            releases.deploy(name, folder)
        assert releases.served(folder) == names
        assert [releases.rollback(folder) for _ in range(2)] == [names[1], names[0]]
        with pytest.raises(ValueError, match=r"\w"):
            releases.rollback(folder)
        assert releases.served(folder) == names[:1]


def test_what_cannot_be_loaded_is_not_deployed(learner, tmp_path, models):
    folder = tmp_path / "releases"
    with hint(
        "deploy() must load the release before it is recorded: a broken file is found by you, not by a customer. "
        "Where there is no history yet, served() gives [].",
        "deploy()는 기록하기 전에 릴리스를 불러와야 합니다. 깨진 파일은 고객이 아니라 여러분이 찾아야 합니다. "
        "이력이 아직 없으면 served()는 []를 돌려줍니다.",
    ):
        name = learner.releases.publish(models[0], folder)
        (folder / f"{name}.json").write_text("{", "utf-8")
        with pytest.raises(ValueError, match=r"\w"):
            learner.releases.deploy(name, folder)
        assert learner.releases.served(folder) == []


def test_half_a_line_of_the_history_costs_nothing_else(learner, tmp_path, models):
    folder = tmp_path / "releases"
    with hint(
        "A process was killed while it wrote a line. That line never was, and the next one must not be glued to it.",
        "한 줄을 쓰다가 프로세스가 죽었습니다. 그 줄은 없던 것이고, 다음 줄이 거기에 붙어서도 안 됩니다.",
    ):
        releases = learner.releases
        first, second = (releases.publish(path, folder) for path in models[:2])
        releases.deploy(first, folder)
        history = folder / "deployments.jsonl"
        history.write_bytes(history.read_bytes().rstrip() + b'\n{"event": "dep')
        assert releases.served(folder) == [first]
        releases.deploy(second, folder)
        assert releases.served(folder) == [first, second]


@pytest.fixture
def router(learner, models):
    """A router with a champion that answers 2 and a candidate that answers 1."""
    found = {
        name: learner.releases.read_model(path) for name, path in zip("AB", models, strict=False)
    }
    return learner.router.Router(found, "A", "B")


def test_a_canary_answers_its_share_of_customers(router):
    customers = [f"customer {number}" for number in range(2000)]
    router.share = 0.1
    with hint(
        "With share 0.1 the candidate must answer about a tenth of the customers.",
        "share가 0.1이면 후보가 고객의 약 10%에 응답해야 합니다.",
    ):
        by_candidate = [router.answer(one, FLOWER).release == "B" for one in customers]
        assert 140 <= sum(by_candidate) <= 260


def test_a_customer_is_always_answered_by_the_same_release(router, program):
    customers = [f"customer {number}" for number in range(50)]
    router.share = 0.5
    with hint(
        "Choose by a hash of the customer, not by chance; Python's hash() differs from process to process.",
        "무작위가 아니라 고객의 해시로 고르십시오. Python의 hash()는 프로세스마다 다릅니다.",
    ):
        first = [router.answer(one, FLOWER).release for one in customers]
        assert first == [router.answer(one, FLOWER).release for one in customers]
        assert set(first) == {"A", "B"}
        script = (
            "from releases import Model; from router import Router; m = Model({1: (0, 0, 0, 0)}); "
            "r = Router({'A': m, 'B': m}, 'A', 'B', 0.5); "
            "print(*(r.answer(f'customer {n}', (1, 1, 1, 1)).release for n in range(50)))"
        )
        assert program("-c", script, PYTHONHASHSEED="7").succeeds().split() == first


def test_a_shadow_is_compared_and_answers_nobody(router):
    router.shadow, router.share = True, 1.0
    with hint(
        "As a shadow, whatever `share` is, the candidate's answer must only be noted in `differences`: (customer, champion's class, candidate's class).",
        "섀도에서는 `share`와 관계없이 후보의 응답이 `differences`에 (고객, 챔피언의 클래스, 후보의 클래스)로 기록만 되어야 합니다.",
    ):
        assert router.answer("kim", FLOWER) == (2, "A")
        assert router.differences == [("kim", 2, 1)]


def test_a_shadow_that_fails_harms_nobody(router):
    class Broken:
        def predict(self, flower):
            raise RuntimeError("no memory")

    router.shadow, router.models["B"] = True, Broken()
    with hint(
        "The candidate raises an error as a shadow, and the customer gets it. Catch it, and say so.",
        "섀도의 후보가 일으킨 오류가 고객에게 전달됩니다. 오류를 잡아 기록하십시오.",
    ):
        assert router.answer("kim", FLOWER) == (2, "A")


def test_blue_and_green_are_exchanged_at_once_and_back(router):
    with hint(
        "switch() must make the candidate champion for everybody, and the former one stand by.",
        "switch()는 후보를 모두의 챔피언으로 만들고, 이전 챔피언은 대기하게 해야 합니다.",
    ):
        router.switch()
        assert router.answer("kim", FLOWER) == (1, "B")
        router.switch()
        assert router.answer("kim", FLOWER) == (2, "A")


def test_events_are_answered_whole_and_then_removed(learner, router, tmp_path):
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    outbox.mkdir()
    for name in ("a", "b"):
        (inbox / f"{name}.json").write_text(
            json.dumps({"customer": name, "flower": FLOWER}), "utf-8"
        )
    with hint(
        "drain() must write an answer for each request, under its name, and remove the request afterwards.",
        "drain()은 요청마다 같은 이름으로 응답을 쓰고, 그다음에 요청을 지워야 합니다.",
    ):
        assert learner.router.drain(inbox, outbox, router) == 2
        found = json.loads((outbox / "a.json").read_text("utf-8"))
        assert found == {"code": 2, "release": "A"}
        assert [path.name for path in outbox.iterdir() if not path.name.endswith(".json")] == []
        assert list(inbox.iterdir()) == []


def test_an_event_is_not_lost_when_answering_fails(learner, router, tmp_path):
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    outbox.write_text("a file, in which no answer can be put", "utf-8")
    (inbox / "a.json").write_text(json.dumps({"customer": "a", "flower": FLOWER}), "utf-8")
    with hint(
        "The answer could not be written, and the request was gone. Remove it only after its answer is there.",
        "응답을 쓰지 못했는데 요청이 사라졌습니다. 응답이 저장된 다음에만 요청을 지우십시오.",
    ):
        with suppress(OSError):
            learner.router.drain(inbox, outbox, router)
        assert [path.name for path in inbox.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("candidate", "champion", "accepted", "word"),
    [
        (0.93, 0.93, True, ""),
        (0.92, 0.93, True, ""),
        (0.90, 0.93, False, "champion"),
        (0.75, 0.5, False, "minimum"),
        (0.33, 0.33, False, "guessing"),
        (0.33, 0.93, False, "champion"),
    ],
    ids=[
        "as_good",
        "within_the_tolerance",
        "worse",
        "below_the_minimum",
        "no_better_than_guessing",
        "every_reason_is_told",
    ],
)
def test_the_gate_says_why(learner, candidate, champion, accepted, word):
    import pandas as pd

    rows = pd.DataFrame({"petal_length": [1.0] * 3, "target": [0, 1, 2]})
    with hint(
        f"Candidate {candidate}, champion {champion}: the gate must "
        f"{'accept' if accepted else f'refuse with a reason that says {word}'}.",
        f"후보 {candidate}, 챔피언 {champion}: 게이트는 "
        f"{'받아들여야' if accepted else f'{word}이 든 이유로 거부해야'} 합니다.",
    ):
        gate = {"minimum": 0.8, "tolerance": 0.02}
        decision = learner.gate.judge(candidate, champion, rows, gate)
        assert bool(decision["accepted"]) == accepted
        assert word in " ".join(decision["reasons"]).lower()


def test_the_gate_ends_with_a_status_that_a_machine_reads(program, typed, work: Path):
    with hint(
        "`python gate.py` must end with 0 for candidate.json, write decision.json, and end with 1 for a bad one.",
        "`python gate.py`는 candidate.json에 대해 0으로 끝나며 decision.json을 쓰고, 나쁜 후보에는 1로 끝나야 합니다.",
    ):
        typed("gate.py")
        assert json.loads((work / "decision.json").read_text("utf-8"))["accepted"] is True
        good = (work / "candidate.json").read_text("utf-8")
        try:
            with_centroids(work / "candidate.json", BAD_MODELS["answers_one_class_only"])
            refused = program("gate.py")
            assert refused.ends() == 1
            assert "guessing" in refused.output
        finally:
            (work / "candidate.json").write_text(good, "utf-8")


def test_the_workflow_runs_tests_and_gate(work: Path):
    workflow = yaml.safe_load((work / "ci.yml").read_text("utf-8"))
    with hint(
        "ci.yml must install Python and the packages, then run pytest and gate.py as steps of one job.",
        "ci.yml은 Python과 패키지를 설치한 다음 pytest와 gate.py를 한 작업의 단계로 실행해야 합니다.",
    ):
        (job,) = workflow["jobs"].values()
        uses = " ".join(step.get("uses", "") for step in job["steps"])
        assert re.search("setup-(python|uv)", uses)
        lines = "\n".join(step.get("run", "") for step in job["steps"]).splitlines()
        wanted = ("pip install", r"^(?!.*install).*\bpytest\b", r"\bgate\.py\b")
        found = [[n for n, line in enumerate(lines) if re.search(one, line)][:1] for one in wanted]
        assert all(found), lines
        assert found == sorted(found), lines


def test_the_image_holds_what_the_router_needs(dockerfile: str):
    with hint(
        "The image needs releases.py and router.py, a user of its own and a CMD.",
        "이미지에는 releases.py와 router.py, 별도의 사용자, CMD가 필요합니다.",
    ):
        assert not_copied(dockerfile, "releases.py", "router.py") == []
        for wanted in ("\nUSER ", "\nCMD "):
            assert wanted in dockerfile
