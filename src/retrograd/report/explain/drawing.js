// The network unrolled over time. A node is x_t, h_t or y_t: on its left half the value, on its right its gradient.

const SVG = "http://www.w3.org/2000/svg";
const HALF = 64, PITCH = 2 * HALF + 46, MARGIN = 12, ENTRY = 17, BAR = 34;

function svg(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// What is known, and what happens, at a position of the walk.
function scene(p, position) {
  const { kind, t, name } = position, last = p.x.length;
  const backward = ["propagate", "accumulate", "update"].includes(kind);
  return {
    kind, t, name,
    states: kind === "overview" ? 0 : kind === "forward" ? t : last, // h_1 … of which the value is known
    loss: backward || kind === "loss" || kind === "initialise",
    started: backward || kind === "initialise",
    deltas: kind === "propagate" ? t : backward ? 0 : Infinity, // δ_t from which on the gradient is known
    update: kind === "update",
  };
}

// Which halves and arrows belong to what happens now.
function lit(p, { kind, t, name }) {
  const found = new Set(), steps = p.x.map((_, k) => k + 1), looked = p.loss === "squared-error";
  const light = (...names) => names.forEach((one) => found.add(one));
  if (kind === "forward") {
    light(`h${t}`, `h${t - 1}`, `x${t}`, `right${t}`, `up${t}`);
    if (p.weight_out) light(`y${t}`, `out${t}`);
    if (p.feedback[t - 1]) light(`y${t - 1}`, `closed${t}`);
  } else if (kind === "loss") {
    for (const s of steps) {
      if (looked) light(`y${s}`);
      if (looked || p.loss !== "final-state" || s === p.x.length) light(`loss${s}`, ...(looked ? [] : [`h${s}`]));
    }
  } else if (kind === "initialise") {
    for (const s of steps) light(`start${s}`, ...(looked ? [`dy${s}`, `back${s}`] : []));
  } else if (kind === "propagate") {
    light(`dh${t}`, `left${t + 1}`, ...(t > 0 ? [`start${t}`, `dx${t}`, `down${t}`] : []));
    if (t < p.x.length) light(`dh${t + 1}`);
    if (t > 0 && (looked || p.feedback[t])) light(`back${t}`);
    if (p.feedback[t]) light(`open${t + 1}`, `dx${t + 1}`, `dy${t}`);
  } else if (kind === "accumulate") {
    for (const s of steps) {
      if (["weight_hh", "weight_ih", "bias"].includes(name)) light(`dh${s}`);
      if (name === "weight_hh") light(`h${s - 1}`, `right${s}`);
      if (name === "weight_ih") light(`x${s}`, `up${s}`);
      if (name.endsWith("_out")) {
        if (looked) light(`dy${s}`, ...(name === "weight_out" ? [`h${s}`, `out${s}`] : []));
        if (p.feedback[s - 1]) light(`dx${s}`, ...(name === "weight_out" ? [`h${s - 1}`] : []));
      }
    }
  }
  return found;
}

function draw(figure, p, walk, position) {
  const now = scene(p, position), bright = lit(p, position), steps = p.x.length, output = Boolean(p.weight_out);
  const squared = p.loss === "squared-error", fed = output ? p.weight_out.length : 0;
  const height = (entries) => entries * ENTRY + 30;
  const gap = Math.max(50, (p.h0.length + 1) * ENTRY + 12);
  const rows = {}, tall = { y: height(fed), h: height(p.h0.length), x: height(p.x[0].length) };
  let y = MARGIN + BAR + gap;
  for (const kind of output ? ["y", "h", "x"] : ["h", "x"]) {
    rows[kind] = y;
    y += tall[kind] + (kind === "x" ? MARGIN : kind === "y" ? gap : 50);
  }
  const width = (steps + 1) * PITCH - 46 + 2 * MARGIN;
  figure.replaceChildren();
  figure.setAttribute("viewBox", `0 0 ${width} ${y}`);
  figure.setAttribute("width", width);
  figure.setAttribute("height", y);
  const defs = svg(figure, "defs", {});
  for (const style of ["forward", "backward", "closed", "looks", "quiet"]) {
    const marker = svg(defs, "marker", { id: `head-${style}`, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 10,
      markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" });
    svg(marker, "path", { d: "M0 0L10 5L0 10z", class: `head ${style}` });
  }
  const left = (t) => MARGIN + t * PITCH;

  function arrow(name, path, style, known) {
    const shown = known ? style : "quiet";
    const classes = `arrow ${shown} ${style === "closed" || name.startsWith("open") ? "dashed" : ""} ${bright.has(name) ? "lit" : ""}`;
    svg(figure, "path", { d: path, class: classes, "marker-end": `url(#head-${shown})`, "data-arrow": name });
  }

  function half(kind, t, gradient, values, known) {
    const name = `${gradient ? "d" : ""}${kind}${t}`;
    const x = left(t) + (gradient ? HALF : 0), top = rows[kind];
    const style = gradient ? "backward" : "forward";
    const classes = `half ${known ? style : "quiet"} ${bright.has(name) ? "lit" : ""}`;
    const group = svg(figure, "g", { class: classes, "data-node": name });
    svg(group, "rect", { x, y: top, width: HALF, height: tall[kind], rx: 5 });
    const label = svg(group, "text", { x: x + HALF / 2, y: top + 16, class: "label" });
    const letter = gradient ? (kind === "h" && t > 0 ? "δ" : `∂${kind}`) : kind;
    svg(label, "tspan", {}, letter);
    svg(label, "tspan", { dy: 4, class: "index" }, String(t));
    values.forEach((value, k) => svg(group, "text", { x: x + HALF / 2, y: top + 37 + k * ENTRY, class: "entry" },
      known ? minusSign(number(value)) : "·"));
  }

  // The loss above all, with what it looks at.
  const bar = svg(figure, "g", { class: `half ${now.loss ? "looks" : "quiet"} ${position.kind === "loss" ? "lit" : ""}` });
  svg(bar, "rect", { x: left(1), y: MARGIN, width: steps * PITCH - 46, height: BAR, rx: 5 });
  // In the middle of what is seen, for a drawing wider than the screen.
  svg(bar, "text", { x: left(steps) + HALF, y: MARGIN + 22, class: "label" },
    `L = ${now.loss ? minusSign(number(walk.loss)) : "·"}`);

  for (let t = 0; t <= steps; t++) {
    const knownState = now.states >= t && position.kind !== "overview" || t === 0;
    const knownDelta = now.deltas <= t;
    const k = t - 1, x = left(t), middle = rows.h + tall.h / 2;
    const valueX = x + HALF / 2, gradientX = x + 1.5 * HALF;
    if (t > 0) {
      const from = x - 46;
      arrow(`right${t}`, `M${from + 2} ${middle - 12}H${x - 3}`, "forward", knownState);
      arrow(`left${t}`, `M${x - 2} ${middle + 12}H${from + 3}`, "backward", knownDelta && now.deltas <= t - 1);
      arrow(`up${t}`, `M${valueX} ${rows.x - 2}V${rows.h + tall.h + 3}`, "forward", knownState);
      arrow(`down${t}`, `M${gradientX} ${rows.h + tall.h + 2}V${rows.x - 3}`, "backward", knownDelta);
      if (output) arrow(`out${t}`, `M${valueX} ${rows.h - 2}V${rows.y + tall.y + 3}`, "forward", knownState);
      const looks = squared || p.loss !== "final-state" || t === steps;
      const below = squared ? rows.y : rows.h;
      // A loss of states passes the outputs by on the right.
      const passing = squared || !output ? 0 : HALF / 2 + 7;
      if (looks) {
        const up = squared || !output ? valueX : x - 8;
        const turn = up === valueX ? "" : `M${x + 2} ${rows.h + 14}H${up}`;
        arrow(`loss${t}`, `${turn || `M${up} ${below - 2}`}V${MARGIN + BAR + 3}`, "looks", now.loss);
        const down = gradientX + passing;
        const end = passing ? `V${rows.h + 14}H${x + 2 * HALF + 2}` : `V${below - 3}`;
        arrow(`start${t}`, `M${down} ${MARGIN + BAR + 2}${end}`, "backward", now.started);
      }
      if (squared || p.feedback[t]) {
        const path = `M${gradientX} ${rows.y + tall.y + 2}V${rows.h - 3}`;
        arrow(`back${t}`, path, "backward", squared ? now.started : now.deltas <= t + 1);
      }
      if (now.started && walk.direct[k].some((value) => value !== 0)) {
        const from = squared ? rows.y + tall.y : MARGIN + BAR;
        const values = walk.direct[k].map((value) => minusSign(number(value)));
        ["g", ...values].forEach((text, i) =>
          svg(figure, "text", { x: gradientX + passing - 7, y: from + 17 + i * ENTRY, class: "beside" }, text));
      }
      half("x", t, false, walk.inputs[k], knownState || !p.feedback[k]);
      half("x", t, true, walk.input_gradient[k], knownDelta);
      if (output) {
        half("y", t, false, walk.outputs[k], knownState);
        const after = p.feedback[t] ? plus(walk.output_gradient[k], walk.input_gradient[t].slice(0, fed))
          : walk.output_gradient[k];
        const complete = p.feedback[t] ? now.deltas <= t + 1 : now.started;
        half("y", t, true, complete ? after : walk.output_gradient[k], squared ? now.started : complete);
      }
    }
    half("h", t, false, t ? walk.states[k] : p.h0, knownState);
    half("h", t, true, t ? walk.delta[k] : walk.gradients.h0, knownDelta);
    if (t > 0 && p.feedback[k] && t > 1) {
      const start = left(t - 1) + 2 * HALF, yTop = rows.y + tall.y / 2, yEnd = rows.x + tall.x / 2;
      const curve = (a, b, ya, yb) => `M${a} ${ya}C${(start + x) / 2 + 12} ${ya} ${(start + x) / 2 - 12} ${yb} ${b} ${yb}`;
      arrow(`closed${t}`, curve(start + 2, x - 3, yTop - 8, yEnd - 8), "closed", knownState);
      const back = `M${x - 2} ${yEnd + 8}C${(start + x) / 2 - 2} ${yEnd + 8} ${(start + x) / 2 + 2} ${yTop + 8} ${start + 3} ${yTop + 8}`;
      arrow(`open${t}`, back, "backward", knownDelta);
    }
  }

  // What happens now is in sight, also where the drawing is wider than the screen.
  const box = figure.parentElement, center = position.t ?? (position.kind === "overview" ? 0 : steps);
  box.scrollLeft = left(center) + HALF - box.clientWidth / 2;
}
