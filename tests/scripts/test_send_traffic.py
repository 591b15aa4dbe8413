import runpy
import subprocess
import sys
from argparse import Namespace

import httpx
import pytest

from tests.conftest import PROJECT
from tests.mixed import MIXED_CONTRACT

SCRIPT = PROJECT / "scripts/send_traffic.py"


def test_what_is_tilted_is_a_number_and_has_a_power():
    command = [sys.executable, SCRIPT, "--tilt", "select"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "argument --tilt" in finished.stderr
    model = {"contract": MIXED_CONTRACT.model_dump(mode="json")}
    told = httpx.MockTransport(lambda _: httpx.Response(200, json=model))
    options = Namespace(tilt=("channel", 2.0), swap=None)
    with (
        httpx.Client(base_url="http://server", transport=told) as server,
        pytest.raises(SystemExit, match=r"--tilt: expected one of 월 요금, .*\(found channel\)"),
    ):
        runpy.run_path(str(SCRIPT))["send"](options, server)
