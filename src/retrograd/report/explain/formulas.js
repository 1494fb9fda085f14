// Formulas in MathML. A formula is a name and pieces; a line is broken between pieces only.

const MATH = "http://www.w3.org/1998/Math/MathML";

function m(tag, ...children) {
  const element = document.createElementNS(MATH, tag);
  element.append(...children);
  return element;
}

const minusSign = (text) => text.replaceAll("-", "−");
const mn = (value) => m("mn", minusSign(typeof value === "number" ? number(value) : value));
const mo = (text) => m("mo", text);
const mi = (text) => m("mi", text);
const row = (...children) => m("mrow", ...children);
const at = (letter, ...index) => m("msub", mi(letter), row(...index.map((part) =>
  typeof part === "number" ? m("mn", String(part)) : "+−,".includes(part) ? mo(part) : mi(part))));
const LETTERS = {
  weight_hh: () => m("msub", mi("W"), m("mi", "hh")), weight_ih: () => m("msub", mi("W"), m("mi", "ih")),
  bias: () => mi("b"), weight_out: () => mi("C"), bias_out: () => mi("c"), h0: () => at("h", 0), x: () => mi("x"),
};
const SPELT = { weight_hh: "W_hh", weight_ih: "W_ih", bias: "b", weight_out: "C", bias_out: "c" };
const letter = (name) => LETTERS[name]();
const slope = (of) => m("mfrac", row(mo("∂"), mi("L")), row(mo("∂"), of));
// A subscript and the sign of transposition stand above each other.
const turned = (of) => (of.tagName === "msub" ? m("msubsup", ...of.childNodes, mo("⊤")) : m("msup", of, mo("⊤")));
const over = (index) => m("munder", mo("Σ"), mi(index));
const target = (t) => m("msubsup", mi("y"), typeof t === "number" ? m("mn", String(t)) : mi(t), mo("*"));
// The part of x that an output takes the place of: x[1…O] where x has more features than y.
const head = (p, of) => {
  const fed = p.weight_out.length;
  if (fed === p.x[0].length) return of;
  return row(of, mo("["), m("mn", "1"), ...(fed > 1 ? [mo("…"), m("mn", String(fed))] : []), mo("]"));
};

// Numbers in brackets: a vector is a column, a list of rows a matrix. The brackets are borders: they fit any font.
function matrix(values) {
  const rows = Array.isArray(values[0]) ? values : values.map((value) => [value]);
  const table = m("mtable", ...rows.map((cells) => m("mtr", ...cells.map((value) => m("mtd", mn(value))))));
  table.classList.add("matrix");
  return table;
}

const across = (vector) => matrix([vector]);
const inSum = (value) => (value < 0 ? row(mo("("), mn(value), mo(")")) : mn(value));

// pieces: lists of MathML elements, strings standing for operators.
function formula(name, ...pieces) {
  const line = document.createElement("div");
  line.className = "formula";
  const part = (...children) => {
    const math = m("math", ...children.map((child) => (typeof child === "string" ? mo(child) : child)));
    math.setAttribute("displaystyle", "true");
    // Infix form: MathML takes a plus at the start of a line for a sign.
    if (typeof children[0] === "string") math.firstChild.setAttribute("form", "infix");
    const box = document.createElement("span");
    box.append(math);
    return box;
  };
  line.append(part(name));
  for (const piece of pieces) line.append(" ", part(...piece));
  return line;
}

// Prose, in which h_t, W_hh and x_{t-1} get their subscripts.
function prose(text, tag = "p") {
  const paragraph = document.createElement(tag);
  for (const part of text.split(/(_\{[^}]*\}|_[A-Za-z0-9]+)/)) {
    if (/^_/.test(part)) {
      const index = document.createElement("sub");
      index.textContent = minusSign(part.replace(/^_\{?|\}$/g, ""));
      paragraph.append(index);
    } else paragraph.append(part);
  }
  return paragraph;
}

const fill = (text, values) =>
  Object.entries(values).reduce((filled, [name, value]) => filled.replaceAll(`{${name}}`, value), text);

// Names and their values beside each other.
function listed([[first, value], ...others]) {
  const apart = () => {
    const space = m("mspace");
    space.setAttribute("width", "1.2em");
    return space;
  };
  return formula(first, ["=", value], ...others.map(([name, one]) => [apart(), name, "=", one]));
}

const isFed = (p, k, i) => Boolean(p.weight_out && p.feedback[k] && i < p.weight_out.length);

// The inputs that are used as they were given; a dash for a feature that an output takes the place of.
function givenInputs(p) {
  return p.x.flatMap((x, k) => {
    const cells = x.map((value, i) => (isFed(p, k, i) ? "–" : value));
    return cells.every((cell) => cell === "–") ? [] : [[at("x", k + 1), matrix(cells)]];
  });
}

// What each position of the walk says: a title, words, and formulas with the numbers put in.
const SAID = {
  overview(p, walk, say) {
    const said = [prose(say.network), formula(at("h", "t"), ["=", letter("weight_hh"), at("h", "t", "−", 1)],
      ["+", letter("weight_ih"), at("x", "t")], ["+", letter("bias")])];
    said.push(prose(say.symbols));
    if (p.weight_out) said.push(prose(say.output), formula(at("y", "t"), ["=", mi("C"), at("h", "t")], ["+", mi("c")]));
    const closed = p.feedback.map((on, k) => (on ? k + 1 : null)).filter((t) => t !== null);
    if (closed.length) said.push(prose(fill(say.closed, { steps: closed.join(say.comma) })));
    else if (p.weight_out && p.loss !== "squared-error") said.push(prose(say.output_unused));
    said.push(prose(say.question), prose(say.notation), prose(say.numbers));
    const named = (names) => names.map((name) => [letter(name), matrix(p[name])]);
    said.push(listed(named(["weight_hh", "weight_ih", "bias"])));
    if (p.weight_out) said.push(listed(named(["weight_out", "bias_out"])));
    said.push(listed([...named(["h0"]), ...givenInputs(p)]));
    if (p.loss === "squared-error") said.push(listed(p.target.map((y, k) => [target(k + 1), matrix(y)])));
    return { title: say.overview, said };
  },

  forward(p, walk, say, { t }) {
    const k = t - 1, said = [prose(p.feedback[k] ? say.forward_closed : say.forward_note)];
    if (p.feedback[k]) {
      const fed = walk.inputs[k].slice(0, p.weight_out.length);
      // y_0 is shown here alone: no step computes it.
      const first = k > 0 ? [] : [["=", mi("C"), at("h", 0), "+", mi("c")], ["=", matrix(p.weight_out), matrix(p.h0)],
        ["+", matrix(p.bias_out)]];
      said.push(formula(head(p, at("x", t)), ["=", at("y", k)], ...first, ["=", matrix(fed)]));
    }
    said.push(formula(at("h", t),
      ["=", letter("weight_hh"), at("h", t - 1), "+", letter("weight_ih"), at("x", t), "+", letter("bias")],
      ["=", matrix(p.weight_hh), matrix(walk.previous[k])], ["+", matrix(p.weight_ih), matrix(walk.inputs[k])],
      ["+", matrix(p.bias)], ["=", matrix(walk.states[k])]));
    if (p.weight_out) {
      said.push(formula(at("y", t), ["=", mi("C"), at("h", t), "+", mi("c")],
        ["=", matrix(p.weight_out), matrix(walk.states[k])], ["+", matrix(p.bias_out)], ["=", matrix(walk.outputs[k])]));
    }
    return { title: `${say.forward} · t = ${t}`, said };
  },

  loss(p, walk, say) {
    const terms = (values, shown) => flat(values).map((value, k) => [k ? "+" : "=", shown(value)]);
    const result = ["=", mn(walk.loss)], steps = p.x.length;
    const name = {
      "final-state": () => [over("i"), at("h", steps, ",", "i")],
      "all-states": () => [over("t"), over("i"), at("h", "t", ",", "i")],
      "squared-error": () => [m("mfrac", mn("1"), mn("2")), over("t"), m("msup",
        row(mo("‖"), at("y", "t"), mo("−"), target("t"), mo("‖")), m("mn", "2"))],
      given: () => [over("t"), turned(at("g", "t")), at("h", "t")],
    }[p.loss]();
    let sums;
    if (p.loss === "squared-error") {
      sums = terms(minus(walk.outputs, p.target), (gap) => m("msup", row(mo("("), mn(gap), mo(")")), m("mn", "2")));
      sums[0].splice(1, 0, m("mfrac", mn("1"), mn("2")), "(");
      sums.at(-1).push(")");
    } else if (p.loss === "given") sums = terms(walk.states.map((h, k) => dot(p.start[k], h)), inSum);
    else sums = terms(p.loss === "final-state" ? walk.states.at(-1) : walk.states, inSum);
    if (sums.length === 1 && p.loss !== "squared-error") sums = []; // it is the result
    return { title: say.loss, said: [prose(ofLoss(say, "loss", p)), formula(mi("L"), ["=", ...name], ...sums, result)] };
  },

  initialise(p, walk, say) {
    const said = [prose(say.initialise_note), prose(ofLoss(say, "initialise", p))];
    for (let t = p.x.length; t > 0; t--) {
      const g = matrix(walk.direct[t - 1]);
      if (p.loss === "squared-error") {
        const out = walk.output_gradient[t - 1];
        said.push(formula(at("e", t), ["=", at("y", t), "−", target(t)],
          ["=", matrix(walk.outputs[t - 1]), "−", matrix(p.target[t - 1])], ["=", matrix(out)]));
        // Where y_t became an input, e_t waits there for what comes back from it.
        if (!p.feedback[t]) {
          said.push(formula(at("g", t), ["=", turned(mi("C")), at("e", t)],
            ["=", matrix(transposed(p.weight_out)), matrix(out)], ["=", g]));
        }
      } else said.push(formula(at("g", t), ["=", g]));
    }
    if (p.loss === "squared-error" && p.feedback.slice(1).some(Boolean)) said.push(prose(say.initialise_waits));
    return { title: say.initialise, said };
  },

  propagate(p, walk, say, { t }) {
    const steps = p.x.length, said = [];
    if (t === steps) {
      said.push(prose(say.propagate_note), prose(say.propagate_last));
      said.push(formula(at("δ", t), ["=", at("g", t)], ["=", matrix(walk.delta[t - 1])]));
    } else {
      const first = t === 0, closed = p.feedback[t];
      // In ∂L/∂y_t the error e_t is already there, of which g_t is what C brings back.
      const own = !first && !(closed && p.loss === "squared-error");
      said.push(prose(first ? say.propagate_first : say.propagate_note));
      const symbols = own ? ["=", at("g", t), "+"] : ["="];
      symbols.push(turned(letter("weight_hh")), at("δ", t + 1));
      const pieces = own ? [["=", matrix(walk.direct[t - 1])]] : [];
      pieces.push([own ? "+" : "=", matrix(transposed(p.weight_hh)), matrix(walk.delta[t])]);
      if (closed) {
        said.push(prose(say.propagate_closed));
        const into = () => head(p, slope(at("x", t + 1)));
        const back = walk.input_gradient[t].slice(0, p.weight_out.length);
        const error = t > 0 && p.loss === "squared-error";
        said.push(formula(slope(at("y", t)), ["=", ...(error ? [at("e", t), "+"] : []), into()],
          ...(error ? [["=", matrix(walk.output_gradient[t - 1])], ["+", matrix(back)], ["=", matrix(walk.output_total[t])]]
            : [["=", matrix(back)]])));
        symbols.push("+", turned(mi("C")), slope(at("y", t)));
        pieces.push(["+", matrix(transposed(p.weight_out)), matrix(walk.output_total[t])]);
      }
      const result = first ? walk.gradients.h0 : walk.delta[t - 1];
      said.push(formula(first ? slope(at("h", 0)) : at("δ", t), symbols, ...pieces, ["=", matrix(result)]));
    }
    if (t > 0) {
      said.push(prose(say.propagate_input));
      said.push(formula(slope(at("x", t)), ["=", turned(letter("weight_ih")), at("δ", t)],
        ["=", matrix(transposed(p.weight_ih)), matrix(walk.delta[t - 1])], ["=", matrix(walk.input_gradient[t - 1])]));
      if (p.feedback[t - 1]) said.push(prose(say.propagate_fed));
    }
    if (t === 0 && steps > 1) {
      said.push(prose(say.propagate_powers));
      if (p.feedback.some(Boolean) && p.weight_out.length === p.x[0].length) said.push(prose(say.propagate_powers_closed));
      const size = (k) => [row(mo("‖"), at("δ", k + 1), mo("‖")), mn(norm(walk.delta[k]))];
      said.push(prose(say.propagate_sizes), listed(walk.delta.map((_, k) => size(k)).toReversed()));
    }
    return { title: `${say.propagate} · ${t > 0 ? `t = ${t}` : "h_0"}`, said };
  },

  accumulate(p, walk, say, { name }) {
    const steps = walk.states.map((_, k) => k), said = [prose(say.accumulate_note)];
    const inner = { weight_hh: walk.previous, weight_ih: walk.inputs };
    const symbols = {
      weight_hh: () => [over("t"), at("δ", "t"), turned(at("h", "t", "−", 1))],
      weight_ih: () => [over("t"), at("δ", "t"), turned(at("x", "t"))],
      bias: () => [over("t"), at("δ", "t")],
    };
    let shown = symbols[name]?.(), terms = steps.map((k) => [walk.delta[k], inner[name]?.[k]]);
    if (!shown) {
      const squared = p.loss === "squared-error", closed = p.feedback.some(Boolean), bare = name === "bias_out";
      const states = [p.h0, ...walk.states];
      // y_0, which only the first input can be, to y_T.
      const used = states.map((_, k) => k).filter((k) => (squared && k > 0) || p.feedback[k]);
      terms = used.map((k) => [walk.output_total[k], bare ? undefined : states[k]]);
      shown = [over("t"), slope(at("y", "t")), ...(bare ? [] : [turned(at("h", "t"))])];
      said.push(prose(squared && closed ? say.accumulate_both : squared ? say.accumulate_error
        : closed ? say.accumulate_fed : say.accumulate_nothing));
    }
    const pieces = terms.map(([d, factor], k) => [k ? "+" : "=", matrix(d), ...(factor ? [across(factor)] : [])]);
    if (terms.length !== 1 || terms[0][1]) pieces.push(["=", matrix(walk.gradients[name])]); // else that term is it
    said.push(formula(slope(letter(name)), ...(terms.length ? [["=", ...shown]] : []), ...pieces));
    return { title: `${say.accumulate} · ∂L/∂${SPELT[name]}`, said };
  },

  update(p, walk, say) {
    const said = [prose(fill(say.update_note, { rate: number(p.learning_rate) }))];
    for (const name of Object.keys(walk.updated)) {
      said.push(formula(letter(name), ["←", matrix(p[name])],
        ["−", mn(p.learning_rate), matrix(walk.gradients[name])], ["=", matrix(walk.updated[name])]));
    }
    const values = { before: minusSign(number(walk.loss)), after: minusSign(number(walk.updated_loss)) };
    said.push(prose(fill(say.before_after, values)));
    const change = walk.updated_loss - walk.loss;
    if (Number.isFinite(change)) {
      said.push(prose(change === 0 ? say.level : change < 0 ? say.fell : say.rose));
      if (p.loss !== "squared-error") said.push(prose(say.no_minimum));
    } else if (Number.isFinite(walk.loss)) said.push(prose(say.update_broken));
    return { title: say.update, said };
  },
};

const ofLoss = (say, what, p) => say[`${what}_${p.loss.replace("-", "_")}`];

function positions(p) {
  const steps = p.x.map((_, k) => k + 1);
  return [
    { kind: "overview" },
    ...steps.map((t) => ({ kind: "forward", t })),
    { kind: "loss" },
    { kind: "initialise" },
    ...[...steps.toReversed(), 0].map((t) => ({ kind: "propagate", t })),
    ...WEIGHTS.filter((name) => p[name]).map((name) => ({ kind: "accumulate", name })),
    { kind: "update" },
  ];
}
