// The network unrolled over time. A step is two columns: values on the left, their gradients on the right. The states
// have a row of their own above their gradients, so that time runs to the right in one and back in the other.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 14, ENTRY = 17, BAR = 34, BEND = 8, NARROW = 60;
// Offsets of the vertical lines between two steps: into the loss, out of it, back from an input, on to an input.
const LANES = { start: 9, open: 19, closed: 30, loss: 43 };

function svg(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// Text in which W_{hh} and x_2 get their subscripts.
function lettered(parent, attributes, text) {
  const label = svg(parent, "text", attributes);
  let low = 0;
  for (const [, index, braced, plain] of text.matchAll(/(_?)(?:\{([^}]*)\}|([^_{}]+?)(?=_|$))/g)) {
    const to = index ? 4 : 0, part = svg(label, "tspan", { dy: to - low }, braced ?? plain);
    if (index) part.setAttribute("class", "index");
    low = to;
  }
  return label;
}

// Width of a box that holds any number of the walk: it stays the same at every position.
function widthOf(numbers) {
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = "12px system-ui, sans-serif";
  return Math.ceil(Math.max(NARROW, ...flat(numbers).map((value) => ruler.measureText(shown(value)).width + 12)));
}

// A line along right angles through points, its corners rounded.
function bent(points) {
  let path = `M${points[0].join(" ")}`;
  for (let i = 1; i < points.length - 1; i++) {
    const [before, corner, after] = [points[i - 1], points[i], points[i + 1]];
    const towards = (other) => {
      const [dx, dy] = [other[0] - corner[0], other[1] - corner[1]], length = Math.hypot(dx, dy) || 1;
      const by = Math.min(BEND, length / 2) / length;
      return `${corner[0] + dx * by} ${corner[1] + dy * by}`;
    };
    path += `L${towards(before)}Q${corner.join(" ")} ${towards(after)}`;
  }
  return `${path}L${points.at(-1).join(" ")}`;
}

// The places of all rows and columns.
function plan(p, walk) {
  const output = Boolean(p.weight_out), squared = p.loss === "squared-error", closed = p.feedback.some(Boolean);
  const half = widthOf([p.h0, walk.states, walk.delta, walk.gradients.h0, walk.inputs, walk.input_gradient, walk.direct,
    output ? [walk.outputs, walk.output_gradient, walk.output_total] : []]);
  // A loss of states has its lines pass the outputs by.
  const past = output && !squared, gap = past ? LANES.loss + 9 : 42, pitch = 2 * half + gap;
  const tall = (entries) => entries * ENTRY + 30, beside = (entries) => (entries + 1) * ENTRY + 20;
  const heights = { y: output ? tall(p.weight_out.length) : 0, h: tall(p.h0.length), d: tall(p.h0.length), x: tall(p.x[0].length) };
  const tops = {};
  let y = MARGIN + BAR + beside(squared ? p.weight_out.length : p.h0.length) + (closed ? BEND : 0);
  if (output) {
    tops.y = y;
    y += heights.y + beside(p.h0.length);
  }
  tops.h = y;
  tops.d = tops.h + heights.h + 16;
  tops.x = tops.d + heights.d + 46;
  const width = (p.x.length + 1) * pitch - gap + 2 * MARGIN + (past ? LANES.start : 0);
  const height = tops.x + heights.x + MARGIN + (closed ? BEND : 0);
  return { past, squared, half, gap, pitch, heights, tops, width, height, left: (t) => MARGIN + t * pitch };
}

// The corners of an arrow, from its tail to its head, and where its names stand.
function route({ kind, t }, at) {
  const { half, gap, tops, heights, left, past, squared } = at, x = left(t);
  const value = x + half / 2, slope = x + 1.5 * half, bottom = (row) => tops[row] + heights[row];
  const middle = (row) => tops[row] + heights[row] / 2, bar = MARGIN + BAR;
  switch (kind) {
    case "right": return { points: [[left(t - 1) + half + 2, middle("h")], [x - 3, middle("h")]],
      name_at: [left(t - 1) + 1.5 * half + 6, middle("h") - 9, "start"] };
    case "left": return { points: [[x + half - 2, middle("d")], [left(t - 1) + 2 * half + 3, middle("d")]],
      name_at: [value - 5, middle("d") - 9, "end"] };
    case "up": return { points: [[value, tops.x - 2], [value, bottom("h") + 3]], name_at: [value - 6, tops.x - 18, "end"] };
    case "down": return { points: [[slope, bottom("d") + 2], [slope, tops.x - 3]], name_at: [slope + 6, tops.x - 18, "start"] };
    case "out": return { points: [[value, tops.h - 2], [value, bottom("y") + 3]], name_at: [value - 6, tops.h - 14, "end"] };
    case "back": return { points: [[slope, bottom("y") + 2], [slope, tops.d - 3]], name_at: [slope + 6, tops.h - 14, "start"],
      numbers_at: [slope - 6, bottom("y") + 16] };
    case "loss": return past
      ? { points: [[x - 2, tops.h + 12], [x - gap + LANES.loss, tops.h + 12], [x - gap + LANES.loss, bar + 3]] }
      : { points: [[value, tops[squared ? "y" : "h"] - 2], [value, bar + 3]] };
    case "start": {
      const lane = x + 2 * half + LANES.start;
      return past
        ? { points: [[lane, bar + 2], [lane, tops.d + 12], [x + 2 * half + 3, tops.d + 12]], numbers_at: [lane - 6, bar + 17] }
        : { points: [[slope, bar + 2], [slope, tops[squared ? "y" : "d"] - 3]], numbers_at: [slope - 6, bar + 17] };
    }
    // On over the top of the output's gradient, and back below the input: neither line hides the other.
    case "closed": {
      const over = tops.y - BEND - 4, from = left(t - 1) + 0.75 * half, lane = x - gap + LANES.closed;
      return { points: [[from, tops.y - 2], [from, over], [lane, over], [lane, middle("x")], [x - 3, middle("x")]] };
    }
    case "open": {
      const under = bottom("x") + BEND + 4, lane = x - gap + LANES.open;
      return { points: [[slope, bottom("x") + 2], [slope, under], [lane, under], [lane, middle("y")], [left(t - 1) + 2 * half + 3, middle("y")]] };
    }
  }
  throw new Error(`no route for ${kind}`);
}

function draw(figure, p, walk, position) {
  const at = plan(p, walk), { nodes, arrows, come, lit } = scene(p, walk, position), steps = p.x.length;
  const { half, tops, heights, left } = at;
  figure.replaceChildren();
  for (const [name, value] of [["viewBox", `0 0 ${at.width} ${at.height}`], ["width", at.width], ["height", at.height]]) {
    figure.setAttribute(name, value);
  }
  const defs = svg(figure, "defs", {});
  for (const style of ["forward", "backward", "closed", "quiet"]) {
    const marker = svg(defs, "marker", { id: `head-${style}`, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 10,
      markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" });
    svg(marker, "path", { d: "M0 0L10 5L0 10z", class: `head ${style}` });
  }

  const state = (known, style, bright) => `${known ? style : "quiet"}${bright ? " lit" : ""}`;
  const routed = arrows.map((one) => ({ ...one, ...route(one, at) }));
  // What happens now lies on top; names lie on all lines.
  for (const one of routed.toSorted((a, b) => a.lit - b.lit)) {
    const dashed = ["closed", "open"].includes(one.kind) ? " dashed" : "";
    svg(figure, "path", { d: bent(one.points), class: `arrow ${state(one.known, one.style, one.lit)}${dashed}`,
      "marker-end": `url(#head-${one.known ? one.style : "quiet"})`, "data-arrow": one.name });
  }
  for (const { name, known, style, lit: bright, weight, carried, name_at: nameAt, numbers_at: [x, y] = [] } of routed) {
    if (weight) {
      lettered(figure, { x: nameAt[0], y: nameAt[1], class: `weight ${nameAt[2]} ${state(known, style, bright)}`, "data-weight": name }, weight);
    }
    if (carried) {
      const group = svg(figure, "g", { class: `carried ${state(known, style, bright)}`, "data-carried": name });
      lettered(group, { x, y }, carried.label);
      carried.values.forEach((text, i) => svg(group, "text", { x, y: y + (i + 1) * ENTRY, class: "entry" }, text));
    }
  }

  // The loss above all.
  const bar = svg(figure, "g", { class: `half ${state(come.loss, "forward", lit.has("L"))}`, "data-node": "L" });
  svg(bar, "rect", { x: MARGIN, y: MARGIN, width: at.width - 2 * MARGIN, height: BAR, rx: 5 });
  const after = position.kind === "update" ? ` → ${shown(walk.updated_loss)}` : "";
  // Over the last step, which is in sight when the loss is reached.
  svg(bar, "text", { x: at.width - MARGIN - 12, y: MARGIN + 22, class: "label end" },
    `L = ${come.loss ? shown(walk.loss) : "·"}${after}`);

  for (const one of nodes) {
    const row = one.kind === "h" && one.gradient ? "d" : one.kind, x = left(one.t) + (one.gradient ? half : 0), top = tops[row];
    const group = svg(figure, "g", { class: `half ${state(one.known, one.gradient ? "backward" : "forward", one.lit)}`,
      "data-node": one.name });
    svg(group, "rect", { x, y: top, width: half, height: heights[row], rx: 5 });
    lettered(group, { x: x + half / 2, y: top + 16, class: "label" }, one.label);
    one.values.forEach((text, k) => svg(group, "text", { x: x + half / 2, y: top + 37 + k * ENTRY, class: "entry" }, text));
  }

  // What happens now is in sight, also where the drawing is wider than the screen.
  const box = figure.parentElement, { kind, t = kind === "overview" ? 0 : steps } = position;
  // From h_{t-1} to h_t on the way forward, from δ_{t+1} to δ_t on the way back.
  const center = left(t) + ({ forward: -(half + at.gap) / 2, propagate: 2.5 * half + at.gap / 2 }[kind] ?? half);
  box.scrollLeft = center - box.clientWidth / 2;
}
