// The form that the contract describes, and the answer that follows each change.
import { ask, byId, drawn, element, number, percent, same } from "./shared.js";
import { explained } from "./explanation.js";
import { text } from "./texts.js";

const PAUSE_MILLISECONDS = 200;

export class PredictionForm {
  constructor(onKept, onProblem) {
    this.contract = null;
    this.inputs = new Map();
    this.onKept = onKept;
    this.onProblem = onProblem;
    this.answer = null;
    this.keptId = null;
    this.isKeeping = false;
    this.timer = 0;
    this.pending = null;
    // Stays until the next one comes, so that nothing jumps.
    this.explanation = element("div", { id: "explanation", "aria-live": "off" });
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.keep();
    });
  }

  // Shows the fields of a contract; values that were typed stay where the names stay.
  show(contract, ranges = this.ranges, isAnew = false) {
    this.ranges = ranges;
    // Equal fields stay, and with them the focus of whoever types.
    if (!isAnew && same(contract, this.contract)) {
      this.preview();
      return;
    }
    const typed = new Map([...this.inputs].map(([name, input]) => [name, input.value]));
    this.contract = contract;
    this.inputs.clear();
    const fields = Object.entries(contract.features).map(([name, feature], index) => {
      return this.field(name, feature, typed.get(name) ?? startOf(feature, name, ranges), `field-${index}`);
    });
    byId("fields").replaceChildren(...fields);
    this.preview();
  }

  field(name, feature, value, id) {
    const hint = [feature.description, rangeText(feature)].filter(Boolean).join(" · ");
    const shared = { id, required: !isOptional(feature), "aria-describedby": `${id}-hint ${id}-error` };
    const input = inputOf(feature, shared);
    input.value = shownValue(feature, value);
    this.inputs.set(name, input);
    const slider = isNumber(feature) ? this.slider(name, feature, input) : null;
    input.addEventListener("input", () => {
      if (slider) slider.value = input.value;
      this.changed();
    });
    return element(
      "div",
      { class: "field" },
      element("label", { for: id }, name),
      element("span", { class: "value" }, input, element("span", { class: "unit" }, feature.unit ?? "")),
      slider,
      element("p", { class: "hint", id: `${id}-hint` }, hint),
      element("p", { class: "error", id: `${id}-error` }),
    );
  }

  slider(name, feature, input) {
    if (feature.minimum === null || feature.maximum === null) return null;
    const step = feature.type === "integer" ? 1 : niceStep((feature.maximum - feature.minimum) / 200);
    const slider = element("input", {
      type: "range",
      // Steps count from here, so that the slider stops at round numbers.
      min: Math.floor(feature.minimum / step) * step,
      max: feature.maximum,
      step,
      "aria-label": name,
      tabindex: -1,
    });
    slider.value = input.value;
    slider.addEventListener("input", () => {
      const value = Math.max(feature.minimum, Math.min(feature.maximum, Number(slider.value)));
      input.value = String(Number(value.toPrecision(8)));
      this.changed();
    });
    return slider;
  }

  changed() {
    this.keptId = null;
    byId("kept").textContent = "";
    byId("answer").classList.add("stale");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.preview(), PAUSE_MILLISECONDS);
  }

  // The row, or null when a field is wrong; marks the wrong fields.
  row() {
    const row = {};
    let isRight = true;
    for (const [name, input] of this.inputs) {
      const message = fault(this.contract.features[name], input);
      this.mark(name, message);
      if (message) isRight = false;
      row[name] = valueOf(this.contract.features[name], input.value);
    }
    return isRight ? row : null;
  }

  mark(name, message) {
    const input = this.inputs.get(name);
    if (!input) return;
    input.setAttribute("aria-invalid", message ? "true" : "false");
    byId(`${input.id}-error`).textContent = message ?? "";
  }

  async preview() {
    this.pending?.abort();
    const row = this.row();
    if (row === null) {
      this.render(null);
      return;
    }
    this.pending = new AbortController();
    const { signal } = this.pending;
    await this.ask("explain", row, { signal });
  }

  async keep() {
    // A key that is held down sends the form again and again; and it may not be there yet.
    if (this.isKeeping || !this.contract) return;
    clearTimeout(this.timer);
    this.pending?.abort();
    const row = this.row();
    if (row === null) {
      this.render(null);
      byId("fields").querySelector("[aria-invalid=true]").focus();
      return;
    }
    this.isKeeping = true;
    const headers = { "X-Request-ID": `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}` };
    const answer = await this.ask("predict", row, { headers });
    this.isKeeping = false;
    if (answer) {
      this.keptId = answer.prediction_id;
      byId("kept").textContent = text("kept", { id: this.keptId });
      this.onKept();
      await this.preview();
    }
  }

  async ask(path, row, options) {
    try {
      const answer = await ask(path, { ...options, body: row });
      this.onProblem(null);
      this.render(answer);
      return answer;
    } catch (error) {
      if (error.name === "AbortError") return null;
      for (const fault of error.errors ?? []) this.mark(fault.path, `${fault.message}: ${fault.allowed}`);
      this.render(null, error.errors?.length ? text("noAnswer") : this.onProblem(error));
      return null;
    }
  }

  render(answer, hint = text("noAnswer")) {
    this.answer = answer;
    const place = byId("answer");
    place.classList.remove("stale");
    if (answer === null) {
      place.replaceChildren(element("p", { class: "hint" }, hint));
      return;
    }
    const target = this.contract.target;
    const value = answer[target.response_name];
    const shown = answer.label ?? number(value, 6);
    const parts = [
      element("p", { class: "hint" }, target.response_name),
      element("p", { class: "big", id: "prediction" }, shown),
    ];
    if (answer.probabilities) parts.push(bars(answer.probabilities));
    if (answer.outside_training) {
      const names = answer.outside_training.join(", ");
      parts.push(element("p", { class: "notice", id: "outside" }, text("outside", { names })));
    }
    if (answer.explanation) {
      this.explanation.replaceChildren(...explained(answer.explanation, answer.label));
    }
    parts.push(this.explanation);
    place.replaceChildren(...parts);
  }

  // Says the same in the other language.
  relabel() {
    if (!this.contract) return;
    this.show(this.contract, this.ranges, true);
    byId("kept").textContent = this.keptId ? text("kept", { id: this.keptId }) : "";
  }
}

function bars(probabilities) {
  const rows = Object.entries(probabilities).flatMap(([label, value], index) => [
    element("span", {}, label),
    drawn(
      "svg",
      { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      drawn("rect", { width: 100, height: 10, class: "track" }),
      drawn("rect", { width: value * 100, height: 10, class: `fill-${index % 6}` }),
    ),
    element("span", { class: "number" }, percent(value)),
  ]);
  return element("div", { class: "bars" }, ...rows);
}

const isNumber = (feature) => ["float", "integer", "decimal"].includes(feature.type);
const isOptional = (feature) => feature.missing !== "reject";
const isTime = (feature) => feature.type === "date" || feature.type === "timestamp";
const hasChoices = (feature) =>
  feature.type === "boolean" || (feature.type === "category" && feature.unknown === "reject");

// The input that suits a feature: what may be missing can be left empty.
function inputOf(feature, shared) {
  if (hasChoices(feature)) {
    const values = feature.type === "boolean" ? [true, false] : feature.categories;
    const options = values.map((value) => element("option", { value: String(value) }, choiceText(value)));
    if (isOptional(feature)) options.unshift(element("option", { value: "" }, text("missing")));
    return element("select", shared, ...options);
  }
  if (isTime(feature)) {
    const length = feature.type === "date" ? 10 : 19;
    return element("input", {
      ...shared,
      type: feature.type === "date" ? "date" : "datetime-local",
      step: feature.type === "date" ? null : 1,
      min: feature.earliest?.slice(0, length) ?? null,
      max: feature.latest?.slice(0, length) ?? null,
    });
  }
  if (feature.type === "category") {
    const isWhole = typeof feature.categories[0] === "number";
    return element("input", { ...shared, type: "text", inputmode: isWhole ? "numeric" : "text" });
  }
  return element("input", {
    ...shared,
    type: "number",
    inputmode: feature.type === "integer" ? "numeric" : "decimal",
    step: feature.type === "integer" ? 1 : "any",
    min: feature.minimum,
    max: feature.maximum,
  });
}

function choiceText(value) {
  if (typeof value !== "boolean") return String(value);
  return text(value ? "yes" : "no");
}

// A value that the contract allows, and for a number or day one like those of the training.
function startOf(feature, name, ranges) {
  const { type } = feature;
  const range = ranges?.[name];
  if (type === "boolean") return true;
  if (type === "category") return feature.categories[0];
  const days = ranges?.[`${name}.days_since_1970`];
  if (days) return new Date(Math.floor((days.least + days.largest) / 2) * 86400000).toISOString();
  if (isTime(feature)) return feature.earliest ?? feature.latest ?? new Date().toISOString().slice(0, 19);
  const minimum = range?.least ?? feature.minimum;
  const maximum = range?.largest ?? feature.maximum;
  const hasBoth = (minimum ?? null) !== null && (maximum ?? null) !== null;
  const value = hasBoth ? (minimum + maximum) / 2 : Math.min(Math.max(1, minimum ?? 1), maximum ?? 1);
  if (type === "integer") return Math.floor(value);
  // Without the digits that nobody reads.
  const step = hasBoth && minimum < maximum ? niceStep((maximum - minimum) / 1000) : 0;
  return step ? Number((Math.round(value / step) * step).toPrecision(15)) : value;
}

function shownValue(feature, value) {
  if (value === null || value === undefined) return "";
  if (isTime(feature)) return String(value).slice(0, feature.type === "date" ? 10 : 19);
  return String(value);
}

// What a request holds for what was typed; what is empty is missing.
function valueOf(feature, typed) {
  if (typed.trim() === "") return null;
  if (feature.type === "boolean") return typed === "true";
  if (feature.type === "category") {
    return typeof feature.categories[0] === "number" ? Number(typed) : typed;
  }
  return isTime(feature) ? typed : Number(typed);
}

function rangeText({ minimum, maximum, earliest, latest, type }) {
  const isDate = type === "date" || type === "timestamp";
  const shown = (value) => (isDate ? value.replace("T", " ").replace(/ 00:00:00$/, "") : number(value, 15));
  const [first, last] = isDate ? [earliest, latest] : [minimum, maximum];
  const low = (first ?? null) === null ? null : shown(first);
  const high = (last ?? null) === null ? null : shown(last);
  if (low !== null && high !== null) return text("range", { low, high });
  if (low !== null) return text("atLeast", { low });
  return high === null ? "" : text("atMost", { high });
}

function fault(feature, { value: typed, validity }) {
  // What is no number or date yet has no value, but is not missing.
  if (validity.badInput) return text(isNumber(feature) ? "needNumber" : "needValue");
  if (typed.trim() === "") return isOptional(feature) ? null : text(isNumber(feature) ? "needNumber" : "needValue");
  const isWholeCategory = feature.type === "category" && typeof feature.categories[0] === "number";
  if (isWholeCategory && !Number.isInteger(Number(typed))) return text("needWhole");
  if (!isNumber(feature)) return null;
  const value = Number(typed);
  if (!Number.isFinite(value)) return text("needNumber");
  if (feature.type === "integer" && !Number.isInteger(value)) return text("needWhole");
  const isLow = feature.minimum !== null && value < feature.minimum;
  const isHigh = feature.maximum !== null && value > feature.maximum;
  return isLow || isHigh ? text("needRange", { range: rangeText(feature) }) : null;
}

// The largest of 1, 2, 5 times a power of ten that is not above the given step.
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [5, 2, 1].find((step) => step * power <= rough * 1.0001);
  return Number((factor * power).toPrecision(3));
}
