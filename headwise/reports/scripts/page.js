// The report page: maps, the panel of one head, examples, and the addresses that lead to them.

const state = { view: "before", head: null, example: null, sinks: "with" };
const maps = [];
const about = JSON.parse(document.getElementById("headwise-data").textContent);
const data = makeData(about, blobText);
const panel = document.getElementById("head");
let opener = null;

function blobText(name) {
  const inline = document.getElementById(`blob-${name}`);
  if (inline) return inline.textContent;
  const place = window.headwiseFiles?.[name];
  if (!place) return Promise.reject(new Error(`no data for ${name}`));
  return new Promise((done, failed) => {
    window.headwiseData = { ...window.headwiseData, [name]: done };
    document.head.append(element("script", { src: place.file, integrity: place.integrity, crossorigin: "anonymous",
      onerror: () => failed(new Error(`${place.file} is missing beside the page`)) }));
  });
}

// maps -------------------------------------------------------------------------------------------------------------

function shownCells(panelData) {
  const after = panelData.after;
  if (state.view === "before" || !after) return panelData.cells;
  if (state.view === "after") return after;
  return panelData.cells.map((row, i) =>
    row.map((old, j) => (old === null || after[i][j] === null ? null : after[i][j] - old)));
}

function mapSpec(metric, panelData) {
  const cells = shownCells(panelData);
  const change = state.view === "difference" && panelData.after;
  const [low, high] = change ? [-metric.spread, metric.spread] : [metric.low, metric.high];
  const across = panelData.across.split(" ")[0];
  return {
    rows: panelData.layers.length,
    columns: cells[0]?.length ?? 0,
    colours: change ? data.colours.diverging : data.colours.sequential,
    index: (row, column) => sequential(cells[row][column], low, high),
    said: (row, column) => {
      const value = cells[row][column];
      const sign = change && value > 0 ? "+" : "";
      return `layer ${panelData.layers[row]}, ${across} ${column}: ${sign}${shown(value, metric.form)}`;
    },
    rowName: (row) => panelData.layers[row],
    columnName: (column) => String(column),
    rowTitle: "layer",
    columnTitle: panelData.across,
    label: `${metric.title}, ${panelData.label}`,
  };
}

function makeMaps() {
  about.metrics.forEach((metric, outer) => metric.panels.forEach((panelData, inner) => {
    const host = document.getElementById(`map-${outer}-${inner}`);
    const open = panelData.group
      ? (row, column) => go(headAddress(panelData.group, panelData.layers[row], column), host)
      : null;
    const grid = makeGrid(host, { ...mapSpec(metric, panelData), open });
    maps.push({ metric, panel: panelData, grid, host, outer });
    document.getElementById(`cells-${outer}-${inner}`)?.addEventListener("toggle", (event) => {
      if (event.target.open) listCells(event.target, metric, panelData);
    });
  }));
}

function listCells(details, metric, panelData) {
  const cells = shownCells(panelData);
  const name = (row, column) =>
    headAddress(panelData.group, panelData.layers[row], column).replace(/^head/, metric.key);
  const rows = cells.map((row, i) => [
    element("th", { scope: "row" }, panelData.layers[i]),
    ...row.map((value, j) => element("td", { class: "number" },
      panelData.group ? element("a", { href: `#${name(i, j)}` }, shown(value, metric.form)) : shown(value, metric.form))),
  ]);
  const header = ["layer", ...(cells[0] ?? []).map((_, column) => String(column))];
  details.querySelector(".scroll")?.remove();
  details.append(table(header, rows));
}

function showView(view) {
  state.view = view;
  document.documentElement.dataset.view = view;
  for (const map of maps) map.grid.update(mapSpec(map.metric, map.panel));
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

function go(address, from) {
  opener = from ?? opener;
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

async function route() {
  const found = parse(decodeURIComponent(location.hash.slice(1)));
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
  panel.hidden = false;
  document.body.classList.add("with-panel");
  const title = await fillHead(panel.querySelector(".inside"), data, found.head, found.example, {
    name: tokenName,
    exampleLink: (number) => (document.getElementById(`example-${number}`) ? `example-${number}` : null),
    choose: (example) => {
      const group = data.groups.get(found.head.group);
      const address = headAddress(group.key, group.layers[found.head.layer], found.head.head);
      go(example === null ? address : `${address}-example-${example}`);
    },
  });
  if (opener) title.focus({ preventScroll: true });
  if (found.metric) {
    const map = maps.find((one) => one.metric.key === found.metric && one.panel.group === found.head.group);
    map?.host.scrollIntoView({ block: "center" });
  }
}

function closePanel() {
  panel.hidden = true;
  document.body.classList.remove("with-panel");
  const back = maps.find((map) => map.host === opener);
  opener = null;
  back?.grid.focus();
}

function leavePanel() {
  history.pushState(null, "", location.pathname + location.search);
  route();
}

// examples ---------------------------------------------------------------------------------------------------------

function tokenName(stack, example, nth) {
  const strip = document.querySelector(`#example-${example} [data-stack="${CSS.escape(stack)}"]`);
  const tokens = strip ? [...strip.querySelectorAll("[data-p]")] : [];
  if (!tokens.length) return null;
  const position = nth + Number(tokens[0].dataset.p);
  const held = tokens.filter((token) => Number(token.dataset.p) <= position).at(-1);
  if (!held) return null;
  return held.dataset.n ? `${held.textContent.split(" ")[0]} ${position - Number(held.dataset.p)}` : held.textContent;
}

async function shadeExamples() {
  for (const strip of document.querySelectorAll(".tokens")) {
    const example = Number(strip.closest(".example").dataset.number);
    const group = state.head ? data.groups.get(state.head.group) : null;
    const own = group && group.columns === strip.dataset.stack ? await data.received(state.head, example) : null;
    for (const token of strip.querySelectorAll("[data-p]")) {
      const without = state.sinks === "without";
      const plain = token.dataset[without ? "rest" : "share"];
      const top = without ? about.tops.rest : about.tops.share;
      const count = Number(token.dataset.n ?? 1);
      const shares = own?.slice(+token.dataset.p, +token.dataset.p + count).filter((share) => share !== null);
      const mean = shares?.length ? shares.reduce((a, b) => a + b, 0) / shares.length : null;
      const place = own ? (mean === null ? null : Math.sqrt(mean)) : plain === "" ? null : Number(plain) / top;
      token.className = place === null ? "unread" : "read";
      token.style.setProperty("--share", `${100 * Math.min(place ?? 0, 1)}%`);
    }
  }
  for (const example of about.examples) if (example.picture) await overlay(example);
  const words = state.head ? panelWords() : null;
  document.querySelectorAll(".shading").forEach((part) => (part.textContent = words ?? part.dataset.plain));
  document.querySelectorAll(".shading-top").forEach((part) => {
    part.textContent = words ? "100 %, by the square root" : part.dataset[state.sinks];
  });
}

function panelWords() {
  const group = data.groups.get(state.head.group);
  return `from layer ${group.layers[state.head.layer]}, head ${state.head.head}, where it was kept`;
}

async function overlay(example) {
  const picture = example.picture;
  const canvas = document.querySelector(`#example-${example.number} .overlay`);
  const [rows, columns] = picture.grid;
  const group = state.head ? data.groups.get(state.head.group) : null;
  const own = group && group.key === picture.group ? await data.received(state.head, example.number) : null;
  const shares = own ? own.slice(picture.start, picture.start + rows * columns) : picture.shares;
  const places = shares.map((share) => (own ? Math.sqrt(share ?? 0) : (share ?? 0) / about.tops.patch));
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").drawImage(pixels({
    rows, columns, colours: data.colours.sequential,
    index: (row, column) => Math.round(255 * Math.min(Math.max(places[row * columns + column], 0), 1)),
  }), 0, 0);
}

function makeExamples() {
  for (const example of about.examples) {
    const root = document.getElementById(`example-${example.number}`);
    if (!root) continue;
    const slider = root.querySelector(".opacity");
    const plain = root.querySelector(".plain");
    const canvas = root.querySelector(".overlay");
    const look = () => {
      canvas.style.opacity = plain.checked ? 0 : slider.value / 100;
      slider.disabled = plain.checked;
    };
    slider?.addEventListener("input", look);
    plain?.addEventListener("change", look);
    if (canvas) look();
    const host = root.querySelector(".matrix");
    if (host && example.matrix) makeMatrix(host, example.matrix);
  }
}

function makeMatrix(host, matrix) {
  const [rows, columns] = matrix.shape;
  const time = (column) => `${((matrix.seconds * column) / columns).toFixed(2)} s`;
  const row = (place) => matrix.rows[place] ?? String(matrix.first + place);
  const column = (place) => (matrix.seconds ? time(place) : (matrix.columns[place] ?? String(place)));
  const left = Math.min(110, Math.round(host.clientWidth * 0.28));
  host.closest(".example").style.setProperty("--left", `${left}px`);
  makeGrid(host, {
    rows, columns, left, tallest: 520, colours: data.colours.sequential,
    index: (i, j) => sequential(matrix.weights[i * columns + j], 0, matrix.top),
    said: (i, j) => `${row(i)} → ${column(j)}: ${shown(matrix.weights[i * columns + j], "share")}`,
    rowName: row,
    columnName: column,
    slanted: !matrix.seconds && matrix.columns.length > 0,
    rowTitle: "written",
    columnTitle: matrix.seconds ? "time" : "read",
    label: "Cross-attention, mean over layers and heads",
    open: null,
  });
}

// charts -----------------------------------------------------------------------------------------------------------

function drawCharts() {
  if (typeof Plotly === "undefined") return;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { color: colour("--soft"), gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--soft") };
  about.charts.forEach((chart, number) => {
    const layout = {
      ...chart.layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: colour("--text"), size: 13, color: colour("--ink") },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      xaxis: { ...chart.layout.xaxis, ...axis },
      yaxis: { ...chart.layout.yaxis, ...axis },
    };
    Plotly.react(`chart-${number}`, chart.data, layout, { displayModeBar: false, responsive: true });
  });
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
  if (layer < group.layers.length && head < group.heads) go(headAddress(group.key, group.layers[layer], head), sheet);
}));
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
  button.textContent = "copied";
}));
panel.querySelector(".close").addEventListener("click", leavePanel);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !panel.hidden) leavePanel();
});
addEventListener("hashchange", route);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
drawCharts();
route();
