"use strict";
// What comes from the run enters the page through textContent and attributes of SVG alone.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const STYLES = 4; // of curves: colours and dashes
  const SHAPES = [
    ["found", "found"],
    ["missed", "missed"],
    ["wrong", "wrong"],
    ["care", "don't-care"],
  ];

  const byId = (id) => document.getElementById(id);
  const run = JSON.parse(byId("run").textContent);

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function draw(tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  function said(value, unit) {
    const text = Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
    return unit ? (unit.startsWith("/") ? text + unit : `${text} ${unit}`) : text;
  }

  // ------------------------------------------------------------------ charts

  const HEIGHT = 240;
  const MARGIN = { top: 12, right: 16, bottom: 40 };

  function styled(place) {
    return `shade-${place % STYLES} dash-${(place + Math.floor(place / STYLES)) % STYLES}`;
  }

  function key(curves) {
    const list = make("ul", "keys");
    curves.forEach((curve, place) => {
      const item = make("li");
      const sample = draw("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" });
      sample.append(draw("path", { d: "M0 6H26", class: `curve ${styled(place)}` }));
      item.append(sample, make("span", "", curve.name));
      list.append(item);
    });
    return list;
  }

  // The chart drawn at that width; `at` gives the place of values, `places` all x that have a point.
  function plotted(chart, width) {
    const label = (axis, tick) => said(tick, axis.unit);
    const widest = Math.max(...chart.y.ticks.map((tick) => label(chart.y, tick).length));
    const left = 14 + 7 * widest;
    const [inner, down] = [width - left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
    const at = {
      x: (value) => left + (inner * (value - chart.x.low)) / (chart.x.high - chart.x.low),
      y: (value) => MARGIN.top + down * (1 - (value - chart.y.low) / (chart.y.high - chart.y.low)),
    };
    const svg = draw("svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      height: HEIGHT,
      role: "img",
      "aria-label": `${chart.title}. ${chart.about}`,
    });
    for (const tick of chart.y.ticks) {
      const y = at.y(tick);
      svg.append(draw("line", { x1: left, x2: width - MARGIN.right, y1: y, y2: y, class: "grid-line" }));
      svg.append(draw("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, label(chart.y, tick)));
    }
    const bottom = MARGIN.top + down;
    svg.append(draw("line", { x1: left, x2: width - MARGIN.right, y1: bottom, y2: bottom, class: "axis-line" }));
    let free = -Infinity; // where the next label of the x axis may begin
    for (const tick of chart.x.ticks) {
      const text = label(chart.x, tick);
      const [x, half] = [at.x(tick), 3.6 * text.length];
      svg.append(draw("line", { x1: x, x2: x, y1: bottom, y2: bottom + 4, class: "axis-line" }));
      if (x - half < free) continue;
      free = x + half + 6;
      const anchor = x + half > width ? "end" : "middle";
      svg.append(draw("text", { x: anchor === "end" ? width : x, y: bottom + 17, "text-anchor": anchor }, text));
    }
    svg.append(draw("text", { x: left + inner / 2, y: HEIGHT - 5, "text-anchor": "middle" }, chart.x.label));
    if (chart.y.label) svg.append(draw("text", { x: left + 6, y: bottom - 8 }, `↑ ${chart.y.label}`));
    chart.curves.forEach((curve, place) => {
      const points = curve.points.map(([x, y]) => `${at.x(x).toFixed(1)} ${at.y(y).toFixed(1)}`);
      svg.append(draw("path", { d: `M${points.join("L")}`, class: `curve ${styled(place)}` }));
      if (points.length > 24) return;
      for (const [x, y] of curve.points) {
        svg.append(draw("circle", { cx: at.x(x), cy: at.y(y), r: 2.6, class: `dot shade-${place % STYLES}` }));
      }
    });
    chart.marks.forEach(({ x, y, text }, number) => {
      svg.append(draw("circle", { cx: at.x(x), cy: at.y(y), r: 4.5, class: "ring shade-0" }));
      const place = { x: at.x(x) - 4, y: at.y(y) + (number % 2 ? 20 : -9), class: "marked" };
      svg.append(draw("text", { ...place, "text-anchor": "end" }, text));
    });
    return { svg, at, left, inner };
  }

  function nearest(places, x) {
    let best = 0;
    places.forEach((place, i) => {
      if (Math.abs(place - x) < Math.abs(places[best] - x)) best = i;
    });
    return best;
  }

  function chartPart(chart) {
    const panel = make("figure", "panel chart");
    panel.append(make("h3", "", chart.title), make("p", "about", chart.about));
    if (chart.curves.length > 1) panel.append(key(chart.curves));
    const plot = make("div", "plot");
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", `${chart.title}: arrow keys read the values`);
    const readout = make("p", "readout");
    readout.setAttribute("aria-live", "polite");
    panel.append(plot, readout, tableIn("Values as a table", chart.head, chart.rows));

    const places = [...new Set(chart.curves.flatMap((curve) => curve.points.map(([x]) => x)))];
    places.sort((a, b) => a - b);
    const at = (curve, x) => curve.points.find(([other]) => other === x)?.[1];
    let drawn = null;
    let current = -1;

    function reading(x) {
      const known = chart.curves.filter((curve) => at(curve, x) !== undefined);
      const parts = known.map((curve) => `${chart.y.label || curve.name} ${said(at(curve, x), chart.y.unit)}`);
      return `${chart.x.label} ${said(x, chart.x.unit)}: ${parts.join(", ")}`;
    }

    const idle = chart.said ?? reading(places.at(-1));

    function point(place) {
      drawn.svg.querySelectorAll(".pointer, .pointed").forEach((each) => each.remove());
      current = place;
      readout.textContent = place < 0 ? idle : reading(places[place]);
      if (place < 0) return;
      const x = drawn.at.x(places[place]);
      drawn.svg.append(draw("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, class: "pointer" }));
      chart.curves.forEach((curve, number) => {
        const y = at(curve, places[place]);
        if (y === undefined) return;
        const ring = { cx: x, cy: drawn.at.y(y), r: 4, class: `ring pointed shade-${number % STYLES}` };
        drawn.svg.append(draw("circle", ring));
      });
    }

    plot.addEventListener("pointermove", (event) => {
      const x = event.clientX - plot.getBoundingClientRect().left - drawn.left;
      point(nearest(places, chart.x.low + (x / drawn.inner) * (chart.x.high - chart.x.low)));
    });
    plot.addEventListener("pointerleave", () => point(-1));
    plot.addEventListener("blur", () => point(-1));
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -places.length, End: places.length }[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const from = current < 0 ? (step < 0 ? places.length : -1) : current;
      point(Math.min(Math.max(from + step, 0), places.length - 1));
    });
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width < 80) return;
      drawn = plotted(chart, Math.round(contentRect.width));
      plot.replaceChildren(drawn.svg);
      point(current);
    }).observe(plot);
    return panel;
  }

  // ------------------------------------------------------------------ tables and lists

  const isNumber = (text) => /^[\d.,\s%e+-]*(s|MB)?\s?$/.test(text);

  function table(head, rows) {
    const element = make("table");
    const columns = head.map((_, place) => rows.every((row) => isNumber(row[place])));
    const line = make("tr");
    head.forEach((text, place) => {
      const cell = make("th", columns[place] ? "number" : "", text);
      cell.scope = "col";
      line.append(cell);
    });
    const top = make("thead");
    top.append(line);
    const body = make("tbody");
    for (const row of rows) {
      const each = make("tr");
      row.forEach((text, place) => each.append(make("td", columns[place] ? "number" : "words", text)));
      body.append(each);
    }
    element.append(top, body);
    return element;
  }

  function scrolled(child, name) {
    const box = make("div", "scroll");
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", name);
    box.append(child);
    return box;
  }

  function tableIn(title, head, rows) {
    const details = make("details");
    details.append(make("summary", "", title), scrolled(table(head, rows), title));
    return details;
  }

  function tablePart(part) {
    const panel = make("div", "panel wide");
    panel.append(scrolled(table(part.head, part.rows), "Table"));
    return panel;
  }

  function barsPart(part) {
    const panel = make("div", "panel wide");
    panel.append(make("h3", "", part.title), make("p", "about", part.about));
    const hidden = part.processes ? [] : [1];
    const keep = (cells) => cells.filter((_, place) => !hidden.includes(place));
    const element = make("table", "bars");
    const line = make("tr");
    part.head.forEach((text, place) => {
      if (hidden.includes(place)) return;
      const cell = make(place === 2 ? "td" : "th", place > 2 ? "number" : "", text);
      if (place !== 2) cell.scope = "col";
      line.append(cell);
    });
    const top = make("thead");
    top.append(line);
    const body = make("tbody");
    const numbers = [...new Set(part.rows.map((row) => row[1]))];
    for (const row of part.rows) {
      const who = numbers.indexOf(row[1]);
      const cells = row.map((value, place) => {
        if (place !== 2) return make("td", place > 2 ? "number" : "", value);
        const cell = make("td", `bar-cell shade-${who % STYLES}`);
        const bar = make("i", who % 2 ? "hatched" : "");
        bar.style.width = `${100 * value}%`;
        cell.append(bar);
        return cell;
      });
      const each = make("tr");
      each.append(...keep(cells));
      body.append(each);
    }
    element.append(top, body);
    const box = scrolled(element, part.title);
    box.classList.add("whole");
    panel.append(box);
    return panel;
  }

  function factsPart(part) {
    const panel = make("div", "panel");
    const list = make("dl", "facts-list");
    for (const [term, value] of part.rows) list.append(make("dt", "", term), make("dd", "numbers", value));
    panel.append(make("h3", "", part.title), list);
    return panel;
  }

  function filePart(part) {
    const panel = make("div", "panel wide");
    const details = make("details");
    details.append(make("summary", "", `All of ${part.title}`), scrolled(make("pre", "", part.text), part.title));
    panel.append(make("h3", "", part.title), details);
    return panel;
  }

  // ------------------------------------------------------------------ the worst images

  let images = [];
  let viewed = 0;

  function picture(image) {
    const [height, width] = image.size;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told(image) });
    if (image.picture) svg.append(draw("image", { href: image.picture, width, height, preserveAspectRatio: "none" }));
    const order = ["care", "found", "wrong", "missed"];
    for (const kind of order) {
      for (const [is, score, ...points] of image.shapes) {
        if (is !== kind) continue;
        const shape = draw("polygon", { points: points.join(" "), class: `shape ${kind}` });
        const label = SHAPES.find(([name]) => name === kind)[1];
        shape.append(draw("title", {}, score === null ? label : `${label}, score ${said(score)}`));
        svg.append(shape);
      }
    }
    return svg;
  }

  function told(image) {
    const left = image.left ? `, ${many(image.left, "polygon")} not drawn` : "";
    const gone = image.picture ? "" : ", its picture is gone";
    return `${image.missed} missed, ${image.wrong} wrong, ${image.matched} found${left}${gone}`;
  }

  function shapeKey() {
    const list = make("ul", "keys");
    for (const [kind, label] of SHAPES) {
      const item = make("li");
      const sample = draw("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" });
      sample.append(draw("rect", { x: 1.5, y: 1.5, width: 23, height: 9, class: `shape ${kind}` }));
      item.append(sample, make("span", "", label));
      list.append(item);
    }
    return list;
  }

  function worstPart(part) {
    images = part.images;
    const box = make("div");
    const grid = make("div", "images");
    images.forEach((image, place) => {
      const button = make("button", "card");
      button.type = "button";
      const stage = make("div", "stage");
      stage.append(picture(image));
      const caption = make("div", "caption");
      const name = make("span", "name", image.name);
      name.title = image.name;
      caption.append(name, make("span", "small quiet numbers", told(image)));
      button.append(stage, caption);
      button.addEventListener("click", () => view(place));
      grid.append(button);
    });
    box.append(shapeKey(), grid);
    return box;
  }

  function view(place) {
    if (!images[place]) return;
    viewed = place;
    const image = images[place];
    byId("viewed").textContent = image.name;
    byId("place").textContent = `${place + 1} of ${images.length}`;
    byId("said").textContent = told(image);
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === images.length - 1;
    byId("stage").replaceChildren(picture(image));
    if (!byId("viewer").open) byId("viewer").showModal();
  }

  function offerViewer() {
    byId("viewer-key").append(shapeKey());
    byId("previous").addEventListener("click", () => view(viewed - 1));
    byId("next").addEventListener("click", () => view(viewed + 1));
    byId("close").addEventListener("click", () => byId("viewer").close());
    byId("viewer").addEventListener("close", () => document.querySelectorAll(".card")[viewed]?.focus());
    document.addEventListener("keydown", (event) => {
      if (!byId("viewer").open || event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) view(viewed + step);
    });
  }

  // ------------------------------------------------------------------ the page

  const PARTS = {
    text: (part) => make("p", "prose", part.text),
    note: (part) => make("p", "note", part.text),
    chart: chartPart,
    bars: barsPart,
    table: tablePart,
    facts: factsPart,
    file: filePart,
    worst: worstPart,
  };
  const PANELS = new Set(["chart", "bars", "table", "facts", "file"]); // stand next to each other

  function section({ id, title, parts }) {
    const element = make("section", "part");
    element.id = id;
    element.setAttribute("aria-labelledby", `${id}-title`);
    const heading = make("h2", "", title);
    heading.id = `${id}-title`;
    element.append(heading);
    for (const part of parts) {
      const made = PARTS[part.kind](part);
      const row = !PANELS.has(part.kind) ? "" : part.kind === "facts" ? "parts short" : "parts";
      if (row && element.lastChild.className !== row) element.append(make("div", row));
      (row ? element.lastChild : element).append(made);
    }
    return element;
  }

  function start() {
    byId("title").textContent = run.title;
    byId("facts").textContent = run.facts.join(" · ");
    for (const [name, value, word] of run.figures) {
      const figure = make("div");
      figure.append(make("dt", "", name), make("dd", "value", value), make("dd", "word", word));
      byId("figures").append(figure);
    }
    byId("figures").hidden = !run.figures.length;
    byId("notes").hidden = !run.notes.length;
    byId("notes-list").append(...run.notes.map((note) => make("li", "", note)));
    for (const each of run.sections) {
      const link = make("a", "", each.title);
      link.href = `#${each.id}`;
      byId("contents").append(link);
      byId("main").append(section(each));
    }
    offerViewer();
  }

  start();
})();
