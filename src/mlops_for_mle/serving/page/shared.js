// Elements, numbers, times and requests: what every part of the page uses.
import { currentLanguage } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const KEY = "api-key";

export const byId = (id) => document.getElementById(id);

// Text is always set as text, so nothing that the server sends can become markup.
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// How predictions name a class: by its value, or by its place where that is text.
export const codeOf = (targetClass, place) => (typeof targetClass.value === "string" ? place : targetClass.value);

export function swatch(index) {
  const square = drawn("rect", { width: 10, height: 10, rx: 3, class: `fill-${index % 6}` });
  return drawn("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, square);
}

export function number(value, digits = 4, usual = "standard") {
  const size = Math.abs(value);
  // Nobody counts that many zeros.
  const notation = size !== 0 && (size < 1e-5 || size >= 1e12) ? "scientific" : usual;
  // What is whole keeps its digits, however many.
  const whole = { maximumFractionDigits: 0, roundingPriority: "morePrecision" };
  const options = { maximumSignificantDigits: digits, notation, ...(usual === "standard" && whole) };
  return new Intl.NumberFormat(currentLanguage(), options).format(value);
}

export function whole(value) {
  return new Intl.NumberFormat(currentLanguage()).format(value);
}

export function percent(value) {
  const options = { style: "percent", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(currentLanguage(), options).format(value);
}

export function clock(date) {
  // Also the day, where it is another one.
  const dateStyle = date.toDateString() === new Date().toDateString() ? undefined : "short";
  return new Intl.DateTimeFormat(currentLanguage(), { dateStyle, timeStyle: "medium" }).format(date);
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

// The date with "3 hours ago", which `refreshMoments` keeps true.
export function moment(iso) {
  return element("time", { datetime: iso }, momentText(iso));
}

export function refreshMoments() {
  for (const node of document.querySelectorAll("time")) node.textContent = momentText(node.dateTime);
}

function momentText(iso) {
  const date = new Date(iso);
  const seconds = Math.round((date - Date.now()) / 1000);
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["second", 1];
  const relative = new Intl.RelativeTimeFormat(currentLanguage(), { numeric: "auto" });
  const full = new Intl.DateTimeFormat(currentLanguage(), { dateStyle: "medium", timeStyle: "short" });
  return `${full.format(date)} (${relative.format(Math.trunc(seconds / size), unit)})`;
}

export function storedKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function storeKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

// What the server refused: its status, its sentence and the fields that are wrong.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `HTTP ${status}`);
    this.status = status;
    this.errors = problem.errors ?? [];
  }
}

export async function ask(path, { body, key = storedKey(), signal, accept = [], headers = {}, as = "json" } = {}) {
  const options = { signal, headers: { ...headers }, cache: "no-store" };
  if (key) options.headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, options);
  if (answer.ok && as === "text") return answer.text();
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok && !accept.includes(answer.status)) throw new Refused(answer.status, content);
  return content;
}
