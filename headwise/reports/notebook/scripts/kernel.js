// Texts that the kernel holds, by name: the notebook stays small, and what is not looked at is never sent.

const PATIENCE = 4000;

// Gives a function that asks for a text, and one that stops listening. `say` tells the reader who is waited for.
function kernelTexts(model, say) {
  const waiting = new Map();
  let said = false;
  const hear = (message) => {
    const place = message?.kind === "headwise" ? waiting.get(message.name) : null;
    if (!place) return;
    waiting.delete(message.name);
    clearTimeout(place.timer);
    if (said && !waiting.size) {
      said = false;
      say("");
    }
    if (message.text === null) place.failed(new Error(`The kernel has no ${message.name}.`));
    else place.done(message.text);
  };
  const ask = (name) => {
    if (waiting.has(name)) return waiting.get(name).promise;
    const place = {};
    place.promise = new Promise((done, failed) => Object.assign(place, { done, failed }));
    place.timer = setTimeout(() => {
      said = true;
      say("Waiting for the kernel. If it was restarted, run the cell again.");
    }, PATIENCE);
    waiting.set(name, place);
    model.send({ kind: "headwise", name });
    return place.promise;
  };
  const stop = () => {
    model.off("msg:custom", hear);
    for (const place of waiting.values()) clearTimeout(place.timer);
  };
  model.on("msg:custom", hear);
  return [ask, stop];
}

async function textOf(packed) {
  return new TextDecoder().decode(await inflate(await packed));
}
