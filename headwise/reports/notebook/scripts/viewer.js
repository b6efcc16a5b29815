// The viewer in a notebook: maps and patterns of all heads, one head, one example. Numbers come from the kernel by name.

let viewers = 0;

const SHADINGS = { head: "the chosen head", with: "the mean over all heads", without: "the mean without sinks" };
const WAYS = Object.keys(SHADINGS);

// Tower and kind of a map, as the groups are labelled.
const towerOf = (panel) => panel.label.split(" · ").slice(0, 2).join(" · ");

// Maps that can be chosen for a tower and kind.
function mapsOf(about, tower) {
  return about.metrics.flatMap((metric) => metric.panels
    .filter((panel) => towerOf(panel) === tower)
    .map((panel) => ({ metric, panel, name: [metric.title, ...panel.label.split(" · ").slice(2)].join(": ") })));
}

function brightest(panel) {
  let best = { layer: 0, head: 0, value: -Infinity };
  panel.cells.forEach((row, layer) => row.forEach((value, head) => {
    if (value !== null && value > best.value) best = { layer, head, value };
  }));
  return best;
}

function chooser(label, options, chosen, change) {
  const select = element("select", { onchange: () => change(select.selectedIndex) },
    ...options.map((option, place) => element("option", { value: place }, option)));
  select.selectedIndex = chosen;
  return element("label", {}, `${label} `, select);
}

async function startViewer(root, model, ask, say) {
  const about = model.get("about") ?? JSON.parse(await textOf(ask("about")));
  const data = makeData(about, ask);
  const id = `headwise-viewer-${++viewers}`;
  const towers = [...new Set([...about.groups.map((group) => group.label), ...about.metrics.flatMap((m) => m.panels.map(towerOf))])];
  const language = towers.findIndex((label) => ["text · self", "decoder · self"].includes(label));
  const state = { tower: Math.max(language, 0), map: 0, view: "before", head: null, example: null, shown: 0, row: null, shading: "head" };
  let map = null;
  let sheet = null;
  let article = null;
  let matrix = null;
  let shadings = 0;
  const act = (work) => (...given) => work(...given).catch((error) => say(error.message));

  const place = (name) => element("div", { class: name });
  const [controls, mapPlace, sheetPlace, headPlace, factsPlace, examplePlace] =
    ["controls", "map", "sheet", "head", "head facts", "shown-example"].map(place);
  root.append(
    element("p", { class: "finding" }, element("strong", {}, element("bdi", {}, about.title)), " ",
      element("bdi", {}, about.finding)),
    controls,
    element("div", { class: "columns" }, element("div", {}, mapPlace, sheetPlace), headPlace),
    factsPlace,
    examplePlace,
  );

  const whichExample = about.examples.length > 1
    ? chooser("Example", about.examples.map((one) => `example ${one.number}`), 0, act(chooseExample)) : null;
  const shadeBy = chooser("Shade by", WAYS.map((way) => SHADINGS[way]), 0, act(async (number) => {
    Object.assign(state, { shading: WAYS[number], row: null });
    await shade();
  }));

  const group = () => about.groups.find((one) => one.label === towers[state.tower]) ?? null;
  const maps = () => mapsOf(about, towers[state.tower]);
  const choose = async (layer, head) => {
    if (!group()) return;
    state.head = { group: group().key, layer, head };
    state.row = null;
    await showHead();
  };

  function showControls() {
    const options = maps().map((one) => one.name);
    const views = [["before", "without the fix"], ["after", `with ${about.fix}`], ["difference", "the difference"]];
    const focused = controls.contains(document.activeElement);
    controls.replaceChildren(...[
      towers.length > 1 && chooser("Tower", towers, state.tower, act(showTower)),
      options.length > 1 && chooser("Map", options, state.map, (number) => { state.map = number; showMap(); }),
      about.fix && chooser("Show", views.map(([, words]) => words), views.findIndex(([view]) => view === state.view),
        (number) => { state.view = views[number][0]; showMap(); }),
    ].filter(Boolean));
    if (focused) controls.querySelector("select").focus({ preventScroll: true });
  }

  async function showTower(number) {
    Object.assign(state, { tower: number, map: 0, head: null, row: null });
    showControls();
    showMap();
    if (!group()) return;
    const first = maps().find((one) => one.panel.group === group().key);
    const { layer, head } = first ? brightest(first.panel) : { layer: 0, head: 0 };
    await Promise.all([showSheet(), choose(layer, head)]);
  }

  function showMap() {
    const chosen = maps()[state.map];
    mapPlace.replaceChildren();
    map = null;
    if (!chosen) return;
    const spec = mapSpec(chosen.metric, chosen.panel, state.view, data);
    const change = spec.colours === data.colours.diverging;
    const { low, high, spread, form, unit } = chosen.metric;
    const ends = change ? [`−${shown(spread, form)}`, `+${shown(spread, form)}`] : [shown(low, form), shown(high, form)];
    const words = form === "share" ? chosen.name : `${chosen.name} (${unit})`;
    const host = element("div", { class: "grid" });
    mapPlace.append(element("p", { class: "caption" }, words), scaleLine(...ends, spec.colours), host);
    const heads = chosen.panel.group && group()?.key === chosen.panel.group;
    map = { panel: chosen.panel, grid: makeGrid(host, { ...spec, open: heads ? act(choose) : null }) };
    mark();
  }

  async function showSheet() {
    const all = group();
    sheetPlace.replaceChildren();
    sheet = null;
    if (!all.shape) return;
    const codes = await data.bytes(`patterns-${all.key}`);
    if (group() !== all) return;
    const host = element("div", { class: "grid" });
    sheetPlace.append(element("p", { class: "caption" }, "Patterns of all heads, the largest weight over examples"),
      scaleLine("0 %", "100 %, by the square root", data.colours.sequential), host);
    sheet = makeGrid(host, {
      rows: all.layers.length, columns: all.heads, square: true, tallest: 640,
      picture: contactSheet(all, codes, data.colours.sequential),
      said: (row, column) => headName(all.layers[row], column),
      rowName: (row) => all.layers[row], columnName: String, rowTitle: "layer", columnTitle: "head",
      label: `Patterns of all heads, ${all.label}`, open: act(choose),
    });
    mark();
  }

  function mark() {
    const here = state.head && [state.head.layer, state.head.head];
    map?.grid.mark(state.head?.group === map.panel.group ? here : null);
    sheet?.mark(here);
  }

  async function showHead() {
    mark();
    if (about.examples.length) await showExample();
    const head = state.head;
    const filled = place("head");
    await fillHead(filled, data, head, state.example, {
      id,
      name: (tower, example, nth) => (example === shownNumber() ? tokenAt(stripOf(tower), nth) : null),
      exampleLink: (number) => (about.examples.some((one) => one.number === number) ? `${id}-${number}` : null),
      choose: act(async (example) => { Object.assign(state, { example, row: null }); await showHead(); }),
      row: act(chooseRow),
    });
    if (head !== state.head) return;
    const focused = headPlace.contains(document.activeElement) ? document.activeElement.id : null;
    const parts = [...filled.children];
    const facts = parts.findIndex((part) => part.tagName === "H3");
    headPlace.replaceChildren(...(facts < 0 ? parts : parts.slice(0, facts)));
    factsPlace.replaceChildren();
    for (const part of facts < 0 ? [] : parts.slice(facts)) {
      if (part.tagName === "H3") factsPlace.append(element("div", {}));
      factsPlace.lastChild.append(part);
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  const shownNumber = () => about.examples[state.shown]?.number ?? null;
  const stripOf = (tower) => article?.querySelector(`[data-tower="${CSS.escape(tower)}"]`) ?? null;

  // A row of the pattern on the example that is shown: a second choice of the same row takes it back.
  async function chooseRow(example, row, shares, words) {
    const strip = stripOf(data.groups.get(state.head.group).columns);
    if (!strip || example !== shownNumber()) return;
    const first = Number(strip.querySelector("[data-p]").dataset.p);
    const padded = [...Array(first).fill(null), ...shares];
    state.row = state.row?.number === row ? null : { number: row, shares: padded, words };
    state.shading = "head";
    await showExample();
  }

  async function showExample() {
    const wanted = about.examples.findIndex((one) => one.number === state.example);
    if (wanted >= 0) state.shown = wanted;
    const example = about.examples[state.shown];
    if (article?.dataset.number !== String(example.number)) {
      const markup = element("template", {});
      markup.innerHTML = await textOf(ask(`example-${example.number}`));
      article = markup.content.querySelector(".example");
      article.querySelectorAll("[id]").forEach((part) => part.removeAttribute("id"));
      article.removeAttribute("id");
      article.removeAttribute("aria-labelledby");
      article.setAttribute("aria-label", `Example ${example.number}`);
      examplePlace.replaceChildren(element("div", { class: "controls" }, whichExample, shadeBy),
        element("p", { class: "note shading" }), article);
      matrix = makeExample(article, example, data);
    }
    if (whichExample) whichExample.lastChild.selectedIndex = state.shown;
    shadeBy.lastChild.selectedIndex = WAYS.indexOf(state.shading);
    await shade();
  }

  async function chooseExample(number) {
    Object.assign(state, { shown: number, row: null, example: state.example === null ? null : about.examples[number].number });
    await (state.head ? showHead() : showExample());
  }

  // Shares of the keys of the example that is shown: of the chosen row, of the chosen head, or null for the means.
  async function received(field, name) {
    const group = state.head && state.shading === "head" ? data.groups.get(state.head.group) : null;
    if (group?.[field] !== name) return null;
    return state.row?.shares ?? (await data.received(state.head, shownNumber()));
  }

  async function shade() {
    const { picture } = about.examples[state.shown];
    const turn = ++shadings;
    const sinks = state.shading === "without" ? "without" : "with";
    let whose = sinks === "with" ? SHADINGS.with : SHADINGS.without;
    for (const strip of article.querySelectorAll(".tokens")) {
      const own = await received("columns", strip.dataset.tower);
      if (turn !== shadings) return; // the reader has gone on
      shadeStrip(strip, own, sinks, about.tops);
      if (own) whose = headWords();
    }
    if (picture) {
      const seen = state.head ? data.groups.get(state.head.group).columns : "";
      const own = picture.places[seen] ? await received("columns", seen) : null;
      const drawn = own ? { ...picture, ...picture.places[seen] } : picture;
      drawOverlay(article.querySelector(".overlay"), drawn, own, data);
    }
    const top = whose === headWords() ? "100 %, by the square root" : shown(sinks === "with" ? about.tops.share : about.tops.rest, "share");
    examplePlace.querySelector(".shading").textContent =
      `Shading: attention that a token receives (${whose}), from 0 to ${top}. Dotted: too few rows see the token.`;
  }

  function headWords() {
    if (!state.head) return null;
    const group = data.groups.get(state.head.group);
    const words = headName(group.layers[state.head.layer], state.head.head);
    return state.row ? [words, `from row ${state.row.number}`, state.row.words].filter(Boolean).join(", ") : words;
  }

  root.addEventListener("click", (event) => {
    const link = event.target.closest?.(`a[href^="#${id}-"]`);
    if (!link) return;
    event.preventDefault();
    act(chooseExample)(about.examples.findIndex((one) => one.number === Number(link.hash.slice(id.length + 2))));
  });

  if (towers.length) await showTower(state.tower);
  if (!state.head && about.examples.length) await showExample();
  if (about.table) {
    const table = element("details", { ontoggle: act(async () => {
      if (!table.open || table.children.length > 1) return;
      const markup = element("template", {});
      markup.innerHTML = await textOf(ask("table"));
      table.append(markup.content);
    }) }, element("summary", {}, "Summary and table"));
    root.append(table);
  }
  return async () => {
    for (const grid of [map?.grid, sheet, matrix]) grid?.draw();
    if (state.head) await showHead();
  };
}

export default {
  render({ model, el }) {
    const root = element("div", { class: "headwise-viewer" });
    const status = element("p", { class: "status", role: "status" });
    // Notebooks take arrow keys and Enter for their own; shortcuts with Ctrl, Alt, Shift or Command stay theirs.
    const plain = (event) => !(event.ctrlKey || event.metaKey || event.altKey || event.shiftKey);
    const sift = (event) => {
      if (plain(event)) root.setAttribute("data-lm-suppress-shortcuts", "true");
      else root.removeAttribute("data-lm-suppress-shortcuts");
    };
    window.addEventListener("keydown", sift, true);
    root.addEventListener("keydown", (event) => plain(event) && event.stopPropagation());
    el.replaceChildren(root, status);
    const say = (text) => (status.textContent = text);
    const [ask, stop] = kernelTexts(model, say);
    let redraw = () => {};
    const theme = new MutationObserver(() => redraw());
    theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
    startViewer(root, model, ask, say).then((draw) => (redraw = () => draw().catch(() => {})), (error) => say(error.message));
    return () => {
      stop();
      theme.disconnect();
      window.removeEventListener("keydown", sift, true);
    };
  },
};
