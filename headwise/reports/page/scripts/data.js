// What is known of heads and examples. `bytes(name)` fetches compressed numbers when they are first asked for.

const UNKNOWN = 65535;

async function inflate(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function makeData(about, fetchText) {
  const opened = new Map();
  const colours = Object.fromEntries(
    Object.entries(about.colours).map(([name, text]) => [name, Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]),
  );
  const groups = new Map(about.groups.map((group) => [group.key, group]));

  function bytes(name) {
    if (!opened.has(name)) opened.set(name, Promise.resolve(fetchText(name)).then(inflate));
    return opened.get(name);
  }

  // The pattern of a head over all examples, or on one of them where it was kept; codes are 255 √weight.
  async function pattern(head, example) {
    const group = groups.get(head.group);
    if (!group.shape) return null;
    const size = group.shape[0] * group.shape[1];
    if (example === null) {
      const start = (head.layer * group.heads + head.head) * size;
      return (await bytes(`patterns-${head.group}`)).subarray(start, start + size);
    }
    const place = group.own.findIndex(([e, l, h]) => e === example && l === head.layer && h === head.head);
    return place < 0 ? null : (await bytes(`own-${head.group}`)).subarray(place * size, (place + 1) * size);
  }

  // Shares that the keys of an example receive from a head; null where they were not kept.
  async function received(head, example) {
    const shape = groups.get(head.group).received;
    if (!shape || example >= shape[0]) return null;
    const start = ((example * shape[1] + head.layer) * shape[2] + head.head) * shape[3];
    const codes = (await bytes(`received-${head.group}`)).subarray(start, start + shape[3]);
    if (codes.every((code) => code === 255)) return null;
    return Array.from(codes, (code) => (code === 255 ? null : (code / 254) ** 2));
  }

  async function histogram(head) {
    const group = groups.get(head.group);
    if (!group.histogram) return null;
    const all = new Uint32Array((await bytes(`histogram-${head.group}`)).slice().buffer);
    const start = (head.layer * group.heads + head.head) * 10;
    return Array.from(all.subarray(start, start + 10));
  }

  async function topKeys(head) {
    const all = JSON.parse(new TextDecoder().decode(await bytes(`top-${head.group}`)));
    return all[head.layer]?.[head.head] ?? [];
  }

  // Where a head stands in every map of its group, and the examples in which it is highest and lowest.
  async function ranks(head) {
    const found = [];
    for (const metric of about.metrics) {
      for (const [number, panel] of metric.panels.entries()) {
        const value = panel.group === head.group ? (panel.cells[head.layer]?.[head.head] ?? null) : null;
        if (value === null) continue;
        const known = panel.cells.flat().filter((cell) => cell !== null);
        const rank = 1 + known.filter((cell) => cell > value).length;
        const role = panel.label.split(" · ").slice(2).join(" ");
        const after = panel.after?.[head.layer]?.[head.head] ?? null;
        const name = role ? `${metric.title}: ${role}` : metric.title;
        const own = await ownValues(metric, panel, number, head);
        found.push({ metric, name, value, after, rank, of: known.length, ...extremes(own) });
      }
    }
    return found;
  }

  async function ownValues(metric, panel, number, head) {
    if (!panel.examples || panel.examples[0] < 2) return [];
    const [examples, layers, heads] = panel.examples;
    const codes = new Uint16Array((await bytes(`examples-${metric.key}-${number}`)).slice().buffer);
    const [low, high] = panel.ends;
    const step = (high - low) / (UNKNOWN - 1);
    return Array.from({ length: examples }, (_, example) => {
      const code = codes[(example * layers + head.layer) * heads + head.head];
      return code === UNKNOWN ? null : low + code * step;
    });
  }

  return { about, colours, groups, bytes, pattern, received, histogram, topKeys, ranks };
}

function extremes(values) {
  let highest = null;
  let lowest = null;
  values.forEach((value, example) => {
    if (value === null) return;
    if (highest === null || value > highest.value) highest = { example, value };
    if (lowest === null || value < lowest.value) lowest = { example, value };
  });
  return { highest, lowest };
}

function headAddress(group, layer, head) {
  const [whole, call] = layer.split(".");
  const name = whole.padStart(2, "0") + (call === undefined ? "" : `.${call}`);
  return `head-${group}-${name}-${String(head).padStart(2, "0")}`;
}

function headName(layer, head) {
  return `L${layer}H${head}`;
}

function shown(value, form) {
  if (value === null || value === undefined) return "–";
  if (form === "share") return `${(100 * value).toFixed(1)}\u00a0%`;
  return Number(value.toPrecision(3)).toString();
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
