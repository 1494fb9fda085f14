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

const SECOND = 1e3, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR, MONTH = 30.4 * DAY, YEAR = 365.25 * DAY;

// Milliseconds since 1970, in UTC as the data are read.
function dateTicks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  const ticks = [];
  const text = (at, length, from = 0) => new Date(at).toISOString().slice(from, length);
  if (rough > 7 * DAY) {
    const months = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200].find((count) => count * MONTH >= rough) ?? 2400;
    const start = new Date(low).getUTCFullYear();
    for (let k = 0; ; k += months) {
      const at = Date.UTC(start - (start % Math.max(1, months / 12)), k);
      if (at > high) return ticks;
      if (at >= low) ticks.push({ at, text: text(at, months < 12 ? 7 : 4) });
    }
  }
  const steps = [1, 5, 15, 30].map((n) => n * SECOND).concat([1, 5, 15, 30].map((n) => n * MINUTE));
  const step = steps.concat([1, 3, 6, 12].map((n) => n * HOUR), [1, 2, 7].map((n) => n * DAY)).find((s) => s >= rough);
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) {
    const midnight = at % DAY === 0;
    ticks.push({ at, text: midnight || step >= DAY ? text(at, 10) : text(at, step < MINUTE ? 19 : 16, 11) });
  }
  return ticks;
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
  for (const tick of TICKS[x.kind](x.low, x.high, Math.max(2, Math.floor((right - left) / room)))) {
    add(svg, "line", { class: "grid", x1: X(tick.at), x2: X(tick.at), y1: top, y2: bottom });
    const half = 3.5 * tick.text.length;
    const at = Math.min(X(tick.at), width - half); // the last label stays whole
    add(svg, "text", { x: at, y: bottom + 16, "text-anchor": "middle" }, tick.text);
  }
  for (const tick of yTicks) {
    add(svg, "line", { class: "grid", x1: left, x2: right, y1: Y(tick.at), y2: Y(tick.at) });
    add(svg, "text", { x: left - 6, y: Y(tick.at) + 4, "text-anchor": "end" }, tick.text);
  }
  add(svg, "rect", { class: "border", x: left, y: top, width: right - left, height: bottom - top });
  add(svg, "text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, x.label);
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
