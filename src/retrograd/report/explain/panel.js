// The numbers that can be changed. A number that cannot be used is marked and said; the page keeps the last ones.

function fields(p, say) {
  const steps = p.x.map((_, k) => k + 1), count = (n) => Array.from({ length: n }, (_, k) => k + 1);
  const wide = (name, spell, head) => ({ name, head, spell });
  const list = [
    wide("weight_hh", "W_hh", count(p.h0.length)), wide("weight_ih", "W_ih", count(p.x[0].length)),
    wide("bias", "b"), wide("h0", "h_0"),
  ];
  if (p.weight_out) list.push(wide("weight_out", "C", count(p.h0.length)), wide("bias_out", "c"));
  list.push({ ...wide("x", "x", steps), over_time: true });
  if (p.target) list.push({ ...wide("target", say.panel_target, steps), over_time: true });
  if (p.start) list.push({ ...wide("start", "g", steps), over_time: true });
  return list;
}

function numberField(name, value, step = 0.1) {
  const input = own("input", [], { type: "number", step, "aria-label": name, value: String(value), autocomplete: "off",
    "aria-describedby": "panel-said" });
  // Wide enough for what is in it, within reason.
  const fit = () => { input.style.width = `${Math.max(5, Math.min(14, input.value.length)) + 3.5}ch`; };
  input.addEventListener("input", fit);
  fit();
  return input;
}

// Changes a text that is announced only when it is another one.
function tell(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

// Fills the panel with the problem's numbers. changed(problem) is called with new numbers, all of them usable.
function buildPanel(start, say, changed) {
  const inputs = [], problem = structuredClone(start);
  byId("panel").replaceChildren();
  byId("choices").replaceChildren();
  tell("panel-said", "");

  const place = (name, index, value) => {
    const row = index.slice(0, -1).reduce((part, k) => part[k], problem[name]);
    row[index.at(-1)] = value;
  };
  const field = (name, spell, index) => {
    const value = index.reduce((part, k) => part[k], problem[name]);
    const input = numberField(`${spell} [${index.map((k) => k + 1).join(", ")}]`, value);
    inputs.push({ name, index, input, use: (number) => place(name, index, number), usable: Number.isFinite, complaint: say.invalid });
    return input;
  };
  const table = ({ name, spell, over_time: overTime }) => {
    const values = problem[name], isMatrix = Array.isArray(values[0]);
    const cell = (index) => own("td", field(name, spell, index));
    if (!overTime) {
      return own("table", values.map((line, r) => own("tr", isMatrix ? line.map((_, c) => cell([r, c])) : cell([r]))));
    }
    const head = own("tr", [own("th", "t", { scope: "row" }), ...values.map((_, k) => own("th", String(k + 1), { scope: "col" }))]);
    const rows = values[0].map((_, feature) => own("tr", [own("th", `${spell}${values[0].length > 1 ? ` ${feature + 1}` : ""}`, { scope: "row" }),
      ...values.map((_, k) => cell([k, feature]))]));
    return own("table", [head, ...rows]);
  };
  for (const one of fields(problem, say)) {
    const legend = own("legend", LETTERS[one.name] ? math(letter(one.name)) : one.name === "target" ? [`${say.panel_target} `, math(target("t"))] : math(at("g", "t")));
    const set = own("fieldset", [legend, own("div", table(one), { class: "scroll" })], { "data-array": one.name });
    if (one.over_time) set.append(Object.assign(prose(one.name === "x" ? say.x_replaced : say.unused_loss), { className: "note" }));
    byId("panel").append(set);
  }
  if (problem.weight_out && problem.weight_out.length <= problem.x[0].length) {
    const boxes = problem.feedback.map((on, k) => {
      const box = own("input", [], { type: "checkbox", "aria-label": `${say.panel_closed_step} t = ${k + 1}` });
      box.addEventListener("change", () => { problem.feedback[k] = box.checked; read(); });
      return box;
    });
    const all = own("input", [], { type: "checkbox", id: "closed-loop" });
    all.addEventListener("change", () => {
      problem.feedback = problem.feedback.map((on, k) => (k === 0 ? on && all.checked : all.checked));
      read();
    });
    const line = own("tr", [own("th", say.panel_closed_step, { scope: "row" }), ...boxes.map((box) => own("td", box))]);
    byId("panel").querySelector("[data-array=x] table").append(line);
    byId("choices").append(own("label", [all, " ", ...prose(say.panel_closed).childNodes]));
    inputs.closed = () => {
      boxes.forEach((box, k) => { box.checked = problem.feedback[k]; });
      const later = problem.feedback.slice(1);
      all.checked = later.length > 0 && later.every(Boolean);
      all.indeterminate = later.some(Boolean) && !all.checked;
    };
  }
  const losses = ["final-state", "all-states"];
  if (problem.target) losses.push("squared-error");
  if (problem.start) losses.push("given");
  const choice = own("select", losses.map((loss) => own("option", say[`choice_${loss.replace("-", "_")}`], { value: loss })));
  choice.id = "loss-choice";
  choice.addEventListener("change", () => { problem.loss = choice.value; read(); });
  byId("choices").append(own("label", [`${say.panel_loss} `, choice]));
  const rate = numberField(say.panel_rate, problem.learning_rate, 0.01);
  rate.id = "rate";
  inputs.push({ input: rate, use: (number) => { problem.learning_rate = number; }, usable: (number) => number > 0 && Number.isFinite(number), complaint: say.rate_invalid });
  byId("choices").append(own("label", [`${say.panel_rate} `, rate]));

  function read() {
    const wrong = inputs.filter(({ input, usable }) => {
      const bad = !input.disabled && (input.value === "" || !usable(input.valueAsNumber));
      input.setAttribute("aria-invalid", String(bad));
      return bad;
    });
    tell("panel-said", wrong.length
      ? fill(wrong[0].complaint, { name: wrong[0].input.getAttribute("aria-label") }) : say.valid);
    byId("panel-said").classList.toggle("wrong", wrong.length > 0);
    if (wrong.length) return;
    for (const { input, use } of inputs) if (input.value !== "") use(input.valueAsNumber);
    show();
  }
  // A number that plays no part cannot be changed, and its table says why.
  function show() {
    inputs.closed?.();
    choice.value = problem.loss;
    const fed = problem.weight_out?.length ?? 0, lossOf = { target: "squared-error", start: "given" };
    for (const { name, index, input } of inputs) {
      input.disabled = name === "x" ? problem.feedback[index[0]] && index[1] < fed
        : name in lossOf && problem.loss !== lossOf[name];
    }
    for (const note of byId("panel").querySelectorAll("fieldset > .note")) {
      note.hidden = !note.parentElement.querySelector("input:disabled");
    }
    changed(structuredClone(problem));
  }
  for (const { input } of inputs) input.addEventListener("input", read);
  show();
}
