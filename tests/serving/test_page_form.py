"""The page's form for a contract with every type of column, in headless Chromium."""

from collections.abc import Iterator

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.releases import mixed_release
from tests.serving.conftest import wait_until
from tests.serving.test_page import Browser, needs_chromium

pytestmark = [pytest.mark.integration, needs_chromium]


@pytest.fixture
def page() -> Iterator[Browser]:
    browser = Browser("ko-KR", 1200)
    yield browser
    browser.driver.quit()


def test_each_type_has_its_own_field_and_what_is_empty_is_missing(page, start_serving):
    server = start_serving(mixed_release(), MLOPS_MODEL="churn")
    page.open(server)
    wait_until(lambda: page.text("#prediction") in ("유지", "해지"), 15)
    plan, channel, region = (page.find(f"#field-{place}") for place in (4, 5, 6))
    is_new, joined, seen = (page.find(f"#field-{place}") for place in (3, 7, 8))

    assert [one.text for one in Select(plan).options] == ["기본", "plus", "it's max"]
    assert [one.text for one in Select(is_new).options] == ["(없음)", "예", "아니요"]
    assert [one.text for one in Select(region).options] == ["(없음)", "30", "10", "20"]
    assert channel.get_attribute("type") == "text"
    assert joined.get_attribute("type") == "date"
    assert joined.get_attribute("min") == "2000-01-01"
    assert seen.get_attribute("type") == "datetime-local"

    Select(plan).select_by_visible_text("plus")
    Select(is_new).select_by_visible_text("예")
    Select(region).select_by_visible_text("(없음)")
    page.type("#field-5", "fax")
    page.driver.execute_script(
        "for (const [id, value] of [['field-0', ''], ['field-7', '2025-03-01'], ['field-8', '']]) {"
        "const one = document.getElementById(id); one.value = value;"
        "one.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    page.find("#keep").click()
    page.until("#kept", "-7")

    recent = f"{server.url}/predictions/recent"
    (kept,) = wait_until(lambda: httpx.get(recent).json()["predictions"])
    features = kept["features"]
    assert features['the "plan"'] == "plus"
    assert features["is new"] is True
    assert features["region code"] is None
    assert features["channel"] == "fax"
    assert features["월 요금"] is None
    assert features["가입일"] == "2025-03-01"
    assert features["last seen"] is None
    page.until("#recent", "fax")
    page.until("#legend", kept["label"])
    assert page.driver.find_elements(By.CSS_SELECTOR, "#chart svg rect[class^=fill]")
    assert page.complaints() == []
