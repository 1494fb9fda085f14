"use strict";
// The four steps on plain arrays: a vector is a list of numbers, a matrix a list of rows. Names as in retrograd.bptt.

const times = (matrix, vector) => matrix.map((row) => row.reduce((sum, weight, k) => sum + weight * vector[k], 0));
const transposed = (matrix) => matrix[0].map((_, k) => matrix.map((row) => row[k]));
const outer = (left, right) => left.map((a) => right.map((b) => a * b));
const zeros = (...shape) => (shape.length ? Array.from({ length: shape[0] }, () => zeros(...shape.slice(1))) : 0);
// Element by element, whatever the depth of the lists.
const combine = (f, a, ...others) =>
  Array.isArray(a) ? a.map((part, k) => combine(f, part, ...others.map((other) => other[k]))) : f(a, ...others);
const plus = (first, ...others) => others.reduce((sum, other) => combine((a, b) => a + b, sum, other), first);
const minus = (a, b) => combine((p, q) => p - q, a, b);
const sum = (parts, like) => parts.reduce((total, part) => plus(total, part), combine(() => 0, like));
const flat = (a) => (Array.isArray(a) ? a.flat(Infinity) : [a]);
const norm = (a) => Math.hypot(...flat(a));
const dot = (a, b) => flat(a).reduce((total, value, k) => total + value * flat(b)[k], 0);
const largest = (a) => Math.max(0, ...flat(a).map(Math.abs)); // NaN, if one is

const WEIGHTS = ["weight_hh", "weight_ih", "bias", "weight_out", "bias_out"];

function forward(p) {
  const run = { states: [], previous: [], inputs: [], outputs: p.weight_out && [] };
  let before = p.h0;
  p.x.forEach((given, k) => {
    const fed = p.feedback[k] ? plus(times(p.weight_out, before), p.bias_out) : [];
    const x = [...fed, ...given.slice(fed.length)];
    const h = plus(times(p.weight_hh, before), times(p.weight_ih, x), p.bias);
    run.previous.push(before);
    run.inputs.push(x);
    run.states.push(h);
    if (p.weight_out) run.outputs.push(plus(times(p.weight_out, h), p.bias_out));
    before = h;
  });
  return run;
}

function lossOf(p, { states, outputs }) {
  const total = (values) => flat(values).reduce((a, b) => a + b, 0);
  if (p.loss === "squared-error") return 0.5 * total(combine((y, target) => (y - target) ** 2, outputs, p.target));
  if (p.loss === "final-state") return total(states.at(-1));
  return p.loss === "all-states" ? total(states) : dot(p.start, states);
}

function backpropagate(p) {
  const run = forward(p), steps = p.x.length, fed = p.weight_out ? p.weight_out.length : 0;

  // 1. initialise
  const output_gradient = p.weight_out && run.outputs.map((y, k) =>
    (p.loss === "squared-error" ? minus(y, p.target[k]) : y.map(() => 0)));
  const direct = run.states.map((h, k) => {
    if (p.loss === "squared-error") return times(transposed(p.weight_out), output_gradient[k]);
    if (p.loss === "given") return p.start[k];
    return h.map(() => (p.loss === "all-states" || k === steps - 1 ? 1 : 0));
  });

  // 2. propagate
  const delta = zeros(steps, p.h0.length), input_gradient = zeros(steps, p.x[0].length);
  let carry = p.h0.map(() => 0);
  for (let k = steps - 1; k >= 0; k--) {
    delta[k] = plus(direct[k], carry);
    input_gradient[k] = times(transposed(p.weight_ih), delta[k]);
    carry = times(transposed(p.weight_hh), delta[k]);
    if (p.feedback[k]) carry = plus(carry, times(transposed(p.weight_out), input_gradient[k].slice(0, fed)));
  }

  // ∂L/∂y_t of y_0 … y_T: what the loss sends straight in, and what comes back from the input that it became.
  const output_total = p.weight_out && [p.bias_out.map(() => 0), ...output_gradient].map((d, k) =>
    (p.feedback[k] ? plus(d, input_gradient[k].slice(0, fed)) : d));

  // 3. accumulate
  const gradients = {
    h0: carry,
    x: input_gradient.map((d, k) => d.map((value, i) => (p.feedback[k] && i < fed ? 0 : value))),
    weight_hh: sum(delta.map((d, k) => outer(d, run.previous[k])), p.weight_hh),
    weight_ih: sum(delta.map((d, k) => outer(d, run.inputs[k])), p.weight_ih),
    bias: sum(delta, p.bias),
  };
  if (p.weight_out) {
    const states = [p.h0, ...run.states];
    gradients.weight_out = sum(output_total.map((d, k) => outer(d, states[k])), p.weight_out);
    gradients.bias_out = sum(output_total, p.bias_out);
  }

  // 4. update
  const names = WEIGHTS.filter((name) => p[name]), updated = {};
  for (const name of names) updated[name] = combine((w, g) => w - p.learning_rate * g, p[name], gradients[name]);
  const moved = { ...p, ...updated };
  return { ...run, loss: lossOf(p, run), output_gradient, output_total, direct, delta, input_gradient, gradients, updated,
    updated_loss: lossOf(moved, forward(moved)), lags: lagParts(p, run, direct) };
}

// The gradient that enters at step t, carried back over lag k, times the state before: these parts sum to ∂L/∂W_hh.
function lagParts(p, run, direct) {
  const steps = p.x.length, fed = p.weight_out ? p.weight_out.length : 0;
  return direct.map((start, t) => {
    let carried = start;
    return run.states.map((_, k) => {
      if (k > t) return zeros(p.h0.length, p.h0.length);
      const at = t - k, part = outer(carried, run.previous[at]);
      const into = times(transposed(p.weight_ih), carried).slice(0, fed);
      carried = times(transposed(p.weight_hh), carried);
      if (p.feedback[at]) carried = plus(carried, times(transposed(p.weight_out), into));
      return part;
    });
  });
}

// Whether a finite difference agrees, and whether it can tell: it is finite, and well below the number in its own error.
function judged(gradient, difference, allowed) {
  const TELLING = 0.1, size = Math.max(Math.abs(gradient), Math.abs(difference));
  const agrees = Math.abs(gradient - difference) <= allowed;
  const checked = Number.isFinite(difference) && Number.isFinite(allowed)
    && (!agrees || size === 0 || allowed <= TELLING * size);
  return { agrees, checked };
}

// Every entry beside its central difference, with what that may be off by: its rounding and its curvature.
function differences(p, walk) {
  const STEP = 2 ** -17, SLACK = 8, found = [];
  const fed = p.weight_out ? p.weight_out.length : 0;
  // The slope, and what rounding may make of it: of sums of the numbers on either side.
  const slope = (name, index, step) => {
    const [up, down] = [1, -1].map((sign) => {
      const moved = structuredClone(p);
      const row = index.slice(0, -1).reduce((a, k) => a[k], moved[name]);
      row[index.at(-1)] += sign * step;
      const run = forward(moved), loss = lossOf(moved, run);
      const weighed = p.loss === "given" ? combine((g, h) => g * h, p.start, run.states) : [];
      const size = flat([run.states, run.outputs ?? [], [loss], weighed]).reduce((sum, one) => sum + Math.abs(one), 0);
      return { loss, size };
    });
    return [(up.loss - down.loss) / (2 * step), (Number.EPSILON * Math.max(up.size, down.size)) / step];
  };
  for (const name of ["h0", "x", ...WEIGHTS].filter((one) => p[one])) {
    const visit = (gradient, value, index) => {
      if (Array.isArray(gradient)) gradient.forEach((part, k) => visit(part, value[k], [...index, k]));
      else if (!(name === "x" && p.feedback[index[0]] && index[1] < fed)) {
        const step = STEP * Math.max(1, Math.abs(value));
        const [[once, rounding], [twice]] = [slope(name, index, step), slope(name, index, 2 * step)];
        const allowed = SLACK * Math.max(Math.abs(twice - once), rounding);
        found.push({ name, index, gradient, difference: once, allowed, ...judged(gradient, once, allowed) });
      }
    };
    visit(walk.gradients[name], p[name], []);
  }
  return found;
}

const DIGITS = 4;

// A number to 4 significant digits: the same text as retrograd.report.explain.blocks.number.
function number(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const [mantissa, exponent] = value.toExponential(DIGITS - 1).split("e");
  if (Number(mantissa) === 0) return "0";
  return exponent >= -4 && exponent < 6 ? String(Number(value.toPrecision(DIGITS))) : `${Number(mantissa)}e${Number(exponent)}`;
}
