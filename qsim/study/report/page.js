// The page: a view of each study, the state in the address, colours, and reading again while a sweep runs.

const data = JSON.parse(document.getElementById("data").textContent);

/** The choices of the reader, kept behind the # of the address, so that they survive a reload and can be bookmarked. */
const choices = {
  get all() { return new URLSearchParams(location.hash.slice(1)); },
  get(name) { return this.all.get(name); },
  set(changes) {
    const all = this.all;
    for (const [name, value] of Object.entries(changes)) value === null ? all.delete(name) : all.set(name, value);
    history.replaceState(null, "", `#${all}`);
  },
};

class View {
  constructor(section, study) {
    Object.assign(this, { section, study, kept: false });
    this.form = section.querySelector("form.controls");
    this.chart = new Chart(section.querySelector(".chart"), study, (...point) => this.visit(...point));
    this.fill(this.form.x, study.across);
    this.fill(this.form.y, study.up);
    if (study.written) this.form.show.querySelectorAll("[value=seeds], [value=both]").forEach((option) => option.remove());
    this.restore();
    this.listCurves();
    section.querySelector(".ends").append(this.ends());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("change", (event) => this.choose(event.target));
    section.querySelector(".all").addEventListener("click", () => this.showAll(true));
    section.querySelector(".none").addEventListener("click", () => this.showAll(false));
    section.querySelector(".numbers").addEventListener("toggle", () => this.fillNumbers());
    this.seed = section.querySelector(".visited select");
    this.seed.addEventListener("change", () => this.tell());
    section.querySelector(".copy").addEventListener("click", () => this.copy());
  }

  fill(select, options) {
    select.append(...options.map(([value, text]) => make("option", { value }, text)));
  }

  /** Take the choices from the address; else bits both ways, and the suboptimality or the first quantity there is. */
  restore() {
    const pick = (select, ...wanted) => {
      const there = [...select.options].map((option) => option.value);
      select.value = wanted.find((value) => there.includes(value)) ?? there[0];
    };
    pick(this.form.x, choices.get("x"), this.study.over_rounds ?? true ? "bits" : null);
    pick(this.form.y, choices.get("y"), "suboptimality", "loss", this.study.written ? this.study.up[1]?.[0] : null);
    pick(this.form.show, choices.get("show"), "band");
    pick(this.form.xscale, choices.get("xscale"), this.usualScale(this.form.x.value));
    pick(this.form.yscale, choices.get("yscale"), this.usualScale(this.form.y.value));
    const off = choices.get("off");
    this.off = new Set(off ? off.split(",").map(Number).filter((place) => place in this.study.curves) : []);
  }

  usualScale(quantity) {
    const log = [...this.study.logarithmic, "bits", "bits_up", "bits_down", "formula_bits_up"];
    return log.includes(quantity) ? "log" : "linear";
  }

  choose(control) {
    if (control.name === "x") this.form.xscale.value = this.usualScale(control.value);
    if (control.name === "y") this.form.yscale.value = this.usualScale(control.value);
    const names = ["x", "y", "xscale", "yscale", "show"];
    choices.set(Object.fromEntries(names.map((name) => [name, this.form[name].value])));
    this.draw();
  }

  listCurves() {
    const list = this.section.querySelector(".list");
    this.boxes = this.study.curves.map((curve, place) => {
      const id = `${this.section.id}-curve-${place}`;
      const box = make("input", { type: "checkbox", id, checked: !this.off.has(place) });
      box.addEventListener("change", () => this.toggle());
      list.append(make("label", {}, box, swatch(this.chart.style(place), place), curve.name));
      return box;
    });
  }

  showAll(shown) {
    this.boxes.forEach((box) => { box.checked = shown; });
    this.toggle();
  }

  toggle() {
    this.off = new Set(this.boxes.map((box, place) => (box.checked ? -1 : place)).filter((place) => place >= 0));
    choices.set({ off: this.off.size ? [...this.off].join(",") : null });
    this.draw();
  }

  get view() {
    const { x, y, xscale, yscale, show } = this.form;
    const log = (scale) => scale.value === "log";
    return { x: x.value, y: y.value, xlog: log(xscale), ylog: log(yscale), show: show.value, off: this.off };
  }

  draw() {
    this.section.querySelector(".notes").textContent = this.chart.draw(this.view);
    this.fillNumbers();
  }

  /** Show the point that is looked at; one that was kept stays until another is kept. */
  visit(stop, at, kept) {
    if (this.kept && !kept && document.activeElement !== this.chart.node) return;
    this.kept = kept;
    this.point = { ...stop, x: stop.at[at], y: stop.up[at], low: stop.low?.[at], high: stop.high?.[at] };
    const runs = this.study.curves[stop.place].runs;
    const before = this.seed.value;
    this.seed.replaceChildren(...runs.map((run, i) => make("option", { value: i }, run.seed ?? "–")));
    const asked = runs.findIndex((run) => run.seed === stop.seed && run.seed !== null);
    this.seed.value = asked >= 0 ? asked : before in runs ? before : 0;
    this.seed.parentElement.hidden = Boolean(this.study.written);
    this.section.querySelector(".made").hidden = false;
    this.tell();
  }

  /** Say where the point is, what the chosen seed has there, and which run made it. */
  tell() {
    const { x, y, low, high, place, seed } = this.point, view = this.view, curve = this.study.curves[place];
    const label = (name) => this.chart.label(name);
    const spread = seed === null ? this.chart.spread(curve, low, high) : `seed ${seed}`;
    const words = [curve.name, spread, `${label(view.x)} ${written(x)}`, `${label(view.y)} ${written(y)}`];
    this.section.querySelector(".where").textContent = words.filter(Boolean).join("; ");
    const run = curve.runs[this.seed.value];
    const [at, up] = known(run, view.x, view.y), near = nearest(at, x);
    const round = run.at.round?.[places(run, view.x, view.y)[near]];
    const seen = [`Seed ${run.seed}: iteration ${round}`, `${label(view.x)} ${written(at[near])}`, `${label(view.y)} ${written(up[near])}`];
    if (run.method) seen.push(run.method);
    const others = run.seeds ? `The run of seed ${run.seeds[0]}; with another seed it made those of ${run.seeds.join(", ")}.` : "";
    this.section.querySelector(".seen").textContent = this.study.written ? others : seen.join("; ");
    this.section.querySelector(".run").textContent = run.run || "The written results do not say.";
    this.section.querySelector(".copied").textContent = "";
  }

  async copy() {
    const said = this.section.querySelector(".copied");
    said.textContent = (await copied(this.section.querySelector(".run").textContent)) ? "Copied." : "The browser refused.";
  }

  ends() {
    const counted = ["round", "bits", "bits_up", "nonzeros", "seconds"].filter((name) => this.study.across.some(([one]) => one === name));
    const quantities = [...this.study.up.map(([name]) => name).filter((name) => !counted.includes(name)), ...counted];
    const shown = this.study.written && !this.study.over_rounds ? [] : quantities;
    const rows = this.study.curves.map((curve) => {
      const seeds = this.study.written ? curve.runs[0].seeds?.length : curve.runs.length;
      return [curve.name, String(seeds ?? "–"), ...shown.map((name) => {
        const end = band(this.study, curve, "round", name, false).mean.at(-1);
        return [written(end), end];
      })];
    });
    const caption = "At the last iteration that all seeds of a curve have: means, geometric for suboptimality and gradient norms.";
    return makeTable(caption, ["curve", "seeds", ...shown.map((name) => this.chart.label(name))], rows);
  }

  fillNumbers() {
    const details = this.section.querySelector(".numbers"), view = this.view;
    if (!details.open) return;
    const rows = this.chart.stops.flatMap((stop) => stop.at.map((x, i) => {
      const numbers = [x, stop.up[i], stop.low?.[i], stop.high?.[i]];
      const what = stop.seed === null ? "mean" : String(stop.seed);
      return [this.study.curves[stop.place].name, what, ...numbers.map((number) => [written(number), number])];
    }));
    const heads = ["curve", "seed", this.chart.label(view.x), this.chart.label(view.y), "band, low", "band, high"];
    details.querySelector(".rows").replaceChildren(makeTable(`${heads[3]} over ${heads[2]}: all points drawn`, heads, rows));
  }
}

/** Return a line with a marker, as the curve at a place has them. */
function swatch({ name, line }, place) {
  const dashes = { solid: "", dash: "6 3", dot: "2 2", dashdot: "6 2 2 2", longdash: "9 3", longdashdot: "9 2 2 2" };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  Object.entries({ width: 34, height: 12, "aria-hidden": true }).forEach(([key, value]) => svg.setAttribute(key, value));
  const path = document.createElementNS(svg.namespaceURI, "path");
  const look = { d: "M1 6H33", stroke: `var(--${name})`, "stroke-width": place >= COLOURS ? 3 : 2, "stroke-dasharray": dashes[line.dash] };
  Object.entries(look).forEach(([key, value]) => path.setAttribute(key, value));
  svg.append(path);
  return svg;
}

/** Put a text onto the clipboard; tells whether that went well. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text }); // where a page may not use the clipboard but by a selection
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

const views = new Map();

/** Show the study that the address names, and draw it the first time that it is seen. */
function showStudy() {
  const wanted = Number(choices.get("study") ?? 0), at = wanted in data.studies ? wanted : 0;
  document.querySelectorAll(".study").forEach((section, place) => { section.hidden = place !== at; });
  document.querySelectorAll("#tabs a").forEach((link, place) => {
    place === at ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  });
  if (!views.has(at) && data.studies[at].curves) {
    const view = new View(document.getElementById(`study-${at}`), data.studies[at]);
    views.set(at, view);
    view.draw();
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  views.forEach((view) => view.draw());
}

/** Read the page again while a sweep runs, unless it is held or the reader is at it; say how old it is. */
function follow() {
  const born = Date.now(), hold = document.getElementById("pause");
  let touched = born;
  const held = () => hold.getAttribute("aria-pressed") === "true";
  for (const kind of ["pointermove", "keydown", "wheel"]) addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  hold.setAttribute("aria-pressed", choices.get("hold") === "1");
  hold.addEventListener("click", () => {
    hold.setAttribute("aria-pressed", !held());
    choices.set({ hold: held() ? "1" : null });
  });
  setInterval(() => {
    const now = Date.now(), idle = now - touched > 2000;
    if (held()) document.getElementById("age").textContent = `Held for ${Math.round((now - born) / 1000)} s.`;
    else if (idle && now - born >= 1000 * data.every) location.reload();
  }, 500);
}

const theme = document.getElementById("theme");
theme.value = choices.get("theme") ?? "auto";
document.documentElement.dataset.theme = theme.value;
theme.addEventListener("change", () => {
  choices.set({ theme: theme.value === "auto" ? null : theme.value });
  setTheme(theme.value);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(theme.value));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  (document.querySelector(".study:not([hidden]) .chart") ?? document.getElementById("main")).focus();
});
document.querySelectorAll("#tabs a").forEach((link, place) => link.addEventListener("click", (event) => {
  event.preventDefault();
  choices.set({ study: place, x: null, y: null, xscale: null, yscale: null, off: null });
  showStudy();
}));
addEventListener("hashchange", showStudy);
document.querySelectorAll(".findings table").forEach((table) => inBox(table, "A table of the findings"));
showStudy();
if (data.every) follow();
