"use strict";
// What a figure is drawn with: an SVG with two axes that say what they count, lines that break where values are missing.

const SVG = "http://www.w3.org/2000/svg";
const TICK_ROOM = 52; // pixels along an axis for one label
const FAR = 1e5; // pixels outside the picture: more only burdens the browser

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function short(value) {
  if (value === null || value === undefined) return "not finite";
  const size = Math.abs(value);
  const rounded = Number(value.toPrecision(4));
  return (size !== 0 && (size < 1e-3 || size >= 1e6) ? rounded.toExponential() : String(rounded)).replace("-", "−");
}

function linearTicks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * decade).find((size) => size >= rough * (1 - 1e-9));
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) {
    ticks.push({ at: k * step, text: short(Number((k * step).toPrecision(12))) });
  }
  return ticks;
}

function power(exponent) {
  return "10" + [...String(exponent)].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("");
}

// Low and high in decades. Few of them get 2 and 5 between; many leave some out.
function logTicks(low, high, most) {
  const ticks = [];
  if (high - low < 2.5) {
    for (let decade = Math.floor(low); decade <= Math.ceil(high); decade++) {
      for (const mantissa of [1, 2, 5]) {
        const at = decade + Math.log10(mantissa);
        if (at >= low && at <= high) ticks.push({ at, text: short(Number((10 ** at).toPrecision(3))) });
      }
    }
    return ticks;
  }
  const step = Math.max(1, Math.ceil((high - low) / most));
  for (let decade = Math.ceil(low / step) * step; decade <= high; decade += step) {
    ticks.push({ at: decade, text: power(decade) });
  }
  return ticks;
}

const SECOND = 1e3, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR, MONTH = 30.4 * DAY;
const MONDAY = 4 * DAY; // 1970 began on a Thursday

// Steps from a microsecond, the data's resolution, to thousands of years: each at most 2.5 times the one before.
const STEPS = [
  ...[1e-3, 1e-2, 1e-1, 1, 10, 100].flatMap((unit) => [1, 2, 5].map((n) => ({ length: n * unit }))),
  ...[SECOND, MINUTE].flatMap((unit) => [1, 2, 5, 10, 15, 30].map((n) => ({ length: n * unit }))),
  ...[1, 2, 3, 6, 12].map((n) => ({ length: n * HOUR })),
  ...[1, 2, 3, 4].map((n) => ({ length: n * DAY })),
  ...[7, 14].map((n) => ({ length: n * DAY, from: MONDAY })),
  ...[1, 2, 3, 6, ...[1, 10, 100, 1000].flatMap((unit) => [12, 24, 60].map((n) => n * unit))].map((months) => (
    { length: months * MONTH, months })),
];

// Multiples of a step from low to high.
function marks({ length, months, from = 0 }, low, high) {
  const found = [];
  if (months) {
    const first = 12 * new Date(low).getUTCFullYear(); // months since the year 0
    for (let month = Math.floor(first / months) * months; ; month += months) {
      const day = new Date(0);
      const at = day.setUTCFullYear(Math.floor(month / 12), month % 12, 1); // Date.UTC takes the year 50 for 1950
      if (!(at <= high)) return found;
      if (at >= low) found.push(at);
    }
  }
  for (let k = Math.ceil((low - from) / length); from + k * length <= high; k++) found.push(from + k * length);
  return found;
}

// Milliseconds since 1970, in UTC as the data are read. A midnight shows its date.
function dateTicks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  let which = STEPS.findIndex(({ length }) => length >= rough);
  if (which < 0) which = STEPS.length - 1;
  // One tick says nothing of the scale.
  while (which > 0 && marks(STEPS[which], low, high).length < 2) which -= 1;
  const { length, months } = STEPS[which];
  return marks(STEPS[which], low, high).map((at) => ({ at, text: dateText(at, length, months) }));
}

function dateText(at, length, months) {
  const micro = Math.round(at * 1000), second = Math.floor(micro / 1e6);
  const day = new Date(second * SECOND).toISOString();
  const date = day.slice(0, day.indexOf("T"));
  if (months) return months < 12 ? date.slice(0, -3) : date.slice(0, -6);
  if (length >= DAY || micro % (1000 * DAY) === 0) return date;
  const time = day.slice(date.length + 1, -5);
  if (length >= MINUTE) return time.slice(0, 5);
  if (length >= SECOND) return time;
  const digits = Math.ceil(-Math.log10(length / SECOND) - 1e-9);
  const fraction = String(micro - second * 1e6).padStart(6, "0").slice(0, digits);
  return `${digits > 3 ? time.slice(3) : time}.${fraction}`; // of microseconds without the hour: there is no room
}

// Where no tick is a midnight, the day that all of them are in.
function dayOf(ticks, low) {
  return ticks.length && ticks.every(({ text }) => text.includes(":")) ? `, ${dateText(low, DAY)}` : "";
}

const TICKS = { linear: linearTicks, log: logTicks, date: dateTicks };

// Begins a figure anew and returns where values go: functions X and Y to pixels, and the group to draw into.
// An axis: label, low, high, and kind (linear; log: low and high in decades; date). equal: one unit is as long on both.
function axes(svg, x, y, equal = false) {
  const width = Math.max(svg.clientWidth, 200), height = svg.clientHeight;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const bottom = height - 42, top = 8, right = width - 12;
  const yTicks = y.bare ? [] : TICKS[y.kind](y.low, y.high, Math.max(2, Math.floor((bottom - top) / 36)));
  const left = 34 + 7 * Math.max(3, ...yTicks.map((tick) => tick.text.length));
  if (equal) {
    const half = ((y.high - y.low) / 2) * ((right - left) / (bottom - top));
    const middle = (x.low + x.high) / 2;
    x = { ...x, low: middle - half, high: middle + half };
  }
  const X = (value) => left + ((value - x.low) / (x.high - x.low)) * (right - left);
  const Y = (value) => bottom - ((value - y.low) / (y.high - y.low)) * (bottom - top);
  const room = x.kind === "date" ? TICK_ROOM + 34 : TICK_ROOM;
  const xTicks = TICKS[x.kind](x.low, x.high, Math.max(2, Math.floor((right - left) / room)));
  for (const tick of xTicks) {
    add(svg, "line", { class: "grid", x1: X(tick.at), x2: X(tick.at), y1: top, y2: bottom });
    const half = 3.5 * tick.text.length;
    const at = Math.max(half, Math.min(X(tick.at), width - half)); // the outer labels stay whole
    add(svg, "text", { x: at, y: bottom + 16, "text-anchor": "middle" }, tick.text);
  }
  for (const tick of yTicks) {
    add(svg, "line", { class: "grid", x1: left, x2: right, y1: Y(tick.at), y2: Y(tick.at) });
    add(svg, "text", { x: left - 6, y: Y(tick.at) + 4, "text-anchor": "end" }, tick.text);
  }
  add(svg, "rect", { class: "border", x: left, y: top, width: right - left, height: bottom - top });
  add(svg, "text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" },
    x.label + (x.kind === "date" ? dayOf(xTicks, x.low) : ""));
  const middle = (top + bottom) / 2;
  const turned = { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` };
  add(svg, "text", turned, y.label);
  const clip = add(svg, "clipPath", { id: `${svg.id}-inside` });
  add(clip, "rect", { x: left, y: top, width: right - left, height: bottom - top });
  const group = add(svg, "g", { "clip-path": `url(#${svg.id}-inside)` });
  return { X, Y, group, left, right, top, bottom };
}

// A line, broken at null; a value without a neighbour is a dot, as a line would show nothing of it.
function line(figure, style, xs, ys) {
  let path = "";
  ys.forEach((y, k) => {
    if (y === null) return;
    const height = Math.max(-FAR, Math.min(FAR, figure.Y(y)));
    const point = `${figure.X(xs[k]).toFixed(1)} ${height.toFixed(1)}`;
    const begins = k === 0 || ys[k - 1] === null;
    path += begins ? `M${point}` : `L${point}`;
    if (begins && (k + 1 === ys.length || ys[k + 1] === null)) path += "h0";
  });
  if (path) add(figure.group, "path", { class: `line ${style}`, d: path });
}

const SHAPES = {
  dot: "h0",
  circle: "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0",
  diamond: "m0 -6.5l5.5 6.5l-5.5 6.5l-5.5 -6.5z",
  cross: "m-4 -4l8 8m0 -8l-8 8",
  triangle: "m-5 -4.5h10l-5 9z",
};

// Markers of one shape in one path, at pixels.
function markers(figure, shape, style, points) {
  if (!points.length) return null;
  const d = points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}${SHAPES[shape]}`).join("");
  return add(figure.group, "path", { class: `marker ${style}`, d });
}

// The ends of what is finite in some arrays, a little apart where they meet.
function ends(...arrays) {
  const values = arrays.flat().filter((value) => value !== null);
  if (!values.length) return [0, 1];
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const gap = high > low ? 0 : Math.max(Math.abs(high) * 0.1, 1e-12);
  return [low - gap, high + gap];
}

function widened([low, high], share = 0.05) {
  return [low - share * (high - low), high + share * (high - low)];
}
