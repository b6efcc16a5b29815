// One head: its pattern, the keys it looks at, the spread of its rows, where it stands among the others.

const ROOT_SCALE = "Colours follow the square root of the weight, from 0 to 100 %, the same for every pattern.";

// hooks: id, the start of the ids of its elements; name(tower, example, position) -> text of a token or null;
//        exampleLink(number) -> address or null; choose(example or null);
//        row(example, row, shares, words), where a row of a pattern can be chosen; words: what it reads or writes
async function fillHead(root, data, head, example, hooks) {
  const group = data.groups.get(head.group);
  const layer = group.layers[head.layer];
  const kept = group.own.filter(([, l, h]) => l === head.layer && h === head.head).map(([e]) => e);
  const known = example !== null && kept.includes(example) ? example : null;
  const [codes, top, counts, ranks] = await Promise.all([
    data.pattern(head, known), data.topKeys(head), data.histogram(head), data.ranks(head),
  ]);
  const title = element("h2", { id: `${hooks.id}-title`, tabindex: "-1" }, `${group.label}, ${headName(layer, head.head)}`);
  const parts = [title];
  if (codes) parts.push(...patternParts(data, group, head, known, kept, codes, hooks));
  else {
    parts.push(element("p", { class: "note" }, "No pattern was kept. Capture with maps=True to see it."));
  }
  if (ranks.length) parts.push(element("h3", {}, "Among the heads of this tower"), rankTable(ranks, hooks, group.unit));
  if (top.length) parts.push(element("h3", {}, "Keys that receive most"), topTable(top, hooks, group.unit));
  if (counts && counts.some((count) => count)) {
    parts.push(element("h3", {}, "Rows by entropy"), histogramPicture(counts));
  }
  root.replaceChildren(...parts);
  root.querySelectorAll(".grid").forEach((host) => host.start?.());
  return title;
}

function patternParts(data, group, head, example, kept, codes, hooks) {
  const [rows, columns] = group.shape;
  const [tall, wide] = group.bins;
  const host = element("div", { class: "grid pattern" });
  const used = example ?? (data.about.examples.length === 1 ? data.about.examples[0].number : null);
  const token = (tower, place, width) => (used === null || width > 1 ? null : hooks.name(tower, used, place));
  const name = (tower, place, width) =>
    width > 1 ? `${place * width}–${place * width + width - 1}` : (token(tower, place, width) ?? String(place));
  const matrix = data.about.examples.find((one) => one.number === used)?.matrix;
  const written = tall === 1 && matrix?.written && matrix.group === group.key ? matrix.rows : [];
  const rowName = (row) => written[row] ?? name(group.rows, row, tall);
  const verb = (row) => (written[row] ? "writing " : token(group.rows, row, tall) ? "reading " : "");
  const weight = (row, column) => (codes[row * columns + column] / 255) ** 2;
  const open = (row) => hooks.row(used, row, Array.from({ length: columns }, (_, column) => weight(row, column)),
    verb(row) && verb(row) + rowName(row));
  host.start = () =>
    makeGrid(host, {
      rows, columns, square: group.rows === group.columns, tallest: 380, colours: data.colours.sequential,
      index: (row, column) => codes[row * columns + column],
      said: (row, column) =>
        `${group.rows} ${verb(row)}${rowName(row)} → ${group.columns} ${name(group.columns, column, wide)}: ` +
        shown(weight(row, column), "share"),
      rowName,
      columnName: (column) => name(group.columns, column, wide),
      slanted: wide === 1 && used !== null,
      rowTitle: written.length ? "written" : "query", columnTitle: group.rows === group.columns ? "key" : `key (${group.columns})`,
      label: `Attention pattern of ${headName(group.layers[head.layer], head.head)}`,
      open: hooks.row && used !== null && tall === 1 && wide === 1 ? open : null,
    });
  const parts = [host];
  if (kept.length) {
    const select = element("select", { id: `${hooks.id}-example`, onchange: (e) => hooks.choose(e.target.value === "" ? null : +e.target.value) },
      element("option", { value: "" }, `all ${group.unit}s, the largest weight`),
      ...kept.map((number) => element("option", { value: number }, `${group.unit} ${number}`)));
    select.value = example ?? "";
    parts.push(element("p", { class: "control" }, element("label", { for: `${hooks.id}-example` }, "Pattern on "), select));
  }
  const pooled = tall > 1 || wide > 1 ? ` One pixel is the largest weight of ${count(tall, "row")} × ${count(wide, "key")}.` : "";
  const named = written.length ? " A row is named by the token that it writes."
    : token(group.rows, 0, tall) ? " A row is named by its query, the token that it reads." : "";
  parts.push(element("p", { class: "note" }, ROOT_SCALE + pooled + named));
  return parts;
}

function count(number, name) {
  return `${number} ${name}${number === 1 ? "" : "s"}`;
}

function rankTable(ranks, hooks, unit) {
  const fixed = ranks.some((row) => row.after !== null);
  const several = ranks.some((row) => row.highest && row.highest.example !== row.lowest.example);
  const header = ["metric", "value", ...(fixed ? ["with fix"] : []), "rank", ...(several ? ["highest in", "lowest in"] : [])];
  const link = (place, form) => place
    ? element("td", {}, exampleLink(place.example, hooks, unit), ` ${shown(place.value, form)}`)
    : element("td", {}, "–");
  return table(header, ranks.map((row) => [
    element("td", {}, row.name),
    element("td", { class: "number" }, shown(row.value, row.metric.form)),
    ...(fixed ? [element("td", { class: "number" }, shown(row.after, row.metric.form))] : []),
    element("td", { class: "number" }, `${row.rank} of ${row.of}`),
    ...(several ? [link(row.highest, row.metric.form), link(row.lowest, row.metric.form)] : []),
  ]));
}

function topTable(top, hooks, unit) {
  return table(["token", "position", unit, "share"], top.map(([example, position, text, share]) => [
    element("td", { class: "word" }, element("bdi", {}, text)),
    element("td", { class: "number" }, String(position)),
    element("td", { class: "number" }, exampleLink(example, hooks, unit)),
    element("td", { class: "number" }, shown(share, "share")),
  ]));
}

function exampleLink(number, hooks, unit) {
  const address = unit === "example" ? hooks.exampleLink(number) : null;
  return address ? element("a", { href: `#${address}` }, `example ${number}`) : `${unit} ${number}`;
}

function table(header, rows) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": header.join(", ") },
    element("table", {},
      element("thead", {}, element("tr", {}, ...header.map((name, place) => element("th", { scope: "col", class: rows[0]?.[place].className }, name)))),
      element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells)))));
}

function histogramPicture(counts) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const most = Math.max(...counts);
  const bars = counts.map((count, bin) => {
    const share = `${bin * 10} to ${bin * 10 + 10} % of the largest entropy: ${shown(count / total, "share")} of the rows`;
    return element("li", { title: share, style: `--height:${(100 * count) / most}%` },
      element("span", { class: "unseen" }, share));
  });
  return element("figure", { class: "histogram" },
    element("ul", {}, ...bars),
    element("figcaption", {}, element("span", {}, "0 %: one key"),
      element("span", {}, `${total} rows, tallest bar ${shown(most / total, "share")}`), element("span", {}, "100 %: flat")));
}
