// Versions with their metrics, the audit trail, and the way back.
import { ask, byId, element, moment, number } from "./shared.js";
import { text } from "./texts.js";

export class Deployments {
  constructor(onRolledBack) {
    this.list = null;
    this.chosen = null;
    this.seen = null;
    this.onRolledBack = onRolledBack;
    byId("back").addEventListener("click", () => this.open(this.previous()));
    byId("rollback").querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.rollBack();
    });
  }

  show(list) {
    this.list = list;
    byId("back").hidden = this.previous() === null;
    byId("versions").replaceChildren(list.releases.length ? this.table() : nothing());
    const rows = list.deployments.map((deployment) => this.entry(deployment));
    byId("history").replaceChildren(...(rows.length ? rows : [nothing()]));
  }

  clear(message) {
    this.list = null;
    byId("back").hidden = true;
    byId("versions").replaceChildren(element("p", { class: "empty" }, message));
    byId("history").replaceChildren(element("li", { class: "empty" }, message));
  }

  current() {
    return this.list?.releases.find((release) => release.is_current) ?? null;
  }

  // What a rollback goes back to: not the release that somebody has just left.
  previous() {
    return this.list.releases.find((release) => release.release === this.list.previous && release.problem === null) ?? null;
  }

  table() {
    const current = this.current();
    const names = [...new Set(this.list.releases.flatMap((release) => Object.keys(release.metrics)))];
    // Those of the validation first: by them versions are compared.
    const kind = (name) => name.split("_")[0];
    names.sort((a, b) => kind(b).localeCompare(kind(a)) || a.localeCompare(b));
    const head = [
      element("th", { scope: "col" }, text("version")),
      element("th", { scope: "col", "aria-label": text("goBack") }),
      element("th", { scope: "col" }, text("model")),
      ...names.map((name) => element("th", { scope: "col", class: "number" }, name.replaceAll("_", " "))),
    ];
    const rows = this.list.releases.map((release) => {
      const metrics = names.map((name) => metricCell(release, current, name));
      return element(
        "tr",
        { class: release.is_current ? "current" : null, title: release.release },
        element("th", { scope: "row" }, String(release.model_version)),
        element("td", {}, this.action(release)),
        element("td", {}, release.estimator ?? "–"),
        ...metrics,
      );
    });
    return element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...rows),
    );
  }

  action(release) {
    if (release.is_current) return element("span", { class: "badge" }, text("inService"));
    if (release.problem !== null) {
      return element("span", { class: "badge", "data-state": "broken", title: release.problem }, text("broken"));
    }
    const label = `${text("goBack")}: ${release.release}`;
    const open = () => this.open(release);
    return element("button", { type: "button", class: "small", "aria-label": label, onclick: open }, text("goBack"));
  }

  entry(deployment) {
    const badge = element("span", { class: "badge", "data-event": deployment.event }, text(deployment.event));
    const isCurrent = deployment.id === this.list.current;
    const mark = isCurrent ? element("span", { class: "hint" }, text("inService")) : null;
    return element(
      "li",
      { "data-deployment": deployment.id },
      element("div", { class: "what" }, badge, element("strong", {}, deployment.release), mark),
      element("div", { class: "why" }, deployment.reason),
      element("div", { class: "hint" }, moment(deployment.created_at), ` · ${text("by", { actor: deployment.actor })}`),
    );
  }

  open(release) {
    this.chosen = release;
    // What the person sees; the list goes on meanwhile.
    this.seen = this.list.current;
    const names = { from: this.current()?.release ?? "–", to: release.release };
    byId("rollback-what").textContent = text("rollbackWhat", names);
    byId("rollback-error").textContent = "";
    byId("rollback-reason").value = "";
    byId("rollback-key").value = "";
    byId("rollback").showModal();
  }

  async rollBack() {
    const form = byId("rollback").querySelector("form");
    if (!form.reportValidity()) return;
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    const body = {
      release: this.chosen.release,
      reason: byId("rollback-reason").value,
      current_deployment: this.seen,
    };
    try {
      await ask("deployments/rollback", { body, key: byId("rollback-key").value.trim() });
      byId("rollback").close();
      this.onRolledBack(this.chosen.release);
    } catch (error) {
      const isScope = error.status === 403;
      byId("rollback-error").textContent = isScope ? text("needScope", { scope: "admin" }) : error.message;
    } finally {
      byId("rollback-key").value = "";
      button.disabled = false;
    }
  }
}

function metricCell(release, current, name) {
  const value = release.metrics[name];
  if (value === undefined) return element("td", { class: "number" }, "–");
  const compared = release.is_current ? undefined : current?.metrics[name];
  const difference = compared === undefined ? null : value - compared;
  const sign = difference > 0 ? "+" : "";
  const shown = difference ? element("span", { class: "difference" }, sign + number(difference, 2)) : null;
  return element("td", { class: "number" }, number(value), shown);
}

function nothing() {
  return element("p", { class: "empty" }, text("noHistory"));
}
