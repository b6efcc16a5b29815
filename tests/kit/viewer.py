"""A page that shows a viewer as a notebook would, and answers its messages from Python."""

from __future__ import annotations

import json
from contextlib import contextmanager

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>cell</title><style>%s</style></head>
<body%s><div id="cell"></div><div id="second"></div></body></html>"""
START = """async ({ esm, about, places, silent }) => {
  const { default: widget } = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  window.asked = [];
  for (const place of places) {
    const heard = new Set();
    const model = {
      get: (name) => (name === "about" ? about : undefined),
      on: (event, call) => heard.add(call),
      off: (event, call) => heard.delete(call),
      send: async (message) => {
        window.asked.push(message.name);
        if (silent) return;
        const answer = await window.kernel(message);
        for (const call of heard) call(answer);
      },
    };
    await widget.render({ model, el: document.getElementById(place) });
  }
}"""


@contextmanager
def in_browser(browser, viewer, *, body="", places=("cell",), silent=False, **options):
    """The viewer on a page without a network; gives the page and everything it complained about.

    Args:
        browser: Chromium.
        viewer: the widget.
        body: attributes of the body, as the host has them.
        places: where it is shown; "cell", "second", or both.
        silent: the kernel never answers.
        options: of the browser's context.
    """
    page = browser.new_context(offline=True, **options).new_page()
    complaints, answers = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: request.url.startswith(("blob:", "data:")) or complaints.append(request.url),
    )
    viewer.send = lambda content, buffers=None: answers.append(json.loads(json.dumps(content)))

    def kernel(message):
        viewer._handle_custom_msg(message, [])
        return answers.pop()

    page.expose_function("kernel", kernel)
    page.set_content(PAGE % (viewer._css, f" {body}" if body else ""))
    page.evaluate(
        START, {"esm": viewer._esm, "about": viewer.about, "places": list(places), "silent": silent}
    )
    yield page, complaints
    page.context.close()
