// Joins the parts: asks the server again and again, and shows what it says.
import { draw } from "./chart.js";
import { Deployments } from "./deployments.js";
import { PredictionForm } from "./form.js";
import { clearMonitoring, showMonitoring } from "./monitoring.js";
import {
  codeOf,
  ask, byId, clock, element, moment, number, percent, refreshMoments, same, storeKey, storedKey,
  swatch, whole,
} from "./shared.js";
import { currentLanguage, switchLanguage, text } from "./texts.js";

const READY_MILLISECONDS = 3000;
const READY_LIMIT_MILLISECONDS = 10000;
const RECENT_MILLISECONDS = 2000;
const DEPLOYMENTS_MILLISECONDS = 10000;
const MONITORING_MILLISECONDS = 15000;
const MOMENT_MILLISECONDS = 10000;
const SHOWN_ROWS = 10;
const GOOD_NEWS_MILLISECONDS = 8000;

const page = {
  readiness: null, model: null, recent: null, monitoring: null, problem: null, news: null,
};

const form = new PredictionForm(() => updateRecent(), showProblem);
const deployments = new Deployments((release) => {
  page.news = release;
  setTimeout(() => { page.news = null; showNotices(); }, GOOD_NEWS_MILLISECONDS);
  showNotices();
  updateDeployments();
});

async function updateReadiness() {
  let readiness;
  try {
    readiness = await ask("health/ready", { accept: [503], signal: AbortSignal.timeout(READY_LIMIT_MILLISECONDS) });
  } catch {
    readiness = null;
  }
  const before = page.readiness;
  page.readiness = readiness;
  showStatus();
  showNotices();
  const isOther = readiness?.deployment?.id !== before?.deployment?.id || page.model === null;
  if (readiness?.status === "ready" && isOther) await updateModel();
  if (before && isOther) await updateDeployments();
}

async function updateModel() {
  try {
    page.model = await ask("model");
    page.problem = null;
    form.show(page.model.contract, page.model.training_ranges);
  } catch (error) {
    showProblem(error);
  }
  showService();
  showRecent();
  showNotices();
}

async function updateRecent() {
  try {
    page.recent = await ask("predictions/recent");
    showRecent();
  } catch (error) {
    page.recent = null;
    byId("chart").replaceChildren();
    byId("legend").replaceChildren();
    byId("recent").replaceChildren(element("p", { class: "empty" }, explained(error, "write")));
  }
}

async function updateDeployments() {
  try {
    const list = await ask("deployments");
    // What is unchanged stays, and with it the focus of whoever goes by the keyboard.
    if (!same(list, deployments.list)) deployments.show(list);
  } catch (error) {
    deployments.clear(explained(error, "predict"));
  }
}

async function updateMonitoring() {
  try {
    const found = await ask("monitoring");
    if (!same(found, page.monitoring)) showMonitoring(found, showProblem);
    page.monitoring = found;
  } catch (error) {
    page.monitoring = null;
    clearMonitoring(explained(error, "predict"));
  }
}

function explained(error, scope) {
  if (error.status === 401) return text("needKey");
  if (error.status === 403) return text("needScope", { scope });
  return error.status ? text("unavailable", { reason: error.message }) : text("away");
}

function showProblem(error) {
  page.problem = error;
  showNotices();
  return error && explained(error, "predict");
}

function showStatus() {
  const status = byId("status");
  const state = page.readiness === null ? "away" : page.readiness.status === "ready" ? "ready" : "waiting";
  status.dataset.state = state;
  const shown = text(state === "waiting" ? "notReady" : state);
  if (status.textContent !== shown) status.textContent = shown;
}

function showNotices() {
  const notices = [];
  const { readiness, problem, news } = page;
  if (news) notices.push(element("p", { class: "notice good" }, text("rolledBack", { release: news })));
  if (readiness?.detail) notices.push(element("p", { class: "notice" }, readiness.detail));
  const failure = readiness?.failure;
  if (failure && !readiness.detail) {
    const values = { id: failure.deployment, release: failure.release, reason: failure.reason };
    notices.push(element("p", { class: "notice", id: "failure" }, text("failed", values)));
  }
  if (readiness?.database?.error && !readiness.detail) {
    const reason = readiness.database.error;
    notices.push(element("p", { class: "notice" }, text("databaseAway", { reason })));
  }
  if (problem?.status === 401) {
    const open = element("button", { type: "button", class: "small", onclick: openKey }, text("key"));
    notices.push(element("p", { class: "notice", id: "need-key" }, `${text("needKey")} `, open));
  } else if (problem && readiness?.status === "ready") {
    notices.push(element("p", { class: "notice" }, explained(problem, "predict")));
  }
  const place = byId("notices");
  const now = notices.map((notice) => notice.textContent).join("\n");
  // Unchanged words stay, so that a screen reader does not say them again.
  if (place.dataset.shown !== now) {
    place.dataset.shown = now;
    place.replaceChildren(...notices);
  }
}

function showService() {
  const { model } = page;
  if (model === null) {
    const reason = page.problem ? explained(page.problem, "predict") : text("nothing");
    byId("service").replaceChildren(element("p", { class: "empty" }, reason));
    return;
  }
  const { deployment, contract, snapshot } = model;
  byId("name").textContent = contract.name;
  document.title = `${contract.name} · mlops-for-mle`;
  const minor = (...children) => element("span", { class: "minor" }, ...children);
  const cached = model.origin === "cache" ? ` ${text("fromCache")}` : "";
  const facts = [
    [text("release"), [model.release, element("br"), minor(model.model.estimator)]],
    [text("since"), [moment(deployment.created_at), element("br"), minor(text("by", { actor: deployment.actor }))]],
    [text("why"), [deployment.reason]],
    [text("trained"), [text("rows", { count: whole(snapshot.row_count), source: snapshot.source })]],
    [text("loaded"), [moment(model.loaded_at), cached]],
    [text("precision"), [model.model.precision]],
  ];
  const items = facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, ...value)),
  );
  byId("service").replaceChildren(
    element("p", { class: "lead", id: "in-service" }, `${model.model.name}, ${text("versionNumber", { number: model.model.version })}`),
    element("dl", {}, ...items),
  );
}

function showRecent() {
  const { recent, model } = page;
  if (recent === null || model === null) return;
  const { target } = model.contract;
  const { figure, legend, total } = draw(recent, target, Math.max(280, byId("chart").clientWidth));
  byId("chart").replaceChildren(figure);
  byId("legend").replaceChildren(...legend);
  const rows = recent.predictions.slice(0, SHOWN_ROWS);
  const table = rows.length ? recentTable(rows, target) : null;
  const empty = total ? null : element("p", { class: "empty" }, text("noneYet"));
  byId("recent").replaceChildren(...[empty, table].filter((child) => child !== null));
}

function featureText(value, feature) {
  if (value === null || value === undefined) return "–";
  return typeof value === "number" && feature.type !== "category" ? number(value) : String(value);
}

function recentTable(rows, target) {
  const contract = page.model.contract.features;
  const features = Object.keys(contract);
  const head = [text("time"), text("prediction"), ...features, text("version")];
  const body = rows.map((prediction) => {
    const index = target.classes.findIndex((each, place) => codeOf(each, place) === prediction.value);
    const probability = prediction.probability === null ? "" : ` ${percent(prediction.probability)}`;
    const shown = prediction.label === null ? [number(prediction.value, 6)] : [swatch(index), prediction.label, element("span", { class: "difference" }, probability)];
    return element(
      "tr",
      { title: prediction.prediction_id },
      element("td", {}, clock(new Date(prediction.answered_at * 1000))),
      element("td", {}, ...shown),
      ...features.map((name) => element("td", { class: "number" }, featureText(prediction.features[name], contract[name]))),
      element("td", { class: "number" }, String(prediction.model_version)),
    );
  });
  const isNumber = (index) => index >= 2;
  const headings = head.map((name, index) =>
    element("th", { scope: "col", class: isNumber(index) ? "number" : null }, name),
  );
  return element("table", {}, element("thead", {}, element("tr", {}, ...headings)), element("tbody", {}, ...body));
}

function openKey() {
  byId("key-value").value = storedKey();
  byId("key-dialog").showModal();
}

function showTexts() {
  document.documentElement.lang = currentLanguage();
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  byId("language").textContent = text("otherLanguage");
  byId("language").lang = currentLanguage() === "ko" ? "en" : "ko";
}

function showAll() {
  showTexts();
  showStatus();
  showNotices();
  showService();
  showRecent();
  form.relabel();
  if (deployments.list) deployments.show(deployments.list);
  if (page.monitoring) showMonitoring(page.monitoring, showProblem);
}

// Asks again after each answer, and not at all while nobody looks.
async function repeat(update, milliseconds) {
  if (document.visibilityState === "visible") await update();
  setTimeout(() => repeat(update, milliseconds), milliseconds);
}

byId("language").addEventListener("click", () => {
  switchLanguage();
  showAll();
});
byId("key-button").addEventListener("click", openKey);
byId("key-dialog").querySelector("form").addEventListener("submit", () => {
  storeKey(byId("key-value").value.trim());
  page.problem = null;
  updateModel();
  updateRecent();
  updateDeployments();
  updateMonitoring();
});
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
setInterval(refreshMoments, MOMENT_MILLISECONDS);
new ResizeObserver(showRecent).observe(byId("chart"));

showTexts();
byId("status").textContent = text("waiting");
repeat(updateReadiness, READY_MILLISECONDS);
repeat(updateRecent, RECENT_MILLISECONDS);
repeat(updateDeployments, DEPLOYMENTS_MILLISECONDS);
repeat(updateMonitoring, MONITORING_MILLISECONDS);
