"use strict";
(() => {
  // Tables: a click, or Enter, on a header sorts; entries without a key stay last.
  const words = new Intl.Collator("en", { numeric: true });

  function sortBy(header) {
    const body = header.closest("table").tBodies[0];
    const rising = header.getAttribute("aria-sort") !== "ascending";
    const numeric = header.classList.contains("n");
    const keyed = Array.from(body.rows, (row) => {
      const entry = row.cells[header.cellIndex];
      return { row, key: entry.dataset.key ?? entry.textContent.trim() };
    });
    const missing = (key) => key === "" || (numeric && Number.isNaN(Number(key.replaceAll(",", ""))));
    const number = (key) => Number(key.replaceAll(",", ""));
    keyed.sort((a, b) => {
      if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key);
      const order = numeric ? number(a.key) - number(b.key) : words.compare(a.key, b.key);
      return rising ? order : -order;
    });
    for (const other of header.parentNode.cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", rising ? "ascending" : "descending");
    body.append(...keyed.map(({ row }) => row));
  }

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }

  // The gallery: one slider for all pictures.
  for (const gallery of document.querySelectorAll(".gallery")) {
    const slider = gallery.querySelector("input[type=range]");
    const values = Array.from(gallery.querySelectorAll(".stops li"), (stop) => stop.textContent);
    const show = () => {
      const value = values[slider.valueAsNumber];
      gallery.querySelector("output").textContent = value;
      slider.setAttribute("aria-valuetext", value);
      for (const stop of gallery.querySelectorAll("[data-stop]")) {
        stop.hidden = stop.dataset.stop !== slider.value;
      }
      for (const layer of gallery.querySelectorAll("[data-layer]")) {
        layer.hidden = Number(layer.dataset.layer) > slider.valueAsNumber;
      }
    };
    slider.addEventListener("input", show);
    // Browsers remember where a slider was.
    show();
  }
})();
