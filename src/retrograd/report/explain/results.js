// The tables below the walk: all gradients, their parts by lag, the check.

const byId = (id) => document.getElementById(id);
const own = (tag, content, attributes = {}) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...(Array.isArray(content) ? content : [content]));
  return element;
};
const math = (...children) => m("math", ...children);
const shown = (value) => minusSign(number(value));

// Rounding error of the sum of a gradient's parts, relative to the gradient.
const ROUNDING = 64 * Number.EPSILON;
// The power of ten that a small size does not exceed: of what rounding leaves, no digit can be relied on.
function bound(size) {
  return shown(size === 0 || !Number.isFinite(size) ? size : 10 ** Math.ceil(Math.log10(size)));
}

// An input that an output took the place of has no gradient.
const ofGiven = (p, gradient) => gradient.map((row, k) => row.map((value, i) =>
  (p.feedback[k] && i < p.weight_out.length ? "–" : value)));

function showResults(p, walk) {
  const names = [...Object.keys(walk.updated), "h0", "x"];
  byId("results").replaceChildren(...names.map((name) => own("tr", [
    own("th", math(letter(name)), { scope: "row" }),
    ...[p[name], walk.gradients[name], walk.updated[name]].map((values, k) =>
      own("td", values ? math(matrix(k === 1 && name === "x" ? ofGiven(p, values) : values)) : "–",
        k === 1 ? { "data-gradient": name } : {})),
  ])));
  byId("loss").replaceChildren(math(row(mi("L"), mo("="), mn(walk.loss))));
}

// Shades from the smallest to the largest size; by its logarithm where sizes span decades.
function shades(sizes) {
  const seen = sizes.filter((size) => size > 0 && Number.isFinite(size));
  const low = Math.min(...seen), high = Math.max(...seen), log = high / low > 100;
  const scale = log ? Math.log : (size) => size;
  const from = log ? scale(low) : 0;
  const shade = (size) => (scale(high) === from ? 1 : (scale(size) - from) / (scale(high) - from));
  return { low: log ? low : 0, high, log, shade, any: seen.length > 0 };
}

// Black or white, whichever can be read better on a shade: one of them always has 4.5 : 1.
function inkOn(shade) {
  const style = getComputedStyle(document.documentElement);
  const [weak, strong] = ["--weak", "--strong"].map((name) =>
    style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16) / 255));
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = dot([0.2126, 0.7152, 0.0722], weak.map((c, i) => linear(c + shade * (strong[i] - c))));
  return 1.05 / (light + 0.05) > (light + 0.05) / 0.05 ? "#fff" : "#000";
}

const map = { t: 0, k: 0 }; // the cell that is read; none yet

function showMap(p, walk, say) {
  const steps = p.x.length, sizes = walk.lags.map((parts, t) => parts.slice(0, t + 1).map(norm));
  const { low, high, log, shade, any } = shades(sizes.flat());
  const lags = [...Array(steps).keys()];
  const cell = (t, k) => {
    if (k >= t) return own("td", "", { class: "nothing", "data-cell": "" });
    const length = sizes[t - 1][k];
    const kind = length === 0 ? "zero" : Number.isFinite(length) ? "size" : "broken";
    const button = own("button", shown(length), { type: "button", class: kind, "data-t": t, "data-k": k, tabindex: -1,
      "aria-label": [fill(say.map_cell, { t, k, size: shown(length) }), ...(kind === "zero" ? [say.map_zero] : [])].join(" · ") });
    if (kind === "size") {
      button.style.setProperty("--shade", `${(100 * shade(length)).toFixed(1)}%`);
      button.style.setProperty("--ink-on", inkOn(shade(length)));
    }
    return own("td", button);
  };
  const gradient = walk.gradients.weight_hh, byLag = lags.map((k) => sum(walk.lags.map((parts) => parts[k]), gradient));
  const size = largest(gradient), finite = flat([byLag, size]).every(Number.isFinite);
  // Scaled, so that squares neither overflow nor vanish.
  const along = finite && size > 0 ? combine((value) => value / size, gradient) : null;
  const share = (part) => shown(dot(combine((value) => value / size, part), along) / dot(along, along));
  const foot = (name, values) => own("tr", [own("th", name, { scope: "row" }), ...values.map((value) => own("td", value))]);
  byId("map-head").replaceChildren(own("th", "t \\ k", { scope: "col" }),
    ...lags.map((k) => own("th", String(k), { scope: "col" })));
  byId("map-body").replaceChildren(...walk.lags.map((_, i) =>
    own("tr", [own("th", String(i + 1), { scope: "row" }), ...lags.map((k) => cell(i + 1, k))])));
  byId("map-foot").replaceChildren(
    foot(say.size, byLag.map((part) => shown(norm(part)))),
    foot(say.share, byLag.map((part) => (along ? share(part) : "–"))));
  byId("map-scale").hidden = !any;
  byId("map-low").textContent = shown(low);
  byId("map-high").textContent = `${shown(high)}${log ? " (log)" : ""}`;
  const error = bound(Math.max(largest(minus(sum(byLag, gradient), gradient)), ROUNDING * size));
  const said = [along ? fill(say.lags_sum, { error }) : finite ? say.lags_none : say.lags_broken];
  if (along && largest(p.h0) === 0) said.push(fill(say.lags_start, { lag: steps - 1 }));
  byId("map-sum").replaceChildren(prose(said.join(say.between)));
  if (map.t === 0) Object.assign(map, { t: steps, k: 0 });
  pick(p, walk, map.t, map.k, false);
}

function pick(p, walk, t, k, focus) {
  const button = byId("map-body").querySelector(`[data-t="${t}"][data-k="${k}"]`);
  if (!button) return;
  Object.assign(map, { t, k });
  for (const other of byId("map-body").querySelectorAll("button")) {
    other.tabIndex = other === button ? 0 : -1;
    other.setAttribute("aria-pressed", String(other === button));
    other.toggleAttribute("aria-describedby", false);
  }
  const name = row(m("mi", "G"), mo("("), mn(String(t)), mo(","), mn(String(k)), mo(")"));
  byId("map-part").replaceChildren(formula(name, ["=", matrix(walk.lags[t - 1][k])]));
  button.setAttribute("aria-describedby", "map-part"); // read with the cell
  if (focus) button.focus();
}

function showCheck(found, say) {
  const agreed = found.filter((one) => one.checked && one.agrees), failed = found.filter((one) => one.checked && !one.agrees);
  const outcome = (one) => (one.checked ? (one.agrees ? say.agrees : say.differs) : say.unchecked);
  byId("check").replaceChildren(...found.map((one) => own("tr", [
    own("th", math(row(letter(one.name), mo("["), m("mn", one.index.map((i) => i + 1).join(",")), mo("]"))), { scope: "row" }),
    ...[shown(one.gradient), shown(one.difference), bound(one.allowed), outcome(one)].map((text) => own("td", text)),
  ])));
  const accuracy = (some) => bound(Math.max(...some.map((one) => one.allowed)));
  const total = found.length, unchecked = total - agreed.length - failed.length, said = [];
  if (agreed.length) said.push(fill(agreed.length === total ? say.agree : say.agree_some,
    { count: agreed.length, total, allowed: accuracy(agreed) }));
  if (failed.length) said.push(fill(say.disagree, { count: failed.length, total, allowed: accuracy(failed),
    largest: shown(Math.max(...failed.map((one) => Math.abs(one.gradient - one.difference)))) }));
  if (unchecked) said.push(fill(say.cannot_check, { count: unchecked, total }));
  byId("check-verdict").textContent = said.join(say.between);
}
