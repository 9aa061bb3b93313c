// Hover, zoom and switching of categories for the picture of a timeline. The picture is drawn already; this moves what
// is there. Data: positions of the points, and for each category (from the bottom of the stack up) its bytes there.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const { left, right, top: plotTop, bottom } = data.plot;
const figure = document.querySelector("figure");
const svg = figure.querySelector("svg");
svg.setAttribute("aria-label", document.title);
svg.querySelector("title").remove(); // the browser would show it wherever the pointer rests
const tip = document.querySelector(".tip");
const reset = document.querySelector(".reset");
const hiddenCategories = new Set();
let view = [0, data.numEvents];

const toX = (position) => left + ((right - left) * (position - view[0])) / (view[1] - view[0]);
const toPosition = (x) => view[0] + ((view[1] - view[0]) * (x - left)) / (right - left);
const baseX = (position) => left + ((right - left) * position) / data.numEvents;
const toY = (bytes) => bottom - ((bottom - plotTop) * bytes) / data.topBytes;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return parent.appendChild(element);
}

function size(bytes) {
  if (bytes === undefined) return "";
  for (const [unit, factor] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]])
    if (bytes >= factor) return `${(bytes / factor).toFixed(2)} ${unit}`;
  return `${bytes} B`;
}

// The last point at or before a position: its values hold until the next one.
function pointAt(position) {
  let low = 0, high = data.positions.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (data.positions[middle] <= position) low = middle; else high = middle - 1;
  }
  return low;
}

function restack() {
  const total = new Array(data.positions.length).fill(0);
  for (const category of data.categories) {
    const area = svg.querySelector(`.area[data-category="${category.key}"]`);
    const off = hiddenCategories.has(category.key);
    area.setAttribute("visibility", off ? "hidden" : "visible");
    if (off) continue;
    let path = `M${left} ${bottom}`;
    total.forEach((below, point) => {
      total[point] = below + category.bytes[point];
      path += `H${baseX(data.positions[point]).toFixed(2)}V${toY(total[point]).toFixed(1)}`;
    });
    area.setAttribute("d", `${path}H${right}V${bottom}Z`);
  }
}

function placeLabels() {
  for (const label of svg.querySelectorAll(".labels text")) {
    const from = Math.max(toX(+label.dataset.begin), left), to = Math.min(toX(+label.dataset.end), right);
    const fits = to - from > label.getComputedTextLength() + 4;
    label.setAttribute("visibility", fits ? "visible" : "hidden");
    if (fits) label.setAttribute("x", (from + to) / 2);
  }
  for (const group of svg.querySelectorAll(".peak, .out-of-memory")) {
    const from = +group.dataset.x, x = toX(((from - left) / (right - left)) * data.numEvents);
    group.setAttribute("visibility", x >= left && x <= right ? "visible" : "hidden");
    group.setAttribute("transform", `translate(${x - from} 0)`);
    const text = group.querySelector("text"), half = text.getComputedTextLength() / 2;
    text.setAttribute("x", clamp(x, left + half, right - half) - (x - from));
  }
}

function placeTicks() {
  const ticks = svg.querySelector(".event-ticks"), y = +ticks.dataset.y;
  ticks.replaceChildren();
  const power = 10 ** Math.floor(Math.log10((view[1] - view[0]) / 9));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => (view[1] - view[0]) / n <= 9));
  for (let position = Math.ceil(view[0] / step) * step; position <= view[1]; position += step) {
    const x = toX(position);
    make("line", { x1: x, x2: x, y1: y - 14, y2: y - 10, stroke: "#59636e" }, ticks);
    const text = make("text", { x, y: y + 1, "font-size": 11, "text-anchor": "middle", fill: "#59636e" }, ticks);
    text.textContent = Math.round(position).toLocaleString("en-US");
  }
}

function show(begin, end) {
  view = [begin, end];
  const stretch = data.numEvents / (end - begin);
  for (const group of svg.querySelectorAll(".stretched"))
    group.setAttribute("transform", `translate(${toX(0) - left * stretch} 0) scale(${stretch} 1)`);
  placeLabels();
  placeTicks();
  reset.hidden = begin === 0 && end === data.numEvents;
}

function describe(position) {
  const point = pointAt(position), exact = data.positions[point] ?? 0;
  const among = (intervals) => intervals.findIndex(([, begin, end]) => exact >= begin && exact < end);
  const phase = among(data.phases), step = among(data.steps);
  const where = [`event ${exact.toLocaleString("en-US")} of ${data.numEvents.toLocaleString("en-US")}`];
  if (step >= 0) where.push(data.steps[step][0]);
  if (phase >= 0) where.push(data.phases[phase][0]);
  const shown = data.categories.filter((category) => !hiddenCategories.has(category.key) && category.bytes[point]);
  const rows = shown.reverse().map((category) => [category.name, category.bytes[point], category.color]);
  const allocated = data.categories.reduce((sum, category) => sum + category.bytes[point], 0);
  rows.push(["allocated", allocated, ""], ["reserved", data.reserved[point], ""]);
  return [where.join(" · "), rows];
}

function fillTip(position) {
  const [where, rows] = describe(position);
  const heading = document.createElement("b"), table = document.createElement("table");
  heading.textContent = where;
  for (const [name, bytes, color] of rows) {
    const row = table.insertRow(), first = row.insertCell();
    if (color) first.appendChild(document.createElement("i")).style.background = color;
    first.append(name);
    row.insertCell().textContent = size(bytes);
  }
  tip.replaceChildren(heading, table);
}

function pointer(event) {
  const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
  return { x: clamp((event.clientX - box.left) * scale, left, right), box };
}

// A spike of one event is easy to miss with a pointer, so the peak is caught from four pixels away.
function caught(x) {
  const peak = toX(data.peakPosition);
  return Math.abs(peak - x) <= 4 ? data.peakPosition : clamp(toPosition(x), 0, data.numEvents - 1);
}

const cross = make("line", { y1: plotTop, y2: bottom, stroke: "#1f2328", visibility: "hidden" }, svg);
const brush = make("rect", { y: plotTop, height: bottom - plotTop, fill: "#1f2328", opacity: 0.15, width: 0 }, svg);
const capture = make(
  "rect",
  { x: left, y: plotTop, width: right - left, height: bottom - plotTop + 50, fill: "transparent", class: "capture" },
  svg,
);
let dragFrom = null;

capture.addEventListener("pointermove", (event) => {
  const { x, box } = pointer(event), position = caught(x);
  const at = toX(position);
  cross.setAttribute("x1", at);
  cross.setAttribute("x2", at);
  cross.setAttribute("visibility", "visible");
  fillTip(position);
  tip.hidden = false;
  const across = event.clientX - box.left;
  tip.style.left = `${across > box.width / 2 ? across - tip.offsetWidth - 14 : across + 14}px`;
  tip.style.top = `${clamp(event.clientY - box.top - 20, 0, Math.max(0, box.height - tip.offsetHeight))}px`;
  if (dragFrom !== null) {
    brush.setAttribute("x", Math.min(x, dragFrom));
    brush.setAttribute("width", Math.abs(x - dragFrom));
  }
});
capture.addEventListener("pointerleave", () => {
  tip.hidden = true;
  cross.setAttribute("visibility", "hidden");
});
capture.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  dragFrom = pointer(event).x;
  capture.setPointerCapture(event.pointerId);
});
capture.addEventListener("pointerup", (event) => {
  if (dragFrom === null) return;
  const [from, to] = [dragFrom, pointer(event).x].sort((a, b) => a - b);
  dragFrom = null;
  brush.setAttribute("width", 0);
  const [begin, end] = [toPosition(from), toPosition(to)];
  if (to - from > 5 && end - begin >= 5) show(begin, end);
});
capture.addEventListener("pointercancel", () => {
  dragFrom = null;
  brush.setAttribute("width", 0);
});
capture.addEventListener("dblclick", () => show(0, data.numEvents));
reset.addEventListener("click", () => show(0, data.numEvents));

for (const row of svg.querySelectorAll(".legend")) {
  const { x, y, width, height } = row.getBBox();
  make("rect", { x, y, width, height, fill: "transparent" }, row); // the gaps between its words are part of the button
  row.setAttribute("tabindex", "0");
  row.setAttribute("role", "button");
  const toggle = () => {
    const key = row.dataset.category;
    if (!hiddenCategories.delete(key)) hiddenCategories.add(key);
    row.classList.toggle("off", hiddenCategories.has(key));
    restack();
  };
  row.addEventListener("click", toggle);
  row.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      toggle();
    }
  });
}
