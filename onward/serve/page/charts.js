// Charts: lines over samples, and the heat strip of the units.

const LEFT = 58, RIGHT = 14, END = 54, TOP = 10, BOTTOM = 26, COLUMNS = 512;

/**
 * Lines over x. `lines`: [{kind, name, xs, ys}], drawn in that order; `label(x)`: x in words; `now`: where the future begins.
 * Under the pointer stand the values of all lines at the nearest x.
 */
function lineChart(box, { lines, height, zero, label, title, now, ends }) {
  const width = Math.max(box.clientWidth, 240);
  const xs = lines.flatMap((line) => line.xs);
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const [low, high] = span(lines.flatMap((line) => line.ys), zero);
  const x = scale(first, last, LEFT, width - (ends ? RIGHT + END : RIGHT)), y = scale(low, high, height - BOTTOM, TOP);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title });
  if (now !== undefined && now < last) {
    drawing.append(svg("rect", { class: "ahead", x: x(now), y: TOP, width: x(last) - x(now), height: height - TOP - BOTTOM }));
  }
  for (const tick of ticks(low, high, height / 40)) {
    drawing.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    drawing.append(svg("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, say(tick)));
  }
  const places = ticks(first, last, width / 190).filter(Number.isInteger);
  for (const tick of places) {
    const room = x(tick) < LEFT + 40 ? "start" : x(tick) > width - 60 ? "end" : "middle";
    drawing.append(svg("text", { x: x(tick), y: height - 8, "text-anchor": room }, label(tick)));
  }
  if (now !== undefined && now < last) drawing.append(svg("line", { class: "now", x1: x(now), x2: x(now), y1: TOP, y2: height - BOTTOM }));
  for (const line of lines) {
    const points = line.xs.map((at, index) => [x(at), known(line.ys[index]) ? y(line.ys[index]) : NaN]);
    drawing.append(svg("path", { class: `series ${line.kind}`, d: path(points) }));
  }
  if (ends) drawing.append(...endLabels(lines, x, y));
  const pointer = svg("g");
  drawing.append(pointer);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  box.replaceChildren(drawing, tip);
  const at = box.pointer;
  box.onpointermove = (event) => { box.pointer = event.clientX; show(event.clientX); };
  box.onpointerleave = () => { box.pointer = undefined; pointer.replaceChildren(); tip.hidden = true; };
  if (at !== undefined) show(at);

  function show(clientX) {
    const inside = (clientX - drawing.getBoundingClientRect().left) * (width / drawing.getBoundingClientRect().width);
    const place = xs.reduce((best, one) => (Math.abs(x(one) - inside) < Math.abs(x(best) - inside) ? one : best), xs[0]);
    if (place === undefined) return;
    const found = lines.map((line) => ({ ...line, value: line.ys[line.xs.indexOf(place)] })).filter((line) => known(line.value));
    pointer.replaceChildren(svg("line", { class: "cross", x1: x(place), x2: x(place), y1: TOP, y2: height - BOTTOM }),
      ...found.map((line) => svg("circle", { class: `dot ${line.kind}`, r: 4, cx: x(place), cy: y(line.value) })));
    tip.textContent = [label(place, true), ...found.map((line) => `${line.name}  ${say(line.value)}`)].join("\n");
    tip.hidden = false;
    const left = x(place) + 14 + tip.offsetWidth > width ? x(place) - 14 - tip.offsetWidth : x(place) + 14;
    tip.style.left = `${left}px`;
  }
}

/** The last value of each line beside its end, none over another. */
function endLabels(lines, x, y) {
  const ends = lines.map((line) => ({ x: x(line.xs.at(-1)), value: line.ys.at(-1) })).filter((end) => known(end.value));
  ends.sort((one, other) => other.value - one.value);
  let free = -Infinity;
  return ends.map((end) => {
    free = Math.max(y(end.value) + 4, free + 15);
    return svg("text", { class: "end", x: end.x + 6, y: free }, say(end.value));
  });
}

const mix = (from, to, share) => from.map((part, index) => Math.round(part + (to[index] - part) * share));

/** The colour of a state from -1 to 1: orange, the ground, blue; brighter is more in either direction. */
function heatColour(share) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const middle = dark ? [34, 39, 45] : [246, 247, 249];
  const [down, up] = dark ? [[255, 164, 84], [110, 196, 255]] : [[179, 77, 0], [0, 84, 140]];
  return mix(middle, share < 0 ? down : up, Math.min(1, Math.abs(share)) ** 0.8);
}

/** Units (rows) over samples (columns, as the charts have them) as colours; the greatest size of a state is what the colours' ends mean. */
function heatStrip(box, frames) {
  const rows = frames[0].activity.length, sizes = frames.flatMap((frame) => frame.activity.map(Math.abs)).sort((a, b) => a - b);
  const most = sizes[Math.floor(sizes.length * 0.99)] || 1;
  let canvas = box.querySelector("canvas");
  if (!canvas) {
    canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    box.replaceChildren(canvas);
  }
  canvas.setAttribute("aria-label", `States of ${rows} units at ${frames.length} moments, between −${say(most)} and ${say(most)}`);
  const first = frames[0].samples, last = frames.at(-1).samples, place = scale(0, COLUMNS - 1, first, last);
  const columns = [];
  for (let column = 0, index = 0; column < COLUMNS; column++) {
    while (index + 1 < frames.length && frames[index].samples < place(column)) index++;
    columns.push(frames[index].activity);
  }
  paint(canvas, COLUMNS, rows, (column, row) => (columns[column][row] ?? 0) / most);
  paint($("scale"), 128, 1, (column) => column / 63.5 - 1);
  $("low").textContent = `−${say(most)}`;
  $("high").textContent = say(most);
}

function paint(canvas, width, height, value) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) image.data.set([...heatColour(value(column, row)), 255], 4 * (row * width + column));
  }
  context.putImageData(image, 0, 0);
}
