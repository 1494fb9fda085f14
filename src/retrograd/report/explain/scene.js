// What the drawing shows at a position of the walk: the numbers that are known, what travels on each arrow, and what
// happens now. Every number here is one that the formulas say under the same name.

const closedAt = (p, t) => Boolean(p.feedback[t - 1]); // x_t is y_{t-1}
const fedBy = (p, vector) => vector.slice(0, p.weight_out.length);

// y_0 is there where the loop is closed at the first step.
const outputAt = (p, walk, t) => (t > 0 ? walk.outputs[t - 1] : fedBy(p, walk.inputs[0]));

// How far the walk has come at a position.
function progress(p, { kind, t }) {
  const last = p.x.length, back = ["propagate", "accumulate", "update"].includes(kind);
  return {
    states: kind === "overview" ? 0 : kind === "forward" ? t : last, // the last step whose state is known
    loss: back || kind === "loss" || kind === "initialise",
    started: back || kind === "initialise",
    deltas: kind === "propagate" ? t : back ? 0 : Infinity, // the first step whose δ is known
  };
}

// Names of nodes (x1, dx1, …) and arrows of what happens now.
function happening(p, { kind, t, name }) {
  const found = new Set(), steps = p.x.map((_, k) => k + 1), last = p.x.length, squared = p.loss === "squared-error";
  const light = (...names) => names.forEach((one) => found.add(one));
  const weighed = (s) => squared || closedAt(p, s + 1); // y_s plays a part in L
  if (kind === "forward") {
    light(`h${t}`, `h${t - 1}`, `x${t}`, `right${t}`, `up${t}`);
    if (p.weight_out) light(`y${t}`, `out${t}`);
    if (closedAt(p, t)) light(`y${t - 1}`, `closed${t}`, ...(t === 1 ? ["out0"] : []));
  } else if (kind === "loss") {
    light("L");
    for (const s of steps) if (squared || p.loss !== "final-state" || s === last) light(`loss${s}`, `${squared ? "y" : "h"}${s}`);
  } else if (kind === "initialise") {
    for (const s of steps) {
      light(`start${s}`);
      // Where an output was fed back, its gradient is not whole yet.
      if (squared && !closedAt(p, s + 1)) light(`dy${s}`, `back${s}`);
    }
  } else if (kind === "propagate") {
    // As the formula adds up: g_t, what comes back from h_{t+1}, and what comes back through y_t.
    light(`dh${t}`, ...(t > 0 ? [`dx${t}`, `down${t}`, `${squared ? "back" : "start"}${t}`] : []));
    if (t < last) light(`dh${t + 1}`, `left${t + 1}`);
    if (closedAt(p, t + 1)) light(`dx${t + 1}`, `open${t + 1}`, `start${t}`, `dy${t}`, `back${t}`);
  } else if (kind === "accumulate") {
    for (const s of steps) {
      if (["weight_hh", "weight_ih", "bias"].includes(name)) light(`dh${s}`);
      if (name === "weight_hh") light(`h${s - 1}`, `right${s}`);
      if (name === "weight_ih") light(`x${s}`, `up${s}`);
    }
    for (const s of name.endsWith("_out") ? [...(closedAt(p, 1) ? [0] : []), ...steps].filter(weighed) : []) {
      light(`dy${s}`, ...(name === "weight_out" ? [`h${s}`, `out${s}`] : []));
    }
  } else if (kind === "update") {
    light("L");
    for (const s of [0, ...steps]) light(`right${s}`, `up${s}`, `out${s}`); // where the weights act
  }
  return found;
}

// The picture without its geometry. A node is a value or a gradient of step t; an arrow may bear the name of the weight
// that acts on its way, and the numbers that arrive.
function scene(p, walk, position) {
  const come = progress(p, position), lit = happening(p, position), steps = p.x.length;
  const squared = p.loss === "squared-error", nodes = [], arrows = [];
  const node = (kind, t, gradient, name, values, known) => nodes.push({
    name: `${gradient ? "d" : ""}${kind}${t}`, kind, t, gradient, label: name,
    known: [known].flat().some(Boolean), lit: lit.has(`${gradient ? "d" : ""}${kind}${t}`),
    values: values.map((value, i) => ((Array.isArray(known) ? known[i] : known) ? shown(value) : "·")),
  });
  const arrow = (kind, t, style, known, weight, carried) => arrows.push({
    name: `${kind}${t}`, kind, t, style, known, weight, lit: lit.has(`${kind}${t}`),
    carried: known && carried && carried.values.some((value) => value !== 0)
      ? { label: carried.label, values: carried.values.map(shown) } : null,
  });
  for (let t = 0; t <= steps; t++) {
    const state = come.states >= t, delta = come.deltas <= t;
    node("h", t, false, `h_${t}`, t ? walk.states[t - 1] : p.h0, t === 0 || state);
    node("h", t, true, t ? `δ_${t}` : "∂L/∂h_0", t ? walk.delta[t - 1] : walk.gradients.h0, delta);
    if (t > 0) {
      const fed = closedAt(p, t) ? p.weight_out.length : 0;
      node("x", t, false, `x_${t}`, walk.inputs[t - 1], walk.inputs[t - 1].map((_, i) => state || i >= fed));
      node("x", t, true, `∂L/∂x_${t}`, walk.input_gradient[t - 1], delta);
      arrow("right", t, "forward", state, "W_{hh}");
      arrow("left", t, "backward", come.deltas < t, "W_{hh}ᵀ");
      arrow("up", t, "forward", state, "W_{ih}");
      arrow("down", t, "backward", delta, "W_{ih}ᵀ");
      if (fed) {
        arrow("closed", t, "closed", state);
        arrow("open", t, "backward", come.deltas < t);
      }
      if (squared || p.loss !== "final-state" || t === steps) {
        arrow("loss", t, "forward", come.loss);
        arrow("start", t, "backward", come.started, null, squared
          ? { label: `e_${t}`, values: walk.output_gradient[t - 1] } : { label: `g_${t}`, values: walk.direct[t - 1] });
      }
    }
    if (!p.weight_out || (t === 0 && !closedAt(p, 1))) continue;
    const after = closedAt(p, t + 1), value = walk.output_total[t], reached = come.states >= Math.max(t, 1);
    const whole = after ? delta : come.started;
    node("y", t, false, `y_${t}`, outputAt(p, walk, t), reached);
    node("y", t, true, `∂L/∂y_${t}`, value, whole);
    arrow("out", t, "forward", reached, "C");
    if (squared && !after) arrow("back", t, "backward", whole, "Cᵀ", { label: `g_${t}`, values: walk.direct[t - 1] });
    else if (after) {
      const through = times(transposed(p.weight_out), value);
      arrow("back", t, "backward", whole, "Cᵀ", { label: `Cᵀ∂L/∂y_${t}`, values: through });
    }
  }
  return { come, lit, nodes, arrows };
}
