// How the deployed release does: the newest monitoring run, and the ones before it.
import { ask, byId, element, moment, number, percent, whole } from "./shared.js";
import { text } from "./texts.js";

const STATUS = {
  healthy: "monitoringHealthy",
  warning: "monitoringWarning",
  alarm: "monitoringAlarm",
  insufficient: "monitoringInsufficient",
};

const METRICS = {
  accuracy: "monitoringAccuracy",
  rmse: "monitoringRmse",
  estimated_accuracy: "monitoringEstimatedAccuracy",
  estimated_rmse: "monitoringEstimatedRmse",
  population_stability_index: "monitoringDrift",
  missing_fraction: "monitoringMissing",
  unknown_fraction: "monitoringUnknown",
};

const AREAS = ["performance", "estimate", "drift", "data_quality"];

export function showMonitoring({ newest, runs }, onProblem) {
  if (newest === null) {
    clearMonitoring(text("monitoringNone"));
    return;
  }
  const window = {
    predictions: whole(newest.prediction_count),
    labelled: whole(newest.labelled_count),
    release: newest.release,
  };
  const reasons = newest.reasons.map((reason) => element("li", {}, reason));
  byId("monitoring").replaceChildren(
    element(
      "p",
      { class: "state" },
      element("span", { class: "badge", id: "monitoring-status", "data-status": newest.status }, text(STATUS[newest.status])),
      element("span", { class: "hint" }, moment(newest.created_at), ` · ${text("monitoringWindow", window)}`),
    ),
    element("ul", { class: "reasons", id: "monitoring-reasons" }, ...reasons),
    history(runs),
    element("button", { type: "button", class: "small", id: "report", onclick: () => saveReport().catch(onProblem) }, text("monitoringReport")),
    element("div", { class: "scroll", tabindex: 0, role: "group", "aria-labelledby": "monitoring-title" }, table(newest.metrics)),
  );
}

export function clearMonitoring(message) {
  byId("monitoring").replaceChildren(element("p", { class: "empty" }, message));
}

// As a file, since a link would not send the key.
async function saveReport() {
  const html = await ask("monitoring/report", { as: "text" });
  const href = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  element("a", { href, download: "monitoring.html" }).click();
  URL.revokeObjectURL(href);
}

// One square a run, the oldest first.
function history(runs) {
  const squares = [...runs].reverse().map((run) => {
    const summary = `${text(STATUS[run.status])} · ${run.release} · ${run.reasons.join(" ")}`;
    return element("li", { "data-status": run.status, title: summary, "aria-label": summary });
  });
  return element("ol", { class: "squares", "aria-label": text("monitoringRuns", { count: whole(runs.length) }) }, ...squares);
}

function table(metrics) {
  const shown = metrics
    .filter(({ metric, area, value }) => metric in METRICS && (area !== "data_quality" || value > 0))
    .sort((a, b) => AREAS.indexOf(a.area) - AREAS.indexOf(b.area));
  const heads = ["monitoringOf", "monitoringMeasure", "monitoringValue", "monitoringInterval", "monitoringLimit"];
  const head = heads.map((name, index) =>
    element("th", { scope: "col", class: index > 1 ? "number" : null }, text(name)),
  );
  const rows = shown.map((metric) =>
    element(
      "tr",
      { class: metric.is_alarm ? "alarm" : null },
      element("th", { scope: "row" }, metric.subject),
      element("td", {}, text(METRICS[metric.metric])),
      element("td", { class: "number" }, valueOf(metric, metric.value)),
      element("td", { class: "number" }, metric.lower === null ? "" : `${valueOf(metric, metric.lower)} – ${valueOf(metric, metric.upper)}`),
      element("td", { class: "number" }, valueOf(metric, metric.threshold)),
    ),
  );
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

function valueOf(metric, value) {
  if (value === null) return "";
  const isShare = metric.metric.endsWith("accuracy") || metric.metric.endsWith("_fraction");
  return isShare ? percent(value) : number(value, 3);
}
