// The four figures, and the events that they are drawn from.

const byId = (id) => document.getElementById(id);
const say = (id, text) => { if (byId(id).textContent !== text) byId(id).textContent = text; };
const TRAIL = 60, MOST_TRAIL_POINTS = 1500;
const LOST = "connection lost (training goes on, unless its command has ended)";
const QUIET = 15000; // milliseconds between two announcements to a screen reader

let frame = null, pictures = null, status = null, ended = false, lost = "", paused = false;
let trail = [], waiting = false, announced = { state: "", at: -QUIET };

function drawLoss({ epoch, loss, thinned }) {
  if (!loss.length) return;
  const positive = loss.every((value) => value !== null && value > 0);
  const log = positive && ends(loss)[1] >= 10 * ends(loss)[0];
  const values = log ? loss.map(Math.log10) : loss;
  const [low, high] = widened(ends(values));
  const [first, last] = ends(epoch);
  const figure = axes(
    byId("loss-figure"),
    { label: "epoch", kind: "linear", low: first, high: last },
    { label: "loss: mean squared error, scaled", kind: log ? "log" : "linear", low, high },
  );
  line(figure, "model", epoch, values);
  const lowest = loss.reduce((best, value, k) => (value < loss[best] ? k : best), 0);
  const runs = frame.closed_loop;
  const of = runs === null ? "predictions one step ahead" : `free runs of ${runs} steps, all along the training part`;
  say("loss-reading",
    `Of ${of}: ` +
    `${short(loss.at(-1))} before the update of epoch ${epoch.at(-1)}; ${short(loss[0])} before the first; lowest: ` +
    `${short(loss[lowest])} before that of epoch ${epoch[lowest]}.` +
    (log ? " The axis is logarithmic." : "") +
    (thinned ? " The smallest and largest of every few epochs are drawn." : ""));
}

function rms(predicted, observed, from, to) {
  let sum = 0, count = 0;
  for (let k = from; k < to; k++) {
    if (predicted[k] === null || observed[k] === null) continue;
    sum += (predicted[k] - observed[k]) ** 2;
    count += 1;
  }
  return count ? Math.sqrt(sum / count) : null;
}

function timeAxis(low, high) {
  return { label: frame.time_label, kind: frame.dated ? "date" : "linear", low, high };
}

function drawPredictions({ one_step: oneStep, free_run: freeRun }) {
  const column = Number(byId("target").value || 0);
  const { time, start } = frame, steps = time.length;
  const observed = frame.observed[column], ahead = oneStep[column], free = freeRun === null ? [] : freeRun[column];
  let range = ends(observed, ahead, free), away = false;
  const [low, high] = ends(observed), span = high - low;
  if (range[0] < low - 5 * span || range[1] > high + 5 * span) {
    // What runs away must not flatten the rest.
    range = [low - span, high + span];
    away = true;
  }
  const [first, last] = ends(time), [bottom, top] = widened(range);
  const figure = axes(
    byId("prediction-figure"),
    timeAxis(first, last),
    { label: "value, original units", kind: "linear", low: bottom, high: top },
  );
  if (start < steps) {
    const left = figure.X(time[start]);
    const size = { x: left, y: figure.top, width: figure.right - left, height: figure.bottom - figure.top };
    add(figure.group, "rect", { class: "shade", ...size });
  }
  line(figure, "model wide", time, ahead);
  line(figure, "truth", time, observed);
  if (freeRun !== null) line(figure, "second dashed", time, free);
  const parts = [`one step ahead ${short(rms(ahead, observed, 0, start))} in the training part`];
  if (start < steps) {
    parts.push(`${short(rms(ahead, observed, start, steps))} in the shaded, held-out end`);
    parts.push(`free run ${short(rms(free, observed, start, steps))} there`);
  }
  const missing = [...ahead.slice(1), ...free.slice(start)].filter((value) => value === null).length;
  say("prediction-reading",
    `${frame.targets[column]}: root mean square error of the steps shown: ${parts.join(", ")}.` +
    (steps < frame.steps ? ` Steps ${frame.first} to ${frame.first + steps - 1} of ${frame.steps} are shown.` : "") +
    (away ? " A prediction leaves the picture." : "") +
    (missing ? ` ${missing} predictions are not finite: the line is broken there.` : "") +
    (frame.target_count > frame.targets.length ? ` ${frame.targets.length} of ${frame.target_count} targets.` : ""));
}

function drawFlow({ at, norm, zero, broken, steps, first, last, thinned }) {
  const logs = norm.map((value) => (value === null ? null : Math.log10(value)));
  const drawn = logs.some((value) => value !== null);
  const [low, high] = drawn ? [Math.min(...logs.filter((v) => v !== null)), Math.max(...logs.filter((v) => v !== null))] : [0, 0];
  const gap = Math.max(0.08 * (high - low), 0.3);
  const [left, right] = ends(at, zero.at, broken.at);
  const figure = axes(
    byId("flow-figure"),
    timeAxis(left, right),
    { label: "‖∂L/∂h_t‖, scaled", kind: "log", low: low - gap, high: high + gap, bare: !drawn },
  );
  line(figure, "model", at, logs);
  // Outside the frame's clip: one at its edge stays whole.
  const edge = { ...figure, group: add(byId("flow-figure"), "g", {}) };
  markers(edge, "cross", "nought", zero.at.map((time) => [figure.X(time), figure.bottom - 6]));
  markers(edge, "triangle", "second solid", broken.at.map((time) => [figure.X(time), figure.top + 7]));
  say("flow-reading",
    `${short(first)} at the first training step, ${short(last)} at the last; the axis is logarithmic.` +
    (frame.closed_loop === null ? "" : " L is the loss of the free runs, h_t the states that they start from.") +
    (zero.count ? ` Exactly zero at ${zero.count} of ${steps} steps: × at the bottom.` : "") +
    (broken.count ? ` Not finite at ${broken.count} of ${steps} steps: ▼ at the top.` : "") +
    (thinned ? " The smallest and largest of every few steps are drawn." : ""));
}

function drawSpectrum() {
  const newest = trail.at(-1);
  const radii = trail.flatMap(({ open, closed }) => [open.radius ?? 0, closed.radius ?? 0]);
  const reach = 1.08 * Math.max(1.05, ...radii);
  const figure = axes(
    byId("spectrum-figure"),
    { label: "real part", kind: "linear", low: -reach, high: reach },
    { label: "imaginary part", kind: "linear", low: -reach, high: reach },
    true,
  );
  const place = ({ re, im }) => re.map((value, k) => [figure.X(value), figure.Y(im[k])]);
  const radius = figure.X(1) - figure.X(0);
  add(figure.group, "circle", { class: "circle", cx: figure.X(0), cy: figure.Y(0), r: radius });
  trail.slice(0, -1).forEach((old, k) => {
    const opacity = 0.05 + (0.45 * (k + 1)) / trail.length;
    markers(figure, "dot", "model trail", place(old.open))?.setAttribute("opacity", opacity);
    markers(figure, "dot", "second trail", place(old.closed))?.setAttribute("opacity", opacity);
  });
  markers(figure, "circle", "model", place(newest.open));
  markers(figure, "diamond", "second", place(newest.closed));
  const told = [["W_hh", newest.open], ["W_hh + W_ih C", newest.closed]].map(([name, { radius: size, broken }]) =>
    `${name} ${short(size)}${size > 1 ? " (outside the unit circle)" : ""}` +
    (broken ? `, ${broken} not finite` : ""));
  say("spectrum-reading", `Largest size: ${told.join("; ")}. Small dots: where they were, the older the fainter.`);
}

function draw() {
  waiting = false;
  if (paused || frame === null || pictures === null) return;
  drawLoss(pictures.loss);
  drawPredictions(pictures);
  drawFlow(pictures.flow);
  drawSpectrum();
  const which = pictures.best ? "with the best weights of the training, as in the report" : `after epoch ${pictures.epoch}`;
  say("shown", `Pictures: ${which}.`);
}

function drawSoon() {
  if (!waiting) requestAnimationFrame(draw);
  waiting = true;
}

const STATES = {
  training: () => "training",
  writing: () => "trained; the report is being written",
  done: () => "done",
  stopped: ({ reason }) => `stopped: ${reason}`,
};

function showStatus() {
  if (status === null) {
    say("state", lost || "connecting");
    return;
  }
  const { epoch, epochs, loss, gradient_norm: norm, best_loss: best, report, state } = status;
  say("epoch", `${epoch} of ${epochs}`);
  byId("progress").max = epochs;
  byId("progress").value = epoch;
  const number = (value) => (value === undefined ? "–" : short(value));
  say("loss", number(loss));
  say("norm", number(norm));
  say("best", number(best));
  const text = lost || STATES[state](status);
  say("state", text);
  document.title = `${epoch}/${epochs} ${document.body.dataset.title}`;
  byId("state").className = lost ? "lost" : state;
  const over = ended ? " The command has ended; this page stays as it is." : "";
  if (report) say("report", `The report is in ${report}.${over}`);
  const now = performance.now();
  if (text !== announced.state || now - announced.at > QUIET) {
    announced = { state: text, at: now };
    say("announcement", `${text}; epoch ${epoch} of ${epochs}, loss ${number(loss)}. ${byId("report").textContent}`);
  }
}

const TAKE = {
  status(content) { status = content; },
  frame(content) {
    const chosen = frame === null ? "0" : byId("target").value; // a connection that is back sends it again
    frame = content;
    byId("target").replaceChildren(...frame.targets.map((name, k) => new Option(name, k)));
    byId("target").value = chosen;
    byId("target-choice").hidden = frame.targets.length < 2;
    byId("free-entry").hidden = frame.start >= frame.time.length;
    drawSoon();
  },
  pictures(content) {
    pictures = content;
    trail.push(content.spectrum);
    const { open, closed } = content.spectrum;
    const points = open.re.length + closed.re.length + 1;
    trail = trail.slice(-Math.max(2, Math.min(TRAIL, Math.floor(MOST_TRAIL_POINTS / points))));
    drawSoon();
  },
  trouble(content) { say("trouble", `The pictures cannot be drawn any more (${content}); the training goes on.`); },
  end() {
    ended = true;
    byId("pause").hidden = !paused;
  },
};
// Whatever comes, the connection is there.
const noted = (take) => (content) => {
  take(content);
  lost = "";
  showStatus();
};
const taken = Object.fromEntries(Object.entries(TAKE).map(([kind, take]) => [kind, noted(take)]));
follow("events", taken, (reason, final) => {
  lost = (reason ? `refused (${reason})` : LOST) + (final ? "" : "; trying again");
  showStatus();
});

byId("target").addEventListener("change", drawSoon);
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").textContent = paused ? "Go on drawing" : "Hold the pictures";
  byId("pause").setAttribute("aria-pressed", String(paused));
  drawSoon();
});
new ResizeObserver(drawSoon).observe(document.querySelector("main"));
