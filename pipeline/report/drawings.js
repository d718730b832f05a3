/* Confusion matrices, predictions against truth and losses of experiments and of the cells of grids, drawn as SVG from
   the numbers that pipeline/report/drawings.py wrote into the page. Users' text enters as text only, never as markup. */

const SHADES = 16; // of a matrix too large to be drawn field by field
const NAMESPACE = document.createRange().createContextualFragment("<svg></svg>").firstChild.namespaceURI;

/* An HTML element. */
function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/* An SVG element. */
function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(NAMESPACE, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function picture(width, height, label, children) {
  const size = { viewBox: `0 0 ${width} ${height}`, style: `width: ${width}px` };
  return svg("svg", { role: "img", "aria-label": label, ...size }, ...children);
}

/* A user's name for something, cut in the middle to fit an axis. */
function short(name, width = 16) {
  const text = name.trim().replace(/\s+/g, " ");
  return text.length <= width ? text : `${text.slice(0, width / 2)}…${text.slice(width / 2 + 1 - width)}`;
}

function text(x, y, content, attributes = {}) {
  return svg("text", { x, y, "font-size": 11, ...attributes }, content);
}

/* A number with commas between its thousands. */
function written(number) {
  return number.toLocaleString("en");
}

/* All figures of one experiment or cell, each a picture and its caption. */
function drawn(result, data) {
  return [
    ...result.tasks.map((task) =>
      task.confusion ? confusion(task, result.name, data) : scatter(task, result.name)),
    ...result.curves.map((group) => losses(group, result.name)),
  ].map(([picture, caption]) => framed(picture, caption));
}

/* A figure as it stands on the page; it scrolls in a box of its own where the screen is too narrow. */
function framed(picture, caption) {
  const box = html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, picture);
  const width = Math.max(Number.parseFloat(picture.style.width), 260);
  return html("figure", { style: `width: ${width}px` }, box, html("figcaption", {}, caption));
}

/* Confusion matrix, each row in percent of its true class; `task.confusion` is flat: true class, predicted class,
   count. `data` has the lists of classes, and of how many a matrix names and prints. */
function confusion(task, experiment, data) {
  const classes = data.classes[task.classes], triples = task.confusion;
  const named = classes.length <= data.named, counted = classes.length <= data.counted;
  const cell = counted ? 34 : named ? 14 : 440 / classes.length;
  const longest = named ? Math.max(...classes.map((name) => short(name).length)) : 0;
  const margin = 24 + 6.4 * longest, side = Math.max(cell * classes.length, 120), wide = cell * classes.length;
  const totals = classes.map(() => 0), drawn = [], wrong = [], shades = Array.from({ length: SHADES }, () => []);
  for (let i = 0; i < triples.length; i += 3) totals[triples[i]] += triples[i + 2];
  for (let i = 0; i < triples.length; i += 3) {
    const [row, column, count] = triples.slice(i, i + 3), share = count / totals[row];
    const [x, y] = [margin + column * cell, row * cell];
    const told = `${classes[row]} → ${classes[column]}: ${written(count)}`;
    if (row !== column) wrong.push([count, told]);
    if (!named) { // tens of thousands of fields may be there: one element for all of a shade
      const place = `M${x.toFixed(2)} ${y.toFixed(2)}h${cell.toFixed(2)}v${cell.toFixed(2)}h${(-cell).toFixed(2)}z`;
      shades[Math.min(Math.floor(share * SHADES), SHADES - 1)].push(place);
      continue;
    }
    const shade = { width: cell, height: cell, fill: "var(--series-1)", "fill-opacity": share.toFixed(3) };
    drawn.push(svg("rect", { x, y, ...shade }, svg("title", {}, `${told} of ${written(totals[row])}`)));
    const middle = { "text-anchor": "middle", class: share > 0.75 ? "strong" : "", "pointer-events": "none" };
    if (counted) drawn.push(text(x + cell / 2, y + cell / 2 + 4, String(Math.round(100 * share)), middle));
  }
  shades.forEach((places, i) => {
    const look = { d: places.join(""), fill: "var(--series-1)", "fill-opacity": (i + 1) / SHADES };
    if (places.length) drawn.push(svg("path", look));
  });
  drawn.push(svg("rect", { x: margin, y: 0.5, width: wide, height: wide - 1, fill: "none", stroke: "var(--rule)" }));
  if (named) {
    classes.forEach((name, i) => {
      const middle = (i + 0.5) * cell + 4, below = `translate(${margin + middle} ${wide + 6}) rotate(-90)`;
      drawn.push(text(margin - 5, middle, short(name), { "text-anchor": "end" }));
      drawn.push(text(0, 0, short(name), { "text-anchor": "end", transform: below }));
    });
  }
  drawn.push(text(margin + wide / 2, wide + margin - 4, "predicted", { "text-anchor": "middle" }));
  const upright = `translate(10 ${wide / 2}) rotate(-90)`;
  drawn.push(text(0, 0, "true", { "text-anchor": "middle", transform: upright }));
  wrong.sort((one, other) => other[0] - one[0]);
  let caption = `${task.name}: what the utterances of each true class (rows) were taken for, in percent of the row.`;
  const rows = `${written(classes.length)} true classes (rows)`;
  if (!named) caption = `${task.name}: ${rows} against predicted ones, the darker the more of the row.`;
  if (!counted && wrong.length) caption += ` Most often: ${wrong.slice(0, 5).map((pair) => pair[1]).join("; ")}.`;
  const label = `Confusion matrix of ${task.name} in experiment ${experiment}: ${classes.length} classes`;
  return [picture(margin + side + 2, wide + margin, label, drawn), caption];
}

/* Round numbers that span a range. */
function ticks(low, high, count = 5) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw * 0.99);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

/* Axes with hairlines, and the way from values to places. */
function axes(width, height, [left, right], [bottom, top], labels, only = 1) {
  const frame = { left: 52, right: width - 8, top: 20, bottom: height - 38 };
  const x = (value) => frame.left + ((value - left) / (right - left || 1)) * (frame.right - frame.left);
  const y = (value) => frame.bottom - ((value - bottom) / (top - bottom || 1)) * (frame.bottom - frame.top);
  const write = (value) => String(Number(value.toPrecision(4)));
  const drawn = [];
  for (const value of ticks(bottom, top)) {
    const line = { x1: frame.left, x2: frame.right, y1: y(value), y2: y(value), stroke: "var(--rule)" };
    drawn.push(svg("line", line), text(frame.left - 6, y(value) + 4, write(value), { "text-anchor": "end" }));
  }
  for (const value of ticks(left, right).filter((tick) => Number.isInteger(tick / only))) {
    const line = { y1: frame.top, y2: frame.bottom, x1: x(value), x2: x(value), stroke: "var(--rule)" };
    drawn.push(svg("line", line), text(x(value), frame.bottom + 15, write(value), { "text-anchor": "middle" }));
  }
  const across = { "text-anchor": "middle", transform: `translate(11 ${(frame.top + frame.bottom) / 2}) rotate(-90)` };
  drawn.push(text((frame.left + frame.right) / 2, height - 5, labels[0], { "text-anchor": "middle" }));
  drawn.push(text(0, 0, labels[1], across));
  return { x, y, drawn };
}

function span(values) {
  const known = values.filter((value) => value !== null);
  return [Math.min(...known), Math.max(...known)];
}

/* True against predicted values of a regression; `task.points` is flat. */
function scatter(task, experiment) {
  const width = 380, height = 330, points = task.points, ends = span(points), name = short(task.name);
  const { x, y, drawn } = axes(width, height, ends, ends, [`true ${name}`, `predicted ${name}`], 0.001);
  const dashed = { stroke: "var(--muted)", "stroke-dasharray": "4 3" };
  drawn.push(svg("line", { x1: x(ends[0]), y1: y(ends[0]), x2: x(ends[1]), y2: y(ends[1]), ...dashed }));
  const dot = { r: 2.4, fill: "var(--series-1)", "fill-opacity": 0.5 };
  for (let i = 0; i < points.length; i += 2) drawn.push(svg("circle", { cx: x(points[i]), cy: y(points[i + 1]), ...dot }));
  const point = task.each === "utterance" ? "an utterance" : "a prediction, one per utterance and seed";
  let caption = `${task.name}: prediction against truth, each point ${point}; on the dashed line they agree.`;
  const shown = points.length / 2;
  if (shown < task.count) caption += ` ${written(shown)} of ${written(task.count)} ${task.each}s.`;
  return [picture(width, height, `Predicted against true ${task.name} in experiment ${experiment}`, drawn), caption];
}

/* Loss per epoch of every fold and seed; a dot marks the lowest validation loss of each. */
function losses({ name, runs }, experiment) {
  const width = 380, height = 290, seeds = new Set(runs.map((run) => run.seed)).size > 1;
  const epochs = span(runs.flatMap((run) => run.epoch));
  const range = span(runs.flatMap((run) => [...run.train, ...run.valid]));
  const { x, y, drawn } = axes(width, height, epochs, range, ["epoch", "loss"]);
  const colours = { train: "var(--series-2)", valid: "var(--series-1)" };
  for (const run of runs) {
    const told = (seeds ? `seed ${run.seed}, ` : "") + `fold ${run.fold}`;
    for (const [part, stroke] of Object.entries(colours)) {
      const known = run.epoch.map((epoch, i) => [epoch, run[part][i]]).filter((pair) => pair[1] !== null);
      const points = known.map(([epoch, loss]) => `${x(epoch).toFixed(1)},${y(loss).toFixed(1)}`).join(" ");
      const line = { points, stroke, fill: "none", "stroke-width": 1.2, "stroke-opacity": 0.75 };
      drawn.push(svg("polyline", line, svg("title", {}, told)));
    }
    if (run.best === null) continue;
    const [epoch, loss] = [run.epoch[run.best], run.valid[run.best]];
    const dot = svg("circle", { cx: x(epoch), cy: y(loss), r: 3, fill: colours.valid });
    dot.append(svg("title", {}, `${told}: lowest validation loss ${loss} at epoch ${epoch}`));
    drawn.push(dot);
  }
  drawn.push(text(width - 8, 12, "validation", { "text-anchor": "end", style: "fill: var(--series-1)" }));
  drawn.push(text(width - 78, 12, "training", { "text-anchor": "end", style: "fill: var(--series-2)" }));
  const caption = `${name}: a line per fold${seeds ? " and seed" : ""}; its dot is the lowest validation loss.`;
  const label = `Training and validation loss of ${name} in experiment ${experiment}`;
  return [picture(width, height, label, drawn), caption];
}
