// All patterns of a group on one canvas, each pooled by its largest values to at most `side` pixels.
function contactSheet(group, codes, colours, side = 24) {
  const [rows, columns] = group.shape;
  const step = Math.max(Math.ceil(rows / side), Math.ceil(columns / side));
  const [tall, wide] = [Math.ceil(rows / step), Math.ceil(columns / step)];
  const largest = (start, top, left) => {
    let found = 0;
    for (let row = top; row < Math.min(top + step, rows); row++) {
      for (let column = left; column < Math.min(left + step, columns); column++) {
        found = Math.max(found, codes[start + row * columns + column]);
      }
    }
    return found;
  };
  return pixels({
    rows: group.layers.length * tall, columns: group.heads * wide, colours,
    index: (row, column) => {
      const head = Math.floor(row / tall) * group.heads + Math.floor(column / wide);
      return largest(head * rows * columns, (row % tall) * step, (column % wide) * step);
    },
  });
}

function scaleLine(low, high, colours) {
  const stops = Array.from({ length: 13 }, (_, place) => {
    const index = 3 * Math.round((255 * place) / 12);
    return `rgb(${colours.subarray(index, index + 3).join(" ")})`;
  });
  return element("p", { class: "scale" }, element("span", {}, low),
    element("i", { style: `background: linear-gradient(to right, ${stops.join(", ")})` }), element("span", {}, high));
}
