"""The page in headless Chromium, against a server that runs as a process."""

import os
import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from mlops_for_mle.releases.store import ReleaseStore
from mlops_for_mle.serving.keys import KeyFile
from mlops_for_mle.serving.page import FOLDER
from tests import PROJECT
from tests.releases import iris_release, trained_iris_release
from tests.servers import eventually, free_port
from tests.serving.conftest import IRIS_ROW, Database, ServerProcess, server_processes, wait_until
from tests.serving.monitored import record_run

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")

FILL = """
for (const [selector, value] of arguments[0]) {
  const field = document.querySelector(selector);
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}
"""


class Browser(webdriver.Chrome):
    """A window of headless Chromium."""

    def __init__(self, language: str, width: int) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        flags = "headless=new no-first-run disable-background-networking disable-dev-shm-usage"
        sandbox = " no-sandbox" if os.geteuid() == 0 else ""
        for flag in f"{flags} lang={language} window-size={width},900{sandbox}".split():
            options.add_argument(f"--{flag}")
        options.add_experimental_option("prefs", {"intl.accept_languages": language})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if width < 500:
            metrics = {"width": width, "height": 900, "pixelRatio": 2, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        # One that the driver chooses by itself may be taken before it listens.
        super().__init__(options=options, service=Service(DRIVER, port=free_port()))

    def open(self, server: ServerProcess, path: str = "/") -> None:
        self.get(server.url + path)

    def find(self, selector: str) -> WebElement:
        return self.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        return self.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        # In one step, since the page replaces its parts at any time.
        script = "return document.querySelector(arguments[0])?.textContent ?? ''"
        return str(self.execute_script(script, selector))

    def until(self, selector: str, words: str) -> None:
        said = eventually(lambda: words in self.text(selector))
        assert said, f"{selector} says {self.text(selector)!r}, not {words!r}"

    def type(self, selector: str, words: str) -> None:
        field = self.find(selector)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(words)

    def fill(self, *values: tuple[str, str]) -> None:
        """Set fields one after the other, faster than anybody types."""
        self.execute_script(FILL, values)

    def complaints(self) -> list[str]:
        """What the browser's console holds: errors, refused sources, failed requests."""
        return [one["message"] for one in self.get_log("browser")]

    def requests(self) -> set[str]:
        """What the page that is open has asked for."""
        script = "return performance.getEntriesByType('resource').map((one) => one.name)"
        return {self.current_url, *self.execute_script(script)}


@pytest.fixture(scope="module")
def browse() -> Iterator[Callable[..., Browser]]:
    """Opens one browser of each kind; what it keeps, it keeps for one server."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    opened: dict[tuple[str, int], Browser] = {}

    def browse(language: str = "en-US", width: int = 1200) -> Browser:
        kind = (language, width)
        opened[kind] = found = opened.get(kind) or Browser(*kind)
        found.get("about:blank")
        found.complaints()
        return found

    yield browse
    for one in opened.values():
        one.quit()


@pytest.fixture(scope="module")
def server(tmp_path_factory, module_database_url: str) -> Iterator[ServerProcess]:
    """A server of iris, version 2, which was version 1 before; its tests leave it as it was."""
    folder = tmp_path_factory.mktemp("page")
    database, store = Database(module_database_url), ReleaseStore(str(folder / "data/releases"))
    for release in (iris_release(1), trained_iris_release(version=2)):
        store.publish(release)
        database.deploy(release, reason=f"because of {release.manifest.version}")
    with server_processes(folder) as start:
        process = start(DATABASE_URL=module_database_url, MLOPS_LOG_LEVEL="debug")
        process.wait_until_ready()
        yield process


def recent(server: ServerProcess) -> list[dict]:
    return server.get("/predictions/recent").json()["predictions"]


def test_the_form_predicts_while_somebody_types_says_why_and_keeps_only_what_is_sent(
    browse, server
):
    def posts(path: str) -> int:
        return server.output.count(f"POST {path} answered")

    page = browse()
    page.open(server)
    page.until("#prediction", "versicolor")
    # It begins with a flower like those that the model has learned from.
    assert page.text("#outside") == ""
    page.until("#explanation h3", "Why this answer")
    assert page.text("#status") == "Ready"
    assert page.text("#in-service") == "iris, version 2"
    assert "because of 2" in page.text("#service")
    assert page.find("#field-0").get_attribute("max") == "10"
    assert "0 to 10" in page.text("#field-0-hint")
    page.type("#field-3", "0.1")
    page.fill(*[("#field-2", "5.7"), ("#field-2", "1.0")] * 50)
    page.until("#prediction", "setosa")
    page.until("#explanation .hint", "mean probability of setosa is ")
    assert posts("/explain") < 10
    page.type("#field-3", "9.5")
    page.until("#outside", "trained on: ")
    for index, value in enumerate(IRIS_ROW.values()):
        page.type(f"#field-{index}", str(value))
    wait_until(lambda: page.text("#outside") == "")
    page.until("#explanation .bars span", "petal_")
    assert len(page.find_all("#explanation .bars svg")) == 4
    assert posts("/predict") == 0
    assert recent(server) == []

    # As a key does that is held down.
    page.execute_script("for (const _ of 'abc') document.querySelector('#form').requestSubmit()")
    page.until("#kept", "Kept as ")
    assert posts("/predict") == 1
    page.until("#recent", "virginica")
    (kept,) = recent(server)
    assert kept["prediction_id"] in page.text("#kept")
    assert kept["features"] == IRIS_ROW
    page.until("#legend", "virginica 1")
    assert page.find_all("#chart svg rect.fill-2")
    asked = page.requests()
    page.open(server, "/docs")
    page.until("body", "/deployments")
    # What is tried out goes there, behind a proxy's path too.
    page.until(".servers", server.url)
    asked |= page.requests()
    assert len(asked) > 6
    assert all(one.startswith((server.url, "data:")) for one in asked)
    assert page.complaints() == []


def test_a_failed_request_is_told_until_one_is_answered_and_what_is_unchanged_keeps_the_focus(
    browse, server
):
    def asked() -> int:
        script = "return performance.getEntriesByName(location.origin + '/deployments').length"
        return page.execute_script(script)

    page = browse()
    page.open(server)
    page.until("#prediction", "versicolor")
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/explain", "*/ready"]})
    page.type("#field-0", "6.5")
    page.until("#answer", "No answer")
    page.until("#status", "No answer")
    page.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.until("#status", "Ready")
    page.until("#prediction", "versicolor")
    assert page.text("#notices") == ""
    assert page.switch_to.active_element.get_attribute("id") == "field-0"

    page.until("#versions button", "Roll back")
    page.execute_script("document.querySelector('#versions button').id = 'focused'")
    before = asked()
    page.find("#key-button").click()
    page.find("#key-dialog [type=submit]").click()
    wait_until(lambda: asked() > before)
    page.until("#focused", "Roll back")


def test_a_person_rolls_back_with_an_admin_key_and_then_gives_a_key_to_go_on(
    browse, start_serving, database, settings, iris, iris_second
):
    server, page = start_serving(iris, iris_second), browse()
    page.open(server)
    page.until("#versions", "0.97")
    page.find("#back").click()
    assert iris.manifest.release in page.text("#rollback-what")
    keys = KeyFile(settings.api_keys_file)
    weak, admin = keys.create("weak", ["predict"]), keys.create("kim", ["admin"])
    reader = keys.create("reader", ["predict", "write"])
    page.execute_script("sessionStorage.setItem('api-key', arguments[0])", reader)
    wait_until(lambda: server.get("/model").status_code == 401)

    def confirm(key: str) -> None:
        for field, words in (("reason", "it drifts"), ("key", key)):
            page.find(f"#rollback-{field}").clear()
            page.find(f"#rollback-{field}").send_keys(words)
        page.find("#rollback [type=submit]").click()

    confirm(weak)
    page.until("#rollback-error", "scope admin")
    # What is confirmed is what was shown, also where the page has noticed more meanwhile.
    number = database.deploy(iris_second)
    wait_until(lambda: page.find_all(f"#history [data-deployment='{number}']"))
    confirm(admin)
    page.until("#rollback-error", "has come in between")
    page.find("#rollback [data-close]").click()
    page.find("#back").click()
    confirm(admin)

    # First, for this is told for a moment.
    page.until("#notices", f"Rolled back to {iris.manifest.release}")
    page.until("#in-service", "version 1")
    page.until("#history li:first-child", "it drifts")
    assert "API key kim" in page.text("#history li:first-child")
    newest = database.history()[0]
    assert (newest.event, newest.release) == ("rollback", iris.manifest.release)
    assert admin not in page.execute_script("return JSON.stringify(sessionStorage)")
    assert admin not in server.output

    page.execute_script("sessionStorage.clear()")
    page.refresh()
    page.until("#need-key", "needs an API key")
    # Ready it is, and of what is in service a stranger is told nothing, not that it is nothing.
    page.until("#service", "needs an API key")
    page.find("#need-key button").click()
    page.find("#key-value").send_keys(reader)
    page.find("#key-dialog [type=submit]").click()
    page.until("#prediction", "virginica")
    page.until("#recent", "No prediction")
    page.until("#notices", "")


def test_a_regression_gets_its_own_form_and_chart(browse, start_serving, houses):
    server = start_serving(houses)
    for area in (50, 150):
        server.predict({"방 수": 3, "area m2": area})
    page = browse()
    page.open(server)

    page.until("label[for=field-0]", "방 수")
    page.fill(("#field-0", "3"), ("#field-1", "100"))
    page.until("#prediction", "230")
    page.type("#field-0", "2.5")
    page.until("#field-0-error", "whole number")
    page.until("#legend", "Mean")
    # With both rows: the page may have asked before the second was in the table.
    wait_until(lambda: page.find_all("#chart polygon.band"))
    assert page.complaints() == []


def test_each_type_has_its_own_field_in_the_browsers_language_also_on_a_phone(
    browse, start_serving, mixed
):
    server = start_serving(mixed)
    page = browse("ko-KR", 320)
    page.open(server)
    wait_until(lambda: page.text("#prediction") in ("유지", "해지"))
    page.until("#status", "준비됨")
    page.until("#explanation h3", "이렇게 예측한 이유")
    assert page.find("html").get_attribute("lang") == "ko"
    plan, channel, region = (page.find(f"#field-{place}") for place in (4, 5, 6))
    is_new, joined, seen = (page.find(f"#field-{place}") for place in (3, 7, 8))

    for field, choices in (
        (plan, ["기본", "plus", "it's max"]),
        (is_new, ["(없음)", "예", "아니요"]),
        (region, ["(없음)", "30", "10", "20"]),
    ):
        assert [one.text for one in Select(field).options] == choices
    kinds = [one.get_attribute("type") for one in (channel, joined, seen)]
    assert kinds == ["text", "date", "datetime-local"]
    assert joined.get_attribute("min") == "2000-01-01"

    Select(plan).select_by_visible_text("plus")
    Select(is_new).select_by_visible_text("예")
    Select(region).select_by_visible_text("(없음)")
    page.type("#field-5", "fax")
    page.type("#field-0", "1e")
    page.until("#field-0-error", "숫자")
    page.fill(("#field-0", ""), ("#field-7", "2025-03-01"), ("#field-8", ""))
    # The button moves when the message goes and the answer comes.
    wait_until(lambda: page.text("#prediction") in ("유지", "해지"))
    page.find("#keep").click()
    page.until("#kept", "-7")

    (kept,) = wait_until(lambda: recent(server))
    features = kept["features"]
    expected = {'the "plan"': "plus", "is new": True, "channel": "fax", "가입일": "2025-03-01"}
    expected |= dict.fromkeys(("region code", "월 요금", "last seen"))
    assert features == features | expected
    page.until("#recent", "fax")
    page.until("#legend", kept["label"])
    page.find("#language").click()
    assert page.text("#try-title") == "Try it"
    page.refresh()
    page.until("#status", "Ready")
    page.until("#versions", "0.97")
    assert page.execute_script("return document.documentElement.scrollWidth") == 320
    assert page.complaints() == []


def test_the_state_that_monitoring_has_found_is_shown(browse, server, module_database_url):
    page, database = browse(), Database(module_database_url)
    page.open(server)
    page.until("#monitoring", "kedro run --pipeline monitoring")
    for state in ("healthy", "warning", "insufficient"):
        record_run(database, status=state)
    record_run(database, reasons=("Feature <b>petal_length</b> has drifted.",))
    database.run("INSERT INTO monitoring_reports VALUES ('iris', '<p>whole')")
    page.refresh()

    page.until("#monitoring-status", "Alarm")
    page.until("#monitoring", "500 predictions of")
    page.until("#monitoring tr.alarm", "Drift (stability index)")
    page.until("#monitoring tbody tr:nth-child(1)", "91")
    page.until("#monitoring tbody tr:nth-child(2)", "Accuracy, estim")
    page.until("#monitoring tbody tr:nth-child(2)", "87.3")
    assert page.text("#monitoring-reasons") == "Feature <b>petal_length</b> has drifted."
    squares = page.find_all("#monitoring .squares li")
    states = [one.get_attribute("data-status") for one in squares]
    assert states == ["healthy", "warning", "insufficient", "alarm"]
    page.find("#language").click()
    page.until("#monitoring-status", "경보")
    page.until("#monitoring", "예측 500건")
    page.until("#monitoring tbody tr:nth-child(2)", "정확도(추정)")
    page.find("#report").click()
    assert page.complaints() == []


def test_both_languages_have_every_text():
    source = (FOLDER / "texts.js").read_text("utf-8")
    english, korean = re.search(r"en: \{(.*?)\n  \},\n  ko: \{(.*?)\n  \},", source, re.S).groups()

    def texts(block: str) -> dict[str, set[str]]:
        return {
            name: set(re.findall(r"\{(\w+)\}", words))
            for name, words in re.findall(r'^    (\w+): "(.*)",$', block, re.M)
        }

    assert len(texts(english)) > 50
    assert texts(english) == texts(korean)


def test_every_figure_of_monitoring_that_the_page_names_is_measured():
    named = re.search(
        r"const METRICS = \{(.*?)\}", (FOLDER / "monitoring.js").read_text("utf-8"), re.S
    )
    folder = PROJECT / "src/mlops_for_mle/pipelines/monitoring"
    measured = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))

    names = re.findall(r"(\w+):", named[1])
    assert names
    assert [one for one in names if f'"{one.removesuffix("_fraction")}"' not in measured] == []


def test_the_page_may_lie_below_any_path_of_a_proxy():
    for path in (*FOLDER.rglob("*.html"), *FOLDER.rglob("*.js")):
        assert not re.search(r'(href=|src=|url: |ask\()"/', path.read_text("utf-8")), path
