// Why an answer was given: how far each feature moves it, to the left or to the right.
import { drawn, element, number, percent } from "./shared.js";
import { text } from "./texts.js";

const SHOWN = 8;

// What stands below an answer: the strongest features by name, the others as one.
export function explained({ explained: kind, value, base, contributions }, label) {
  const shown = kind === "value" ? (value) => number(value, 5) : percent;
  const ordered = Object.entries(contributions).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
  const rest = ordered.splice(SHOWN);
  if (rest.length) {
    ordered.push([text("otherFeatures", { count: rest.length }), rest.reduce((sum, [, share]) => sum + share, 0)]);
  }
  const largest = Math.max(...ordered.map(([, share]) => Math.abs(share))) || 1;
  const rows = ordered.flatMap(([name, share]) => [
    element("span", {}, name),
    bar(share / largest),
    element("span", { class: "number" }, `${share < 0 ? "−" : "+"}${shown(Math.abs(share))}`),
  ]);
  const words = { value: "whyValue", probability: "whyProbability", answer: "whyAnswer" };
  const sentence = text(words[kind], { label, value: shown(value), base: shown(base) });
  return [
    element("h3", {}, text("whyThis")),
    element("p", { class: "hint" }, sentence),
    element("div", { class: "bars" }, ...rows),
  ];
}

function bar(share) {
  const width = Math.abs(share) * 50;
  return drawn(
    "svg",
    { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    drawn("rect", { width: 100, height: 10, class: "track" }),
    drawn("rect", { x: share < 0 ? 50 - width : 50, width, height: 10, class: share < 0 ? "fill-1" : "fill-0" }),
  );
}
