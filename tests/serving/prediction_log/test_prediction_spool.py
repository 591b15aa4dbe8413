import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlops_for_mle.predictor import Predictions
from mlops_for_mle.serving.identifiers import new_prediction_id
from mlops_for_mle.serving.prediction_log.frames import (
    FrameError,
    PredictionFrame,
    ReleaseFrame,
    describe_predictions,
    describe_release,
    framed,
    read_frames,
)
from mlops_for_mle.serving.prediction_log.lines import COLUMNS, LineWriter
from mlops_for_mle.serving.prediction_log.spool import PredictionSpool, SpoolFullError
from mlops_for_mle.serving.recording import AnsweredPredictions
from tests.releases import mixed_release
from tests.serving.conftest import wait_until

MEGABYTE = 1024 * 1024


def answered(release, rows=1, request_id=None, **changes) -> AnsweredPredictions:
    random = np.random.default_rng(rows)
    width = len(release.manifest.contract.features)
    is_classifier = release.manifest.contract.target.task == "classification"
    values = random.integers(0, 3, rows) if is_classifier else random.uniform(0, 9, rows)
    facts = {
        "prediction_id": new_prediction_id(),
        "answered_at": time.time_ns(),
        "manifest": release.manifest,
        "rows": random.uniform(1, 9, (rows, width)),
        "predictions": Predictions(
            values, random.dirichlet(np.ones(3), rows) if is_classifier else None
        ),
        "latency_seconds": 0.0012,
        "request_id": request_id,
    }
    return AnsweredPredictions(**(facts | changes))


def release_frame(one: AnsweredPredictions) -> bytes:
    return framed(describe_release(one.manifest))


def prediction_frame(one: AnsweredPredictions) -> bytes:
    return framed(describe_predictions(one))


def append(spool: PredictionSpool, one: AnsweredPredictions) -> None:
    spool.append(one.manifest.release, release_frame(one), prediction_frame(one))


def fill(spool: PredictionSpool, release) -> None:
    for _ in range(10_000):
        append(spool, answered(release))


def ids(segments: list[Path]) -> list[str]:
    frames = [frame for segment in segments for frame in read_frames(segment)]
    return [frame.prediction_id for frame in frames if isinstance(frame, PredictionFrame)]


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(root) -> PredictionSpool:
    opened = PredictionSpool(root, MEGABYTE, "never")
    opened.open()
    return opened


def test_frames_come_back_as_they_were_written(spool, iris, houses):
    given = [answered(iris, 1), answered(houses, 3), answered(iris, 2, request_id="first")]
    for one in given:
        append(spool, one)
    spool.seal()

    [segment] = spool.own_segments()
    frames = list(read_frames(segment))

    assert [type(frame) for frame in frames] == [
        ReleaseFrame,
        PredictionFrame,
        ReleaseFrame,
        PredictionFrame,
        PredictionFrame,
    ]
    assert frames[0].features == iris.manifest.contract.feature_names
    assert frames[0].labels == {0: "setosa", 1: "versicolor", 2: "virginica"}
    assert frames[2].features == ("방 수", "area m2")
    assert np.frombuffer(frames[3].rows).tolist() == given[1].rows.ravel().tolist()
    assert np.frombuffer(frames[3].values).tolist() == given[1].predictions.values.tolist()
    assert frames[4].request_id == "first"


def test_every_segment_describes_its_releases_itself(spool, iris):
    for _ in range(2):
        append(spool, answered(iris))
        spool.seal()

    for segment in spool.own_segments():
        assert isinstance(next(read_frames(segment)), ReleaseFrame)


@pytest.mark.parametrize("missing", [1, 5, 40])
def test_a_record_that_a_kill_has_torn_is_recognised_and_the_others_are_read(spool, iris, missing):
    one, other = answered(iris), answered(iris)
    append(spool, one)
    append(spool, other)
    spool.seal()
    [segment] = spool.own_segments()
    os.truncate(segment, segment.stat().st_size - missing)

    read = []
    with pytest.raises(FrameError) as caught:
        read.extend(read_frames(segment))

    assert caught.value.is_torn
    kept = segment.read_bytes()[: caught.value.offset]
    segment.write_bytes(kept)
    assert ids([segment]) == [one.prediction_id]


@pytest.mark.parametrize("zeros", [8, 4096])
def test_an_altered_or_zeroed_record_is_no_torn_one(spool, iris, zeros):
    append(spool, answered(iris))
    spool.seal()
    [segment] = spool.own_segments()
    content = bytearray(segment.read_bytes())

    segment.write_bytes(content + bytes(zeros))
    with pytest.raises(FrameError) as caught:
        list(read_frames(segment))
    assert not caught.value.is_torn
    assert caught.value.offset == len(content)

    content[-20] ^= 1
    segment.write_bytes(content)
    with pytest.raises(FrameError) as caught:
        list(read_frames(segment))
    assert not caught.value.is_torn


def test_the_bound_holds_and_shipping_makes_room(root, iris):
    spool = PredictionSpool(root, 65536, "never")
    spool.open()
    with pytest.raises(SpoolFullError, match="MLOPS_SPOOL_MAX_BYTES"):
        fill(spool, iris)

    stored = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert 65536 - 1000 < stored == spool.stored_bytes <= 65536
    segments = spool.own_segments()
    assert len(segments) > 4

    spool.discard(segments[0])
    append(spool, answered(iris))


def test_other_processes_count_against_the_bound(root, iris):
    first, second = (PredictionSpool(root, 65536, "never") for _ in range(2))
    first.open()
    for _ in range(200):
        append(first, answered(iris))
    second.open()

    assert second.stored_bytes == first.stored_bytes > 0
    with pytest.raises(SpoolFullError):
        append(second, answered(iris, 1200))


@pytest.mark.parametrize("sync", ["never", "every_second", "always"])
def test_a_closed_spool_keeps_nothing_and_leaves_what_is_unshipped(root, iris, sync):
    spool = PredictionSpool(root, MEGABYTE, sync)
    spool.open()
    one = answered(iris)
    append(spool, one)
    spool.sync()
    spool.close()
    with pytest.raises(SpoolFullError, match="closed"):
        append(spool, answered(iris))

    next_one = PredictionSpool(root, MEGABYTE, sync)
    next_one.open()
    assert next_one.adopt() == 1
    assert ids(next_one.adopted_segments()) == [one.prediction_id]


def test_nothing_stays_behind_when_everything_was_shipped(spool, root, iris):
    append(spool, answered(iris))
    spool.seal()
    for segment in spool.own_segments():
        spool.discard(segment)
    assert spool.stored_bytes == 0
    assert not spool.has_waiting()

    spool.close()

    assert [path.name for path in root.iterdir()] == ["lock"]


WRITER = """
import sys, time
from pathlib import Path
from mlops_for_mle.serving.prediction_log.spool import PredictionSpool
spool = PredictionSpool(Path(sys.argv[1]), 1 << 20, "never")
spool.open()
spool.append("release", b"described ", b"appended")
print("done", flush=True)
time.sleep(60)
"""


def test_a_killed_process_is_taken_over_by_one_and_a_living_one_by_nobody(root):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "done\n"
        living = [PredictionSpool(root, MEGABYTE, "never") for _ in range(2)]
        for one in living:
            one.open()
            assert one.adopt() == 0
    finally:
        writer.kill()
        writer.wait()

    taken = [wait_until(living[0].adopt), living[1].adopt()]

    assert taken == [1, 0]
    [segment] = living[0].adopted_segments()
    assert segment.read_bytes() == b"described appended"
    assert living[1].adopted_segments() == []


def test_a_disk_that_takes_no_more_refuses_and_what_was_kept_stays_readable(root, iris):
    spool = PredictionSpool(root, MEGABYTE, "never")
    spool.open()
    one = answered(iris)
    append(spool, one)
    import resource
    import signal

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (spool.stored_bytes + 50, limit[1]))
        with pytest.raises(SpoolFullError, match="cannot be written"):
            append(spool, answered(iris))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    other = answered(iris)
    append(spool, other)
    spool.seal()

    assert ids(spool.own_segments()) == [one.prediction_id, other.prediction_id]


def test_a_clients_request_id_is_made_storable(iris):
    frame = prediction_frame(answered(iris, request_id="a\x00b\x01\n" + "x" * 500))

    content = release_frame(answered(iris)) + frame
    assert b"a\xef\xbf\xbdb\xef\xbf\xbd\xef\xbf\xbdx" in content
    assert len(frame) < 500


def test_a_line_is_written_for_each_row(spool, houses):
    append(spool, answered(houses, 2, answered_at=1_700_000_000_123_456_789))
    spool.seal()
    release, predictions = read_frames(spool.own_segments()[0])

    lines = [line.split(b"\x02") for line in LineWriter(release).lines(predictions)]

    assert [line[0].decode() for line in lines] == [
        f"{predictions.prediction_id}-{index}" for index in range(2)
    ]
    assert {line[4] for line in lines} == {b"2023-11-14 22:13:20.123456+00"}
    assert {line[5] for line in lines} == {b"1.2"}
    assert all('{"방 수":'.encode() in line[9] for line in lines)
    assert {line[10] for line in lines} == {b""}


@pytest.mark.parametrize("name", ["iris", "houses", "mixed"])
def test_a_request_of_one_row_has_the_same_line_as_a_frame_of_that_row(name, request):
    release = mixed_release() if name == "mixed" else request.getfixturevalue(name)
    one = answered(release, request_id="order \x02 17")
    if name == "mixed":
        one = one._replace(given=[list(release.manifest.example.rows[0])])
    writer = LineWriter(describe_release(release.manifest))

    line = writer.line(one)

    assert [line] == list(writer.lines(describe_predictions(one)))
    assert line.count(b"\x02") == len(COLUMNS) - 1
