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

function showResults(p, walk) {
  const names = [...Object.keys(walk.updated), "h0", "x"];
  byId("results").replaceChildren(...names.map((name) => own("tr", [
    own("th", math(letter(name)), { scope: "row" }),
    ...[p[name], walk.gradients[name], walk.updated[name]].map((values, k) =>
      own("td", values ? math(matrix(values)) : "–", k === 1 ? { "data-gradient": name } : {})),
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

const map = { t: 0, k: 0 }; // the cell that is read; none yet

function showMap(p, walk, say) {
  const steps = p.x.length, sizes = walk.lags.map((parts, t) => parts.slice(0, t + 1).map(norm));
  const { low, high, log, shade, any } = shades(sizes.flat());
  const lags = [...Array(steps).keys()];
  const cell = (t, k) => {
    if (k >= t) return own("td", "", { class: "nothing", "data-cell": "" });
    const size = sizes[t - 1][k];
    const kind = size === 0 ? "zero" : Number.isFinite(size) ? "size" : "broken";
    const button = own("button", shown(size), { type: "button", class: kind, "data-t": t, "data-k": k, tabindex: -1,
      "aria-label": `${fill(say.map_cell, { t, k, size: shown(size) })}${kind === "zero" ? `, ${say.map_zero}` : ""}` });
    if (kind === "size") {
      button.style.setProperty("--shade", `${(100 * shade(size)).toFixed(1)}%`);
      button.classList.toggle("strong", shade(size) > 0.5);
    }
    return own("td", button);
  };
  const gradient = walk.gradients.weight_hh, squared = dot(gradient, gradient);
  const byLag = lags.map((k) => sum(walk.lags.map((parts) => parts[k]), gradient));
  const foot = (name, values) => own("tr", [own("th", name, { scope: "row" }), ...values.map((value) => own("td", value))]);
  byId("map-head").replaceChildren(own("th", "t \\ k", { scope: "col" }),
    ...lags.map((k) => own("th", String(k), { scope: "col" })));
  byId("map-body").replaceChildren(...walk.lags.map((_, i) =>
    own("tr", [own("th", String(i + 1), { scope: "row" }), ...lags.map((k) => cell(i + 1, k))])));
  byId("map-foot").replaceChildren(
    foot(say.size, byLag.map((part) => shown(norm(part)))),
    foot(say.share, byLag.map((part) => (squared > 0 ? shown(dot(part, gradient) / squared) : "–"))));
  byId("map-scale").hidden = !any;
  byId("map-low").textContent = shown(low);
  byId("map-high").textContent = `${shown(high)}${log ? " (log)" : ""}`;
  const error = Math.max(...flat(minus(sum(byLag, gradient), gradient)).map(Math.abs));
  byId("map-sum").replaceChildren(prose(squared > 0 ? fill(say.lags_sum, { error: shown(error) }) : say.lags_none));
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
  }
  if (focus) button.focus();
  const name = row(m("mi", "G"), mo("("), mn(String(t)), mo(","), mn(String(k)), mo(")"));
  byId("map-part").replaceChildren(formula(name, ["=", matrix(walk.lags[t - 1][k])]));
}

function showCheck(found, say) {
  const apart = (one) => Math.abs(one.gradient - one.difference);
  const failed = found.filter((one) => !one.agrees), judged = failed.length ? failed : found;
  byId("check").replaceChildren(...found.map((one) => own("tr", [
    own("th", math(row(letter(one.name), mo("["), m("mn", one.index.map((i) => i + 1).join(",")), mo("]"))), { scope: "row" }),
    ...[one.gradient, one.difference, apart(one)].map((value) => own("td", shown(value))),
  ])));
  byId("check-verdict").textContent = fill(failed.length ? say.disagree : say.agree, {
    count: failed.length || found.length, total: found.length,
    largest: shown(Math.max(...judged.map(apart))), allowed: shown(Math.max(...judged.map((one) => one.allowed))),
  });
}
