// What the theme leaves out: a name for the search dialogue, and tables that scroll by keyboard.
addEventListener("load", () => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .formula, .output")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});
