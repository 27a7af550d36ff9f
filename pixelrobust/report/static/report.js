"use strict";
(() => {
  // Tables: a click, or Enter, on a header sorts; entries without a key stay last.
  const words = new Intl.Collator("en", { numeric: true });

  function sortBy(header) {
    const body = header.closest("table").tBodies[0];
    const rising = header.getAttribute("aria-sort") !== "ascending";
    const numeric = header.classList.contains("number");
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
    };
    slider.addEventListener("input", show);
    // Browsers remember where a slider was.
    show();
  }

  // Figures: drawn when they come near, in the colours of the style sheet.
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = Array.from(document.querySelectorAll(".plot"));
  const drawn = new Set();

  function colour(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  function hiddenSeries(plot) {
    const boxes = plot.closest("figure").querySelectorAll(".legend input:not(:checked)");
    return new Set(Array.from(boxes, (box) => Number(box.value)));
  }

  function draw(plot) {
    const { data, layout } = structuredClone(figures[plot.dataset.figure]);
    const hidden = hiddenSeries(plot);
    for (const trace of data) {
      const own = colour(`series-${trace.meta.colour}`);
      trace.line.color = own;
      trace.visible = !hidden.has(trace.meta.series);
      if (trace.meta.band) trace.fillcolor = own.replace("rgb(", "rgba(").replace(")", ", 0.13)");
      else trace.marker.color = own;
      if (trace.error_x) trace.error_x.color = own;
    }
    const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { ...font, color: colour("muted") },
      hoverlabel: { align: "left", bgcolor: colour("surface"), bordercolor: colour("edge"), font: { ...font, size: 13, color: colour("text") } },
    });
    for (const axis of [layout.xaxis, layout.yaxis]) {
      Object.assign(axis, { gridcolor: colour("rule"), linecolor: colour("edge") });
    }
    Plotly.react(plot, data, layout, { displayModeBar: false, responsive: true });
    drawn.add(plot);
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        draw(target);
      }
    },
    { rootMargin: "600px" },
  );
  for (const plot of plots) near.observe(plot);
  for (const box of document.querySelectorAll(".legend input")) {
    box.addEventListener("change", () => {
      for (const plot of box.closest("figure").querySelectorAll(".plot")) draw(plot);
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));

  // On paper everything is light, and drawn.
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    plots.forEach(draw);
  });
})();
