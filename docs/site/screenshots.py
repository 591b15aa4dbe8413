"""Takes the pictures of the documentation from the running project, with headless Chromium.

``python docs/site/screenshots.py`` makes a project of its own in a temporary folder, runs it, and
writes ``docs/images/*.png`` with the digest of what each picture shows, which a test compares.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PROJECT = Path(__file__).parents[2]
IMAGES = PROJECT / "docs/images"
SIZE = (1200, 1000)
FLOWER = {"sepal_length": 6.7, "sepal_width": 3.3, "petal_length": 5.7, "petal_width": 2.1}
TYPED = """
arguments[0].value = arguments[1];
arguments[0].dispatchEvent(new Event("input", {bubbles: true}));
arguments[0].dispatchEvent(new Event("change", {bubbles: true}));
"""
# What the pages of others show to those who come for the first time.
AFTER = {
    "viz": """
for (const one of document.querySelectorAll('[class*="feature-hint"], .update-reminder-unexpanded'))
  one.remove();
""",
    "mlflow": "document.querySelector('[aria-label=\"Close\"]')?.click()",
}

# What a picture shows is made by these; another picture is due when they have changed.
SHOWN = {
    "page": ("src/mlops_for_mle/serving/page/*.js", "src/mlops_for_mle/serving/page/*.css",
             "src/mlops_for_mle/serving/page/*.html"),
    "viz": ("src/mlops_for_mle/pipelines/*/pipeline.py", "src/mlops_for_mle/pipeline_registry.py"),
    "mlflow": ("src/mlops_for_mle/pipelines/training/pipeline.py",),
    "report": ("src/mlops_for_mle/pipelines/monitoring/report.*",),
}  # fmt: skip


def digest(name: str) -> str:
    """What the files are that a picture shows."""
    paths = [path for pattern in SHOWN[name] for path in sorted(PROJECT.glob(pattern))]
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


@contextmanager
def running(command: list[str], url: str, environment: dict[str, str]) -> Iterator[None]:
    """A server, until it answers and as long as it is needed."""
    # Kedro-Viz leaves the process that it starts to itself.
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(600):
            with suppress(httpx.TransportError):
                if httpx.get(url, timeout=5).status_code < 500:
                    break
            time.sleep(0.5)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A window of headless Chromium in English."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    for flag in ("--headless=new", "--hide-scrollbars", "--lang=en", "--disable-dev-shm-usage",
                 f"--window-size={SIZE[0]},{SIZE[1]}", *sandbox):  # fmt: skip
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def take(driver: webdriver.Chrome, name: str, url: str, seconds: float) -> None:
    """Take a picture of a page some seconds after it was opened."""
    driver.get(url)
    time.sleep(seconds)
    if name == "page":
        for field, value in FLOWER.items():
            label = driver.find_element("xpath", f"//label[text()='{field}']")
            box = driver.find_element("id", label.get_attribute("for") or "")
            driver.execute_script(TYPED, box, value)
        driver.find_element("css selector", "form button").click()
        time.sleep(2)
    driver.execute_script(AFTER.get(name, "window.scrollTo(0, 0)"))
    time.sleep(1)
    driver.save_screenshot(str(IMAGES / f"{name}.png"))


def experiment(url: str) -> str:
    """The id of the project's experiment at an MLflow server, as soon as it tells."""
    api = f"{url}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=mlops-for-mle"
    for _ in range(60):
        found = httpx.get(api)
        if found.status_code == 200:
            return str(found.json()["experiment"]["experiment_id"])
        time.sleep(1)
    raise TimeoutError(found.text)


def main() -> None:
    """Run a project and take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        environment = {**os.environ, "MLOPS_PROJECT_PATH": folder}
        kedro = [sys.executable, "-m", "kedro"]
        ready = "http://127.0.0.1:8123/health/ready"
        subprocess.run([*kedro, "db", "start"], check=True, env=environment)
        subprocess.run([*kedro, "run"], check=True, env=environment)
        serve = [*kedro, "serve", "--port", "8123"]
        with running(serve, ready, environment):
            traffic = [sys.executable, "scripts/send_traffic.py", "--url", "http://127.0.0.1:8123"]
            subprocess.run(traffic, check=True, env=environment, cwd=PROJECT)
            time.sleep(3)
            subprocess.run([*kedro, "run", "--pipeline", "monitoring"], check=True, env=environment)
            take(driver, "page", "http://127.0.0.1:8123/", 3)
            take(driver, "report", "http://127.0.0.1:8123/monitoring/report", 1)
        viz = [*kedro, "viz", "run", "--no-browser", "--port", "8124"]
        with running(viz, "http://127.0.0.1:8124/", environment):
            take(driver, "viz", "http://127.0.0.1:8124/", 12)
        with running(
            [*kedro, "mlflow", "ui", "--port", "8125"], "http://127.0.0.1:8125", environment
        ):
            number = experiment("http://127.0.0.1:8125")
            take(driver, "mlflow", f"http://127.0.0.1:8125/#/experiments/{number}/runs", 10)
        subprocess.run([*kedro, "db", "stop"], check=True, env=environment)
    digests = {name: digest(name) for name in SHOWN}
    (IMAGES / "sources.json").write_text(json.dumps(digests, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
