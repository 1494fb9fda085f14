// Puts the parts together: the position of the walk, the numbers, and what follows from them.

const lesson = JSON.parse(byId("lesson").textContent);
const say = lesson.texts;
const list = positions(lesson.problem);
const page = { problem: lesson.problem, walk: null, position: 0, title: "", found: [] };
window.retrograd = page;
const BEAT = 1600; // milliseconds at a position while it plays
let timer = null;

for (const one of document.querySelectorAll("[data-prose]")) one.replaceChildren(...prose(one.textContent).childNodes);

// A title may take two lines, but t = 3 and ∂L/∂b are one word each.
const unbroken = (text) => text.replaceAll(" = ", "\u00a0=\u00a0").replaceAll("/", "/\u2060");

function showPosition() {
  const now = list[page.position], { title, said } = SAID[now.kind](page.problem, page.walk, say, now);
  byId("said").replaceChildren(...said);
  // Announced when it is another one, and not at every number that is typed.
  if (page.title !== title) byId("title").replaceChildren(...prose(unbroken(title)).childNodes);
  page.title = title;
  const where = fill(say.position, { position: page.position + 1, count: list.length });
  byId("slider").value = page.position;
  byId("slider").setAttribute("aria-valuetext", `${title} · ${where}`);
  byId("where").textContent = where;
  // aria-disabled, not disabled: a disabled button loses the focus.
  for (const id of ["first", "back"]) byId(id).setAttribute("aria-disabled", page.position === 0);
  for (const id of ["next", "last"]) byId(id).setAttribute("aria-disabled", page.position === list.length - 1);
  showDrawing();
}

function showDrawing() {
  draw(byId("drawing"), page.problem, page.walk, list[page.position]);
}

function go(position) {
  page.position = Math.max(0, Math.min(list.length - 1, position));
  if (page.position === list.length - 1) stop();
  showPosition();
}

function stop() {
  clearInterval(timer);
  timer = null;
  byId("play").textContent = say.play;
}

function play() {
  if (timer !== null) return stop();
  if (page.position === list.length - 1) go(0);
  timer = setInterval(() => go(page.position + 1), BEAT);
  byId("play").textContent = say.pause;
}

const MOVES = {
  first: () => 0, back: () => page.position - 1, next: () => page.position + 1, last: () => list.length - 1,
};
const KEYS = { Home: "first", ArrowLeft: "back", ArrowRight: "next", End: "last" };
for (const [id, move] of Object.entries(MOVES)) byId(id).addEventListener("click", () => { stop(); go(move()); });
byId("play").addEventListener("click", play);
byId("slider").max = list.length - 1;
byId("slider").addEventListener("input", () => { stop(); go(byId("slider").valueAsNumber); });

// Keys walk where the focus is in the walk, and ← → also where it is nowhere, as when the page has just been opened.
// A drawing wider than its frame is scrolled by them; everywhere else they do what they always do.
document.addEventListener("keydown", (event) => {
  const { key, target } = event, nowhere = target === document.body;
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || !(nowhere || byId("walk").contains(target))) return;
  const frame = target.closest(".scroll, .formula");
  if (frame && frame.scrollWidth > frame.clientWidth) return;
  if (key in KEYS && !(nowhere && ["Home", "End"].includes(key))) {
    stop();
    go(MOVES[KEYS[key]]());
  } else if (key === " " && !nowhere && !target.closest("button")) play();
  else return;
  event.preventDefault();
});

const cellOf = (event) => event.target.closest("button[data-t]");
const pickCell = (event) => {
  const button = cellOf(event);
  if (button) pick(page.problem, page.walk, Number(button.dataset.t), Number(button.dataset.k), false);
};
for (const kind of ["click", "mouseover", "focusin"]) byId("map").addEventListener(kind, pickCell);
byId("map").addEventListener("keydown", (event) => {
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!move || !cellOf(event)) return;
  pick(page.problem, page.walk, map.t + move[0], map.k + move[1], true);
  event.preventDefault();
});

// The difference between this page's arithmetic and the library's, for the numbers that the page was made with.
function deviation(walk, reference) {
  return Math.max(...Object.entries(reference).map(([name, values]) => {
    if (values === null) return 0;
    if (!Array.isArray(values) && typeof values === "object") return deviation(walk[name], values);
    const largest = Math.max(...flat(values).map(Math.abs));
    const apart = Math.max(...flat(minus(walk[name], values)).map(Math.abs));
    return apart === 0 ? 0 : apart / largest;
  }));
}

function compare() {
  if (lesson.walk === null) return; // it overflowed
  const error = deviation(backpropagate(lesson.problem), lesson.walk), fine = error < 1e-12;
  byId("same").textContent = fill(fine ? say.same : say.different, { error: shown(error) });
  byId("same").classList.toggle("wrong", !fine);
}

function changed(problem) {
  page.problem = problem;
  page.walk = backpropagate(problem);
  page.found = differences(problem, page.walk);
  const finite = flat([page.walk.loss, Object.values(page.walk.gradients)]).every(Number.isFinite);
  if (byId("overflow").hidden !== finite) byId("overflow").hidden = finite;
  const closed = problem.feedback.some(Boolean);
  byId("replaced").hidden = !closed;
  byId("legend-closed")?.toggleAttribute("hidden", !closed);
  byId("legend-loss").textContent = problem.loss === "squared-error" ? "e, g" : "g";
  showPosition();
  showResults(problem, page.walk);
  showMap(problem, page.walk, say);
  showCheck(page.found, say);
}

buildPanel(lesson.problem, say, changed);
byId("reset").addEventListener("click", () => buildPanel(lesson.problem, say, changed));
compare();
new ResizeObserver(showDrawing).observe(byId("drawing").parentElement);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showMap(page.problem, page.walk, say));
