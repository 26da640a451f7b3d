"use strict";
// Pieces of drawings: elements, numbers as words, ticks, paths.

const $ = (id) => document.getElementById(id);
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** An SVG element with attributes and children. */
function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A number with about four digits; an em dash where there is none. */
function say(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e7 || size < 1e-3)) return value.toExponential(2).replace("-", "−");
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "−");
}

const count = (value) => value.toLocaleString("en");

/** Round numbers from `low` to `high`, about so `many`. */
function ticks(low, high, many) {
  const rough = (high - low) / many || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const made = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) made.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
  return made;
}

/** From [low, high] to [from, to]. */
const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

/** The `d` of a line through points [x, y], broken where y is unknown. */
function path(points) {
  let text = "", pen = "M";
  for (const [x, y] of points) {
    if (!known(y)) { pen = "M"; continue; }
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return text;
}

/** The least and the greatest of all known values, with some room; from 0 if `zero`. */
function span(values, zero) {
  let low = zero ? 0 : Infinity, high = -Infinity;
  for (const value of values) if (known(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  return [zero ? 0 : low - room, high + room];
}

/** A legend's entries: [class, name] each, a piece of line before the name. */
function legend(element, entries) {
  element.replaceChildren(...entries.map(([kind, name]) => {
    const line = svg("svg", { "aria-hidden": "true", viewBox: "0 0 26 10" }, svg("path", { class: `series ${kind}`, d: "M1 5L25 5" }));
    const entry = document.createElement("span");
    entry.append(line, name);
    return entry;
  }));
}
