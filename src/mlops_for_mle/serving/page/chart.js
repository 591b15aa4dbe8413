// The live chart: columns by class, or the course of a regression's answers.
import { codeOf, clock, drawn, element, number, swatch, whole } from "./shared.js";
import { text } from "./texts.js";

const HEIGHT = 170;
const MARGIN = { left: 46, right: 10, top: 10, bottom: 24 };
const SPAN_SECONDS = 300;

// Draws what `/predictions/recent` answers; gives the chart and its legend.
export function draw(recent, target, width) {
  const scale = makeScale(recent, width);
  const isRegression = target.task === "regression";
  const intervals = recent.intervals.filter(({ start }) => start + recent.interval_seconds > scale.start);
  const figure = drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
  const totals = countClasses(intervals, target);
  const total = totals.reduce((sum, { count }) => sum + count, 0);
  const parts = totals.map(({ label, count }) => `${label} ${whole(count)}`).join(", ");
  figure.setAttribute("aria-label", total ? text("chart", { total: whole(total), parts }) : text("noneYet"));
  figure.append(...timeAxis(scale, width));
  if (isRegression) figure.append(...course(intervals, scale, width));
  else figure.append(...columns(intervals, scale, target, recent.interval_seconds, width));
  const legend = isRegression
    ? [element("span", {}, swatch(0), text("mean"))]
    : totals.map(({ label, count }, index) => element("span", {}, swatch(index), `${label} ${whole(count)}`));
  return { figure, legend, total };
}

function makeScale(recent, width) {
  // Ends at a whole interval, so that columns move on in steps and do not tremble.
  const step = recent.interval_seconds;
  const end = (Math.floor(recent.now / step) + 1) * step;
  const start = end - SPAN_SECONDS;
  const inner = width - MARGIN.left - MARGIN.right;
  const x = (seconds) => MARGIN.left + ((seconds - start) / SPAN_SECONDS) * inner;
  return { start, end, x };
}

function countClasses(intervals, target) {
  const named = target.task === "regression"
    ? [{ key: "", label: target.response_name }]
    : target.classes.map((targetClass, place) => ({ key: String(codeOf(targetClass, place)), label: targetClass.label }));
  return named.map(({ key, label }) => ({
    label,
    count: intervals.reduce((sum, interval) => sum + (interval.counts[key] ?? 0), 0),
  }));
}

function timeAxis(scale, width) {
  const marks = [];
  const every = width < 480 ? 2 : 1;
  for (let minute = 0; minute <= 5; minute += every) {
    const shown = minute === 0 ? text("now") : text("minutesAgo", { count: minute });
    const x = scale.x(scale.end - minute * 60);
    const anchor = minute === 0 ? "end" : minute === 5 ? "start" : "middle";
    marks.push(drawn("text", { x, y: HEIGHT - 6, "text-anchor": anchor }, shown));
  }
  return marks;
}

function valueAxis(low, high, width) {
  const bottom = HEIGHT - MARGIN.bottom;
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
  const lines = [low, (low + high) / 2, high].flatMap((value) => [
    drawn("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
    drawn("text", { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value, 3, "compact")),
  ]);
  return { y, lines };
}

function columns(intervals, scale, target, step, width) {
  const sums = intervals.map((interval) => Object.values(interval.counts).reduce((sum, count) => sum + count, 0));
  const { y, lines } = valueAxis(0, niceTop(Math.max(2, ...sums)), width);
  const rectangles = intervals.flatMap((interval) => {
    let below = 0;
    const x = scale.x(Math.max(interval.start, scale.start));
    const wide = Math.max(1, scale.x(interval.start + step) - x - 1);
    return target.classes.map(({ value, label }, index) => {
      const count = interval.counts[String(codeOf({ value }, index))] ?? 0;
      if (count === 0) return null;
      const from = below;
      below += count;
      const place = { x, width: wide, y: y(below), height: y(from) - y(below) };
      const title = drawn("title", {}, `${label} ${whole(count)} · ${clock(new Date(interval.start * 1000))}`);
      return drawn("rect", { ...place, rx: 1.5, class: `fill-${index % 6}` }, title);
    });
  });
  return [...lines, ...rectangles.filter((rectangle) => rectangle !== null)];
}

function course(intervals, scale, width) {
  if (intervals.length === 0) return valueAxis(0, 1, width).lines;
  const low = Math.min(...intervals.map((interval) => interval.minimum));
  const high = Math.max(...intervals.map((interval) => interval.maximum));
  const room = (high - low || Math.abs(high) || 1) * 0.1;
  const { y, lines } = valueAxis(low - room, high + room, width);
  const middle = (interval) => scale.x(interval.start + 2.5);
  const upper = intervals.map((interval) => `${middle(interval)},${y(interval.maximum)}`);
  const lower = intervals.map((interval) => `${middle(interval)},${y(interval.minimum)}`).reverse();
  const mean = intervals.map((interval) => `${middle(interval)},${y(interval.total / interval.counts[""])}`);
  const dots = intervals.map((interval) =>
    drawn("circle", { cx: middle(interval), cy: y(interval.total / interval.counts[""]), r: 2.5, class: "fill-0" }),
  );
  return [
    ...lines,
    drawn("polygon", { class: "band", points: [...upper, ...lower].join(" ") }),
    drawn("polyline", { class: "mean", points: mean.join(" ") }),
    ...dots,
  ];
}

// The least even number of the form 2, 4, 10, 20, 40, ... that is not below the largest sum.
function niceTop(largest) {
  const power = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 4, 6, 8, 10].map((digits) => digits * power).find((top) => top >= largest && top % 2 === 0) ?? 2 * power;
}
