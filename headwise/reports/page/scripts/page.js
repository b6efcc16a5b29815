// The report page: maps, the panel of one head, examples, and the addresses that lead to them.

const state = { view: "before", head: null, example: null, sinks: "with" };
const maps = [];
const about = JSON.parse(document.getElementById("headwise-data").textContent);
const data = makeData(about, blobText);
const panel = document.getElementById("head");
let opener = null;
let shading = 0;

function blobText(name) {
  const inline = document.getElementById(`blob-${name}`);
  if (inline) return inline.textContent;
  const file = window.headwiseFiles?.[name];
  if (!file) return Promise.reject(new Error(`no data for ${name}`));
  return new Promise((done, failed) => {
    window.headwiseData = { ...window.headwiseData, [name]: done };
    const onerror = () => failed(new Error(`${file} is missing beside the page`));
    document.head.append(element("script", { src: file, onerror }));
  });
}

// maps -------------------------------------------------------------------------------------------------------------

function makeMaps() {
  about.metrics.forEach((metric, outer) => metric.panels.forEach((panelData, inner) => {
    const host = document.getElementById(`map-${outer}-${inner}`);
    const open = panelData.group
      ? (row, column) => go(headAddress(panelData.group, panelData.layers[row], column))
      : null;
    const grid = makeGrid(host, { ...mapSpec(metric, panelData, state.view, data), open });
    maps.push({ metric, panel: panelData, grid, host, outer });
    document.getElementById(`cells-${outer}-${inner}`)?.addEventListener("toggle", (event) => {
      if (event.target.open) listCells(event.target, metric, panelData);
    });
  }));
}

function listCells(details, metric, panelData) {
  const cells = shownCells(panelData, state.view);
  const said = (value) => worded(value, metric, panelData, state.view);
  const name = (row, column) =>
    headAddress(panelData.group, panelData.layers[row], column).replace(/^head/, metric.key);
  const rows = cells.map((row, i) => [
    element("th", { scope: "row" }, panelData.layers[i]),
    ...row.map((value, j) => element("td", { class: "number" },
      panelData.group ? element("a", { href: `#${name(i, j)}` }, said(value)) : said(value))),
  ]);
  const header = ["layer", ...(cells[0] ?? []).map((_, column) => String(column))];
  details.querySelector(".scroll")?.remove();
  details.append(table(header, rows));
}

function showView(view) {
  state.view = view;
  document.documentElement.dataset.view = view;
  for (const map of maps) map.grid.update(mapSpec(map.metric, map.panel, state.view, data));
  document.querySelectorAll("details.cells[open]").forEach((details) => (details.open = false));
}

function markMaps() {
  const head = state.head;
  for (const map of maps) {
    const here = head && map.panel.group === head.group && map.panel.cells[head.layer]?.[head.head] !== undefined;
    map.grid.mark(here ? [head.layer, head.head] : null);
  }
}

// addresses --------------------------------------------------------------------------------------------------------

function go(address) {
  if (location.hash === `#${address}`) route();
  else location.hash = address;
}

function parse(address) {
  const example = /^(.*?)-?example-(\d+)$/.exec(address);
  const rest = example ? example[1] : address;
  const found = { head: null, metric: null, example: example ? +example[2] : null };
  for (const group of about.groups) {
    for (const prefix of ["head", ...about.metrics.map((metric) => metric.key)]) {
      const start = `${prefix}-${group.key}-`;
      const place = rest.startsWith(start) ? /^(\d+(?:\.\d+)?)-(\d+)$/.exec(rest.slice(start.length)) : null;
      const layer = place ? group.layers.findIndex((name) => headAddress(group.key, name, 0).startsWith(
        `head-${group.key}-${place[1]}-`)) : -1;
      if (layer < 0 || +place[2] >= group.heads) continue;
      found.head = { group: group.key, layer, head: +place[2] };
      found.metric = prefix === "head" ? null : prefix;
    }
  }
  return found;
}

function addressHere() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // a broken escape
  }
}

// `given` is false for the address with which the page was opened: then the reader has not moved anything.
async function route(given = true) {
  const found = parse(addressHere());
  state.example = found.example;
  state.head = found.head;
  markMaps();
  document.querySelectorAll(".example").forEach((part) =>
    part.classList.toggle("chosen", part.id === `example-${found.example}`));
  shadeExamples();
  if (!found.head) {
    if (!panel.hidden) closePanel();
    return;
  }
  const from = document.activeElement;
  const inside = panel.contains(from) ? from.id : null;
  if (inside === null) opener = from;
  openPanel();
  const title = await fillHead(panel.querySelector(".inside"), data, found.head, found.example, {
    id: "head",
    name: tokenName,
    exampleLink: (number) => (document.getElementById(`example-${number}`) ? `example-${number}` : null),
    choose: (example) => {
      const group = data.groups.get(found.head.group);
      const address = headAddress(group.key, group.layers[found.head.layer], found.head.head);
      go(example === null ? address : `${address}-example-${example}`);
    },
  });
  if (given) (document.getElementById(inside || "none") ?? title).focus({ preventScroll: true });
  if (found.metric) {
    const map = maps.find((one) => one.metric.key === found.metric && one.panel.group === found.head.group);
    map?.host.scrollIntoView({ block: "center" });
  }
}

function openPanel() {
  inPlace(() => {
    panel.hidden = false;
    document.body.classList.add("with-panel");
  });
}

function closePanel() {
  const back = panel.contains(document.activeElement) ? opener : null;
  inPlace(() => {
    panel.hidden = true;
    document.body.classList.remove("with-panel");
  });
  opener = null;
  back?.focus({ preventScroll: true });
}

// The panel takes room from the page: what the reader has chosen, or else the first part in sight, stays where it is.
function inPlace(change) {
  const parts = [...document.querySelectorAll("main section, main article, main figure")];
  const fixed = opener && opener !== document.body && opener.isConnected
    ? opener : parts.find((part) => part.getBoundingClientRect().bottom > 0);
  const before = fixed?.getBoundingClientRect().top;
  change();
  if (fixed) window.scrollBy({ top: fixed.getBoundingClientRect().top - before, behavior: "instant" });
}

function leavePanel() {
  history.pushState(null, "", location.pathname + location.search);
  route();
}

// examples ---------------------------------------------------------------------------------------------------------

function tokenName(tower, example, nth) {
  return tokenAt(document.querySelector(`#example-${example} [data-tower="${CSS.escape(tower)}"]`), nth);
}

async function shadeExamples() {
  const turn = ++shading;
  const seen = state.head ? data.groups.get(state.head.group).columns : ""; // the tower whose positions are keys
  document.querySelectorAll("[name=sinks]").forEach((radio) => (radio.disabled = state.head !== null));
  for (const strip of document.querySelectorAll(".tokens")) {
    const example = Number(strip.closest(".example").dataset.number);
    const own = seen === strip.dataset.tower ? await data.received(state.head, example) : null;
    if (turn !== shading) return; // the reader has gone on
    shadeStrip(strip, own, state.sinks, about.tops);
  }
  for (const { number, picture } of about.examples) {
    if (!picture) continue;
    const own = picture.places[seen] ? await data.received(state.head, number) : null;
    if (turn !== shading) return;
    const drawn = own ? { ...picture, ...picture.places[seen] } : picture;
    drawOverlay(document.querySelector(`#example-${number} .overlay`), drawn, own, data);
  }
  const words = state.head ? panelWords() : null;
  document.querySelectorAll(".shading").forEach((part) => (part.textContent = words ?? part.dataset.plain));
  document.querySelectorAll(".shading-top").forEach((part) => {
    part.textContent = words ? "100 %, by the square root" : part.dataset[state.sinks];
  });
}

function panelWords() {
  const group = data.groups.get(state.head.group);
  return `from ${headName(group.layers[state.head.layer], state.head.head)}, where it was kept`;
}

function makeExamples() {
  for (const example of about.examples) {
    const root = document.getElementById(`example-${example.number}`);
    if (root) makeExample(root, example, data);
  }
}

// start ------------------------------------------------------------------------------------------------------------

document.documentElement.classList.add("scripted");
makeMaps();
makeExamples();
document.querySelectorAll("[name=view]").forEach((radio) =>
  radio.addEventListener("change", () => showView(radio.value)));
document.querySelectorAll("[name=sinks]").forEach((radio) =>
  radio.addEventListener("change", () => { state.sinks = radio.value; shadeExamples(); }));
document.querySelectorAll(".sheet img").forEach((sheet) => sheet.addEventListener("click", (event) => {
  const group = data.groups.get(sheet.dataset.group);
  const layer = Math.floor((event.offsetY / sheet.clientHeight) * group.layers.length);
  const head = Math.floor((event.offsetX / sheet.clientWidth) * group.heads);
  if (layer < group.layers.length && head < group.heads) go(headAddress(group.key, group.layers[layer], head));
}));
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
  const code = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code); // no clipboard here: select, to copy by hand
  }
}));
panel.querySelector(".close").addEventListener("click", leavePanel);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !panel.hidden) leavePanel();
});
addEventListener("hashchange", () => route());
route(false);
