// The chart of a study: curves with bands or seeds, drawn by plotly.js, and points that can be visited by keyboard.

const DASHES = ["solid", "dash", "dot", "dashdot", "longdashdot", "longdash"];
const MARKERS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star"];
const COLOURS = 8;
const BUTTONS = [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]]; // none that sends data away

/** Return the colour that a variable of the style has now, in this theme. */
function colour(name, opacity = 1) {
  const probe = make("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g);
  probe.remove();
  return `rgba(${red}, ${green}, ${blue}, ${opacity})`;
}

/** Return a number as a reader wants it: six digits, powers of ten where it is very large or small. */
function written(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(4);
  return value.toLocaleString("en", { maximumSignificantDigits: Number.isInteger(value) ? 15 : 6 });
}

/** Return a text that plotly shows as it is: it takes tags and entities for markup otherwise. */
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

class Chart {
  /** visited(stop, at, kept) is called with a point that is looked at; kept: by a click or Enter. */
  constructor(node, study, visited) {
    Object.assign(this, { node, study, visited, stops: [], stop: 0, at: -1 });
    node.addEventListener("keydown", (event) => this.walk(event));
  }

  label(quantity) {
    const all = [...this.study.across, ...this.study.up];
    return all.find(([name]) => name === quantity)?.[1] ?? quantity;
  }

  /** Draw. view: {x, y, xlog, ylog, show, off: places of the curves that are not shown}. Returns notes for the reader. */
  draw(view) {
    const seeds = [], means = [], without = [];
    this.study.curves.forEach((curve, place) => {
      if (view.off.has(place)) return;
      const found = this.curve(curve, place, view);
      if (!found.length) without.push(curve.name);
      for (const trace of found) (typeof trace.stop?.seed === "number" ? seeds : means).push(trace);
    });
    const traces = [...seeds, ...means]; // means lie above seeds
    const stop = (trace, at) => ({ ...trace.stop, trace: at, at: trace.x, up: trace.y });
    this.stops = traces.map((trace, at) => (trace.stop ? stop(trace, at) : null)).filter(Boolean);
    this.stops.sort((a, b) => a.place - b.place || (a.seed ?? -1) - (b.seed ?? -1));
    traces.forEach((trace) => delete trace.stop);
    Plotly.react(this.node, traces, this.layout(view), {
      responsive: true, displaylogo: false, plotlyServerURL: "", modeBarButtons: BUTTONS,
    });
    if (!this.heard) {
      const point = (event) => event.points[0];
      this.node.on("plotly_hover", (event) => { // those of the keyboard come late, and tell nothing new
        if (event.event instanceof Event) this.visit(point(event).curveNumber, point(event).pointNumber, false);
      });
      this.node.on("plotly_click", (event) => this.visit(point(event).curveNumber, point(event).pointNumber, true));
      this.heard = true;
    }
    this.stop = Math.min(this.stop, Math.max(0, this.stops.length - 1));
    this.at = -1;
    const shown = this.study.curves.length - view.off.size - without.length;
    this.node.setAttribute("aria-label", `${this.label(view.y)} over ${this.label(view.x)}, ${shown} curves`);
    return this.notes(view, without);
  }

  /** Return what is drawn of a curve: band and mean, seeds, or both; nothing where it lacks a quantity. */
  curve(curve, place, view) {
    const style = this.style(place);
    const found = [];
    const seeds = view.show !== "seeds" && view.show !== "both" || this.study.written ? [] : curve.runs;
    for (const run of seeds) {
      const [at, up] = single(known(run, view.x, view.y), view.xlog);
      if (!at.length) continue;
      const text = at.map((x, i) => this.text(view, [curve.name, `seed ${run.seed}`], x, up[i]));
      const line = { ...style.line, width: 1, color: colour(style.name, view.show === "both" ? 0.45 : 0.85) };
      found.push({ ...style.base, x: at, y: up, text, line, mode: "lines", stop: { place, seed: run.seed } });
    }
    if (view.show === "seeds" && !this.study.written) return found;
    const { at, mean, low, high } = band(this.study, curve, view.x, view.y, view.xlog);
    if (!at.length) return found;
    if (view.show !== "mean" && low.some((value, i) => value !== high[i])) {
      const least = Math.min(...mean.filter((value) => value > 0)) / 1e3;
      const raised = view.ylog ? low.map((value) => (value > 0 ? value : least)) : low; // down to the frame
      const edge = { ...style.base, x: at, mode: "lines", line: { width: 0 }, hoverinfo: "skip", hovertemplate: null };
      found.push({ ...edge, y: raised }, { ...edge, y: high, fill: "tonexty", fillcolor: colour(style.name, 0.2) });
    }
    const text = at.map((x, i) => this.text(view, [curve.name, this.spread(curve, low[i], high[i])], x, mean[i]));
    const rows = this.study.written && !this.study.over_rounds;
    const marker = { ...style.marker, maxdisplayed: rows ? 0 : 5 };
    found.push({ ...style.base, x: at, y: mean, text, line: style.line, marker, mode: "lines+markers",
      stop: { place, seed: null, low, high } });
    return found;
  }

  style(place) {
    const name = `curve-${place % COLOURS}`;
    const open = place >= COLOURS ? "-open" : "";
    return {
      name,
      base: { type: "scatter", showlegend: false, hovertemplate: "%{text}<extra></extra>", connectgaps: false },
      line: { color: colour(name), width: 1.8, dash: DASHES[place % DASHES.length] },
      marker: { color: colour(name), symbol: MARKERS[place % MARKERS.length] + open, size: 8 },
    };
  }

  spread(curve, low, high) {
    const count = this.study.written ? curve.runs[0].seeds?.length : curve.runs.length;
    if (count === 1 || (count === undefined && low === high)) return "";
    const seeds = count ? `mean of ${count} seeds` : "mean";
    return low === high ? seeds : `${seeds}, 95% band ${written(low)} to ${written(high)}`;
  }

  text(view, words, x, y) {
    const lines = [...words, `${this.label(view.x)}: ${written(x)}`, `${this.label(view.y)}: ${written(y)}`];
    return lines.filter(Boolean).map(plain).join("<br>");
  }

  layout(view) {
    const axis = (quantity, log) => ({
      title: { text: plain(this.label(quantity)) }, type: log ? "log" : "linear", exponentformat: "power",
      gridcolor: colour("line", 0.5), linecolor: colour("line"), zeroline: false, automargin: true,
    });
    return {
      xaxis: axis(view.x, view.xlog), yaxis: axis(view.y, view.ylog), hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 10, r: 10, t: 30, b: 10 },
      font: { family: "system-ui, sans-serif", color: colour("text") }, modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("text") },
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text") }, align: "left" },
      uirevision: [view.x, view.y, view.xlog, view.ylog].join(" "),
    };
  }

  notes(view, without) {
    const notes = [];
    const runs = this.study.curves.flatMap((curve) => curve.runs);
    const first = runs.find((run) => run.at[view.x] && run.of > run.at[view.x].length);
    if (first) {
      notes.push(`Of ${first.of.toLocaleString("en")} evaluated iterations a run, ${first.at[view.x].length} are on this`
        + " page, the first and the last among them; what lies between is not drawn.");
    }
    if (without.length) notes.push(`Not known on these axes: ${without.join("; ")}.`);
    if (this.study.written) notes.push("From written results: means, without their seeds.");
    return notes.join(" ");
  }

  visit(trace, at, kept) {
    const stop = this.stops.findIndex((one) => one.trace === trace);
    if (stop < 0) return;
    [this.stop, this.at] = [stop, at];
    this.visited(this.stops[stop], at, kept);
  }

  /** Go to the next point or curve by keyboard, and show it as the mouse would. */
  walk(event) {
    const stop = this.stops[this.stop];
    if (!stop || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = stop.at.length - 1, place = Math.max(0, this.at);
    const moves = { ArrowLeft: place - (this.at < 0 ? 0 : 1), ArrowRight: this.at + 1, Home: 0, End: last };
    if (event.key in moves) {
      this.at = Math.min(last, Math.max(0, moves[event.key]));
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const count = this.stops.length;
      this.stop = (this.stop + (event.key === "ArrowDown" ? 1 : count - 1)) % count;
      this.at = nearest(this.stops[this.stop].at, stop.at[place]);
    } else if (event.key !== "Enter") {
      return;
    }
    event.preventDefault();
    const now = this.stops[this.stop];
    this.at = Math.max(0, this.at);
    Plotly.Fx.hover(this.node, [{ curveNumber: now.trace, pointNumber: this.at }]);
    this.visited(now, this.at, event.key === "Enter");
  }
}

/** Return the place of the number that is nearest to another. */
function nearest(numbers, value) {
  return numbers.reduce((best, number, i) => (Math.abs(number - value) < Math.abs(numbers[best] - value) ? i : best), 0);
}
