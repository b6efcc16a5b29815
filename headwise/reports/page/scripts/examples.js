// Examples: tokens shaded by the attention they receive, an overlay on a picture, cross-attention as a matrix.
// The markup comes from the template `example.html.j2`.

// The text of a token of a strip. `nth` counts from the first token that is shown.
function tokenAt(strip, nth) {
  const tokens = strip ? [...strip.querySelectorAll("[data-p]")] : [];
  if (!tokens.length) return null;
  const position = nth + Number(tokens[0].dataset.p);
  const held = tokens.filter((token) => Number(token.dataset.p) <= position).at(-1);
  if (!held || position >= Number(held.dataset.p) + Number(held.dataset.n ?? 1)) return "";
  return held.dataset.n ? `${held.textContent.split(" ")[0]} ${position - Number(held.dataset.p)}` : held.textContent;
}

// own: shares per position from one head, shaded by their square root; null for the means that the strip carries,
// with the sinks or without them.
function shadeStrip(strip, own, sinks, tops) {
  for (const token of strip.querySelectorAll("[data-p]")) {
    const without = sinks === "without";
    const plain = token.dataset[without ? "rest" : "share"];
    const top = without ? tops.rest : tops.share;
    const count = Number(token.dataset.n ?? 1);
    const shares = own?.slice(+token.dataset.p, +token.dataset.p + count).filter((share) => share !== null);
    const mean = shares?.length ? shares.reduce((a, b) => a + b, 0) / shares.length : null;
    const place = own ? (mean === null ? null : Math.sqrt(mean)) : plain === "" ? null : Number(plain) / top;
    token.className = place === null ? "unread" : "read";
    token.style.setProperty("--share", `${100 * Math.min(place ?? 0, 1)}%`);
  }
}

function drawOverlay(canvas, picture, own, data) {
  const [rows, columns] = picture.grid;
  const shares = own ? own.slice(picture.start, picture.start + rows * columns) : picture.shares;
  const places = shares.map((share) => (own ? Math.sqrt(share ?? 0) : (share ?? 0) / data.about.tops.patch));
  const top = canvas.closest(".example").querySelector(".patch-top");
  if (top) top.textContent = own ? "100 %, by the square root" : top.dataset.plain;
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").drawImage(pixels({
    rows, columns, colours: data.colours.sequential,
    index: (row, column) => Math.round(255 * Math.min(Math.max(places[row * columns + column], 0), 1)),
  }), 0, 0);
}

function makeExample(root, example, data) {
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
  return host && example.matrix ? makeMatrix(host, example.matrix, data) : null;
}

function makeMatrix(host, matrix, data) {
  const [rows, columns] = matrix.shape;
  const time = (column) => `${((matrix.seconds * column) / columns).toFixed(2)} s`;
  const row = (place) => matrix.rows[place] ?? String(matrix.first + place);
  const column = (place) => (matrix.seconds ? time(place) : (matrix.columns[place] ?? String(place)));
  const left = Math.min(110, Math.round(host.clientWidth * 0.28));
  const article = host.closest(".example");
  article.style.setProperty("--left", `${left}px`);
  const strip = article.querySelector(`[data-tower="${CSS.escape(data.groups.get(matrix.group)?.rows ?? "")}"]`);
  const grid = makeGrid(host, {
    rows, columns, left, tallest: 520, colours: data.colours.sequential,
    index: (i, j) => sequential(matrix.weights[i * columns + j], 0, matrix.top),
    said: (i, j) => `${row(i)} → ${column(j)}: ${shown(matrix.weights[i * columns + j], "share")}`,
    rowName: row,
    columnName: column,
    slanted: !matrix.seconds && matrix.columns.length > 0,
    rowTitle: matrix.written ? "written" : "query",
    columnTitle: matrix.seconds ? "time" : "key",
    label: "Cross-attention, mean over layers and heads",
    open: null,
    moved: (place) => strip?.querySelectorAll("[data-p]").forEach((token) =>
      token.toggleAttribute("data-row", place !== null && +token.dataset.p === matrix.first + place[0])),
  });
  strip?.addEventListener("pointerover", (event) => {
    const place = Number(event.target.closest("[data-p]")?.dataset.p) - matrix.first;
    grid.mark(place >= 0 && place < rows ? [place, null] : null);
  });
  strip?.addEventListener("pointerleave", () => grid.mark(null));
  return grid;
}
