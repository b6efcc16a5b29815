// A layer × head map of one metric: without the fix, with it, or the difference.

function shownCells(panelData, view) {
  const after = panelData.after;
  if (view === "before" || !after) return panelData.cells;
  if (view === "after") return after;
  return panelData.cells.map((row, i) =>
    row.map((old, j) => (old === null || after[i][j] === null ? null : after[i][j] - old)));
}

// A value of a map; a difference of shares is in percentage points.
function worded(value, metric, panelData, view) {
  if (view !== "difference" || !panelData.after || value === null) return shown(value, metric.form);
  const size = metric.form === "share" ? `${(100 * Math.abs(value)).toFixed(1)} points` : shown(Math.abs(value), "number");
  return `${value < 0 ? "−" : "+"}${size}`;
}

function mapSpec(metric, panelData, view, data) {
  const cells = shownCells(panelData, view);
  const change = view === "difference" && panelData.after;
  const [low, high] = change ? [-metric.spread, metric.spread] : [metric.low, metric.high];
  const across = panelData.across.split(" ")[0];
  return {
    rows: panelData.layers.length,
    columns: cells[0]?.length ?? 0,
    colours: change ? data.colours.diverging : data.colours.sequential,
    index: (row, column) => sequential(cells[row][column], low, high),
    said: (row, column) => {
      const value = worded(cells[row][column], metric, panelData, view);
      const layer = panelData.layers[row];
      return `${across === "head" ? headName(layer, column) : `layer ${layer}, ${across} ${column}`}: ${value}`;
    },
    rowName: (row) => panelData.layers[row],
    columnName: (column) => String(column),
    rowTitle: "layer",
    columnTitle: panelData.across,
    label: `${metric.title}, ${panelData.label}`,
  };
}
