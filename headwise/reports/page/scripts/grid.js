// A map of numbers on a canvas: named rows and columns, one stated scale, a cursor for mouse and keyboard.
//
// spec: rows, columns, index(row, column) -> 0..255 or null, said(row, column) -> text, colours (256 × 3 bytes),
//       rowName, columnName, rowTitle, columnTitle, label, open(row, column) or null, square, left, tallest,
//       picture (a canvas in place of index and colours), moved(cell under the cursor or null)

function makeGrid(host, first) {
  let spec = first;
  let cursor = null;
  let marked = null;
  let box = null;
  const canvas = element("canvas", { tabindex: "0", role: "application", "aria-roledescription": "map" });
  const said = element("p", { class: "said" });
  host.replaceChildren(canvas, said);

  function draw() {
    const style = getComputedStyle(host);
    const width = host.clientWidth;
    if (!width || !spec.rows || !spec.columns) return;
    const ratio = window.devicePixelRatio || 1;
    const pen = canvas.getContext("2d");
    const small = `12px ${style.fontFamily}`;
    pen.font = small;
    const left = spec.left ?? 14 + widest(pen, spec) + 8;
    const bottom = spec.slanted ? 74 : 38;
    const last = pen.measureText(spec.columnName(spec.columns - 1)).width / 2;
    const right = spec.left === undefined && !spec.slanted ? Math.max(4, Math.ceil(last)) : 2;
    const wide = Math.min((width - left - right) / spec.columns, spec.left === undefined ? 56 : Infinity);
    const tallest = spec.tallest ?? 460;
    const tall = spec.square
      ? Math.min(wide, tallest / spec.rows)
      : Math.min(24, Math.max(tallest / spec.rows, 1), tallest / Math.min(spec.rows, 20));
    const cellWide = spec.square ? tall : wide;
    const top = Math.max(4, Math.ceil(8 - tall / 2)); // the name of the first row is higher than a low row
    box = { left, top, wide: cellWide, tall, width: cellWide * spec.columns, height: tall * spec.rows };
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round((top + box.height + bottom) * ratio);
    canvas.style.height = `${top + box.height + bottom}px`;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = small;
    pen.imageSmoothingEnabled = Boolean(spec.picture);
    pen.drawImage(spec.picture ?? pixels(spec), box.left, box.top, box.width, box.height);
    if (cellWide >= 12 && tall >= 12) gaps(pen, box, spec, style.getPropertyValue("--card") || "#fff");
    names(pen, box, spec, style.color);
    for (const [place, thick] of [[marked, 3], [cursor, 2]]) outline(pen, box, place, thick);
    canvas.setAttribute("aria-label", `${spec.label}. ${spec.rows} by ${spec.columns}; arrow keys move` +
      (spec.open ? ", Enter opens." : "."));
  }

  function at(event) {
    if (!box) return null;
    const edge = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - edge.left - box.left) / box.wide);
    const row = Math.floor((event.clientY - edge.top - box.top) / box.tall);
    const inside = row >= 0 && column >= 0 && row < spec.rows && column < spec.columns;
    return inside ? [row, column] : null;
  }

  function move(place, aloud) {
    cursor = place;
    said.setAttribute("aria-live", aloud ? "polite" : "off");
    said.textContent = place ? spec.said(...place) : "";
    spec.moved?.(place);
    draw();
  }

  canvas.addEventListener("pointermove", (event) => {
    const place = at(event);
    canvas.style.cursor = place && spec.open ? "pointer" : "default";
    if (String(place) !== String(cursor)) move(place, false);
  });
  canvas.addEventListener("pointerleave", () => move(null, false));
  canvas.addEventListener("click", (event) => {
    const place = at(event);
    if (place && spec.open) spec.open(...place);
  });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [row, column] = cursor ?? marked ?? [0, -1];
    const step = steps[event.key];
    if (step) {
      const clip = (value, end) => Math.min(Math.max(value, 0), end - 1);
      move([clip(row + step[0], spec.rows), clip(column + step[1], spec.columns)], true);
    } else if (event.key === "Home" || event.key === "End") {
      move([row, event.key === "Home" ? 0 : spec.columns - 1], true);
    } else if ((event.key === "Enter" || event.key === " ") && cursor && spec.open) {
      spec.open(...cursor);
    } else return;
    event.preventDefault();
  });
  new ResizeObserver(draw).observe(host);
  const theme = matchMedia("(prefers-color-scheme: dark)");
  theme.addEventListener("change", function repaint() {
    if (host.isConnected) draw();
    else theme.removeEventListener("change", repaint); // the panel shows another head by now
  });

  return {
    draw,
    mark(place) { // a column of null marks the whole row
      marked = place;
      draw();
    },
    update(changes) {
      spec = { ...spec, ...changes };
      if (cursor && (cursor[0] >= spec.rows || cursor[1] >= spec.columns)) cursor = null;
      draw();
    },
    focus: () => canvas.focus({ preventScroll: true }),
  };
}

function pixels(spec) {
  const picture = document.createElement("canvas");
  picture.width = spec.columns;
  picture.height = spec.rows;
  const pen = picture.getContext("2d");
  const image = pen.createImageData(spec.columns, spec.rows);
  for (let row = 0, place = 0; row < spec.rows; row++) {
    for (let column = 0; column < spec.columns; column++, place += 4) {
      const index = spec.index(row, column);
      if (index === null) continue;
      image.data.set(spec.colours.subarray(3 * index, 3 * index + 3), place);
      image.data[place + 3] = 255;
    }
  }
  pen.putImageData(image, 0, 0);
  return picture;
}

function widest(pen, spec) {
  let most = 0;
  for (let row = 0; row < spec.rows; row++) most = Math.max(most, pen.measureText(spec.rowName(row)).width);
  return Math.min(most, 110);
}

function gaps(pen, box, spec, paper) {
  pen.fillStyle = paper;
  for (let row = 1; row < spec.rows; row++) pen.fillRect(box.left, box.top + row * box.tall - 0.5, box.width, 1);
  for (let column = 1; column < spec.columns; column++) {
    pen.fillRect(box.left + column * box.wide - 0.5, box.top, 1, box.height);
  }
}

function names(pen, box, spec, colour) {
  pen.fillStyle = colour;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  const every = Math.max(1, Math.ceil(14 / box.tall));
  for (let row = 0; row < spec.rows; row += every) {
    const text = cut(pen, spec.rowName(row), box.left - 22);
    pen.fillText(text, box.left - 6, box.top + (row + 0.5) * box.tall);
  }
  pen.textAlign = "center";
  const longest = Math.max(...[0, spec.columns - 1].map((c) => pen.measureText(spec.columnName(c)).width));
  const step = niceStep((spec.slanted ? 15 : longest + 10) / box.wide);
  const base = box.top + box.height;
  for (let column = 0; column < spec.columns; column += step) {
    const middle = box.left + (column + 0.5) * box.wide;
    if (spec.slanted) {
      pen.save();
      pen.translate(middle, base + 6);
      pen.rotate(-Math.PI / 3);
      pen.textAlign = "right";
      pen.fillText(cut(pen, spec.columnName(column), 62), 0, 0);
      pen.restore();
    } else pen.fillText(spec.columnName(column), middle, base + 10);
  }
  if (!spec.slanted) pen.fillText(spec.columnTitle, box.left + box.width / 2, base + 27);
  pen.save();
  pen.translate(6, box.top + box.height / 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText(spec.rowTitle, 0, 0);
  pen.restore();
}

function cut(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let kept = text;
  while (kept.length > 1 && pen.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
  return `${kept}…`;
}

function niceStep(least) {
  return [1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256].find((step) => step >= least) ?? 500;
}

function outline(pen, box, place, thick) {
  if (!place) return;
  const [x, y] = [box.left + (place[1] ?? 0) * box.wide, box.top + place[0] * box.tall];
  const wide = place[1] === null ? box.width : Math.max(box.wide, 3);
  for (const [colour, width] of [["#000", thick + 2], ["#fff", thick]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.strokeRect(x - 0.5, y - 0.5, wide + 1, Math.max(box.tall, 3) + 1);
  }
}

function sequential(value, low, high) {
  if (value === null || value === undefined) return null;
  return Math.round(255 * Math.min(Math.max((value - low) / (high - low), 0), 1));
}
