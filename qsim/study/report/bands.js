"use strict";
// Means over seeds with their bands, on any axis: the same numbers as `Results.band` has with t-intervals.

/** Return at which points of a run both quantities are known. */
function places(run, x, y) {
  const across = run.at[x] ?? [], up = run.at[y] ?? [];
  return across.map((_, i) => i).filter((i) => i < up.length && across[i] !== null && up[i] !== null);
}

/** Return the points of a run at which both quantities are known, as [across, up]. */
function known(run, x, y) {
  const there = places(run, x, y);
  return [there.map((i) => run.at[x][i]), there.map((i) => run.at[y][i])];
}

/** Return a curve with one y for each position, the last; only positions above zero if they shall be positive. */
function single([across, up], positive) {
  const keep = across.map((x, i) => (i + 1 === across.length || across[i + 1] > x) && (!positive || x > 0));
  return [across.filter((_, i) => keep[i]), up.filter((_, i) => keep[i])];
}

/** Put the curves of several seeds on one grid of what all have, linearly between positions (or in logarithms). */
function resample(seeds, logX, logY) {
  const curves = seeds.map((seed) => single(seed, logX));
  if (!curves.length || curves.some(([at]) => !at.length)) return [[], []];
  const low = Math.max(...curves.map(([at]) => at[0]));
  const high = Math.min(...curves.map(([at]) => at[at.length - 1]));
  if (low > high) return [[], []];
  const inside = curves.map(([at]) => at.filter((x) => x >= low && x <= high));
  let grid = inside.reduce((shared, at) => {
    const there = new Set(at);
    return shared.filter((x) => there.has(x));
  });
  const fewest = Math.min(...inside.map((at) => at.length)), most = Math.max(...inside.map((at) => at.length));
  if (grid[0] !== low || grid[grid.length - 1] !== high || grid.length < fewest) {
    grid = spaced(low, high, low === high ? 1 : Math.max(2, most), logX);
  }
  const values = curves.map(([at, up]) => interpolate(grid, at, up, logX, logY));
  return [grid, values];
}

/** Return points from low to high, evenly spaced, or so in logarithms. */
function spaced(low, high, points, log) {
  const [a, b] = log ? [Math.log(low), Math.log(high)] : [low, high];
  return Array.from({ length: points }, (_, i) => {
    if (i === 0) return low;
    if (i === points - 1) return high;
    const at = a + ((b - a) * i) / (points - 1);
    return log ? Math.exp(at) : at;
  });
}

function interpolate(grid, at, up, logX, logY) {
  const x = logX ? at.map(Math.log) : at, y = logY ? up.map(logarithm) : up;
  let i = 0;
  return grid.map((place) => {
    const here = logX ? Math.log(place) : place;
    while (i + 2 < x.length && x[i + 1] < here) i += 1;
    const next = Math.min(i + 1, x.length - 1);
    const share = x[next] > x[i] ? Math.min(1, Math.max(0, (here - x[i]) / (x[next] - x[i]))) : 0;
    const value = share === 0 ? y[i] : share === 1 ? y[next] : y[i] + share * (y[next] - y[i]);
    return logY ? Math.exp(value) : value;
  });
}

/** Return the logarithm, NaN of what is not above zero. */
function logarithm(value) {
  return value > 0 ? Math.log(value) : NaN;
}

/** Return the mean over seeds with its band, {at, mean, low, high}; geometric for logarithmic quantities. */
function band(study, curve, x, y, logX) {
  if (study.written) return writtenBand(curve.runs[0], x, y, logX, study.over_rounds);
  const log = study.logarithmic.includes(y);
  const [at, samples] = resample(curve.runs.map((run) => known(run, x, y)), logX, log);
  const seeds = samples.length, t = study.t[seeds] ?? 0;
  const found = { at, mean: [], low: [], high: [] };
  for (let point = 0; point < at.length; point += 1) {
    const column = samples.map((sample) => (log ? logarithm(sample[point]) : sample[point]));
    const mean = column.reduce((sum, value) => sum + value, 0) / seeds;
    const squares = column.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const half = seeds > 1 ? t * Math.sqrt(squares / (seeds - 1) / seeds) : 0;
    const back = log ? Math.exp : (value) => value;
    found.mean.push(back(mean));
    found.low.push(back(mean - half));
    found.high.push(back(mean + half));
  }
  return found;
}

/** Return the band that a study wrote: of a table that is not over rounds the rows are put in order of x. */
function writtenBand(run, x, y, logX, overRounds) {
  const order = places(run, x, y).filter((i) => !logX || run.at[x][i] > 0);
  if (!overRounds) order.sort((a, b) => run.at[x][a] - run.at[x][b]);
  const mean = order.map((i) => run.at[y][i]);
  const end = (name) => (run.at[name] ? order.map((i, point) => run.at[name][i] ?? mean[point]) : mean);
  return { at: order.map((i) => run.at[x][i]), mean, low: end(`${y}_low`), high: end(`${y}_high`) };
}
