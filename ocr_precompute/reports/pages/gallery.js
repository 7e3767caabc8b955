"use strict";
// What comes from the data set enters the page through textContent and attributes of SVG alone.
(() => {
  const PAGE = 60; // fills rows of two to six
  const ROWS = 200; // polygons listed beside an open sample
  const KEPT = 240; // samples whose pictures stay in memory
  const SVG = "http://www.w3.org/2000/svg";
  const LAYERS = [
    ["text", "text", ""],
    ["care", "don't-care", "dashed"],
    ["lost", "does not train", "dashed"],
    ["predicted", "predictions", "dashed"],
    ["prob", "prob", "full"],
    ["prob_mask", "prob_mask = 0", "full"],
    ["thresh", "thresh", "full"],
    ["thresh_mask", "thresh_mask", "full"],
  ];
  const MAPS = ["prob_mask", "thresh_mask", "thresh", "prob"];

  const byId = (id) => document.getElementById(id);
  const index = JSON.parse(byId("index").textContent);
  const samples = index.rows.map(([id, name, score, polygons, pairs, reasons]) => {
    const counts = new Map();
    for (let i = 0; i < pairs.length; i += 2) counts.set(pairs[i], pairs[i + 1]);
    return { id, name, lower: name.toLowerCase(), score, polygons, counts, reasons };
  });
  const texts = new Map(index.kinds.map(([key, text]) => [key, text]));
  const offered = LAYERS.filter(([key]) => key !== "predicted" || index.predictions !== null);

  let shown = samples;
  let first = 0;
  let current = 0; // place in `shown` of the card that the keyboard is at
  let viewed = 0; // place of the sample in the viewer
  let zoom = 1;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function draw(tag, attributes) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
  const percent = (score) => (score / 10).toFixed(0);

  // ------------------------------------------------------------------ polygons and pictures

  const known = new Map();
  const waiting = new Map();
  window.gallery = Object.freeze({
    take(id, data) {
      waiting.get(id)?.(data);
      waiting.delete(id);
    },
  });

  function load(id) {
    const found = known.get(id) ?? read(id);
    known.delete(id);
    known.set(id, found); // the last one used is the last one to go
    if (known.size > KEPT) known.delete(known.keys().next().value);
    return found;
  }

  function read(id) {
    const block = byId(`sample-${id}`);
    if (block) return Promise.resolve(JSON.parse(block.textContent));
    return new Promise((done, failed) => {
      const script = document.createElement("script");
      waiting.set(id, done);
      script.src = `samples/${id}.js`;
      script.onload = () => script.remove();
      script.onerror = () => {
        known.delete(id);
        failed(new Error(`samples/${id}.js cannot be read`));
      };
      document.head.append(script);
    });
  }

  function layerOf(fate) {
    const key = index.fates[fate];
    return key === "trains" ? "text" : key === "annotated" ? "care" : "lost";
  }

  function polygon(points, odd, number) {
    const pairs = [];
    for (let i = 0; i < points.length; i += 2) pairs.push(`${points[i]},${points[i + 1]}`);
    const drawn = draw("polygon", { points: pairs.join(" "), class: odd ? "polygon odd" : "polygon" });
    if (number !== undefined) drawn.dataset.number = number;
    return drawn;
  }

  function picture(data) {
    const [height, width] = data.size;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Image with polygons" });
    const image = (url, name) => draw("image", { href: url, width, height, preserveAspectRatio: "none", class: name });
    svg.append(image(data.layers.picture, "page"));
    for (const name of MAPS) {
      if (data.layers[name]) svg.append(image(data.layers[name], `layer ${name}`));
    }
    const groups = {};
    for (const name of ["care", "lost", "text", "predicted"]) {
      groups[name] = draw("g", { class: `layer ${name} shade-${name}` });
      svg.append(groups[name]);
    }
    for (const [number, fate, signs, ...points] of data.polygons) {
      const layer = layerOf(fate);
      groups[layer].append(polygon(points, signs !== 0 && layer === "text", number));
    }
    (data.predictions ?? []).forEach(([alone, ...points], place) => {
      groups.predicted.append(polygon(points, alone !== 0, `p${place}`));
    });
    return svg;
  }

  async function fill(stage, sample) {
    stage.dataset.sample = sample.id;
    try {
      const data = await load(sample.id);
      if (stage.dataset.sample === String(sample.id)) stage.replaceChildren(picture(data));
      return data;
    } catch (error) {
      stage.replaceChildren(make("p", "small quiet", error.message));
      return null;
    }
  }

  // ------------------------------------------------------------------ the list

  const grid = byId("grid");
  const seen = new IntersectionObserver(
    (changes) => {
      for (const { isIntersecting, target } of changes) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        fill(target.querySelector(".stage"), shown[Number(target.dataset.place)]);
      }
    },
    { rootMargin: "300px" },
  );

  function reason(sample, kind) {
    const [, text, group] = index.kinds[kind];
    return group === "image" ? text : `${sample.counts.get(kind) ?? 0} ${text}`;
  }

  function meter(sample) {
    const outer = make("div", "meter");
    const inner = make("i");
    inner.style.width = `${sample.score / 10}%`;
    outer.append(inner);
    return outer;
  }

  function card(sample, place) {
    const button = make("button", "card");
    button.type = "button";
    button.dataset.place = place;
    button.tabIndex = place === current ? 0 : -1;
    const heading = make("div", "heading");
    const name = make("span", "name", sample.name);
    name.title = sample.name;
    const score = make("span", "score numbers", percent(sample.score));
    score.title = "suspicion, 0 to 100";
    heading.append(name, score);
    const caption = make("div", "caption");
    caption.append(heading, meter(sample));
    const said = sample.reasons.slice(0, 2).map((kind) => reason(sample, kind));
    const more = sample.reasons.length > 2 ? `, ${sample.reasons.length - 2} more` : "";
    const signs = said.length ? ` · ${said.join(", ")}${more}` : "";
    caption.append(make("p", "small quiet", many(sample.polygons, "polygon") + signs));
    button.append(make("div", "stage"), caption);
    return button;
  }

  function showPage() {
    seen.disconnect();
    const cards = shown.slice(first, first + PAGE).map((sample, i) => card(sample, first + i));
    grid.replaceChildren(...(cards.length ? cards : [make("p", "empty", "No sample is like that.")]));
    for (const each of cards) seen.observe(each);
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    byId("pages").hidden = pages === 1;
    byId("page").textContent = `Page ${first / PAGE + 1} of ${pages}`;
    byId("before").disabled = first === 0;
    byId("after").disabled = first + PAGE >= shown.length;
  }

  function turnTo(place, focus) {
    current = Math.min(Math.max(place, 0), shown.length - 1);
    const start = Math.floor(current / PAGE) * PAGE;
    if (start !== first) {
      first = start;
      showPage();
    }
    for (const each of grid.children) each.tabIndex = Number(each.dataset.place) === current ? 0 : -1;
    if (focus) grid.children[current - first]?.focus();
  }

  const ORDERS = {
    score: (a, b) => b.score - a.score,
    name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
    most: (a, b) => b.polygons - a.polygons,
    fewest: (a, b) => a.polygons - b.polygons,
  };

  function number(id, otherwise) {
    const value = byId(id).value;
    return value === "" ? otherwise : Number(value);
  }

  function choose() {
    const name = byId("name").value.trim().toLowerCase();
    const kind = byId("kind").value;
    const [least, most] = [number("least", 0), number("most", Infinity)];
    shown = samples
      .filter((s) => s.lower.includes(name) && s.polygons >= least && s.polygons <= most)
      .filter((s) => kind === "" || s.counts.has(Number(kind)))
      .sort(ORDERS[byId("sort").value]);
    first = current = 0;
    const all = many(samples.length, "sample");
    byId("count").textContent = shown.length === samples.length ? all : `${shown.length.toLocaleString("en")} of ${all}`;
    showPage();
  }

  // ------------------------------------------------------------------ one sample

  const viewer = byId("viewer");
  const stage = byId("stage");

  function resize() {
    const svg = stage.querySelector("svg");
    if (svg) svg.style.width = svg.style.height = `${zoom * 100}%`;
    byId("smaller").disabled = zoom <= 1;
    byId("larger").disabled = zoom >= 8;
  }

  function zoomTo(wanted) {
    zoom = Math.min(Math.max(wanted, 1), 8);
    resize();
  }

  function point(id, on) {
    stage.querySelector(`.polygon[data-number="${id}"]`)?.classList.toggle("pointed", on);
  }

  function row(id, label, layer, text) {
    const button = make("button", "row");
    button.type = "button";
    const swatch = make("span", `swatch shade-${layer}${layer === "text" ? "" : " dashed"}`);
    button.append(swatch, make("span", "numbers", label), make("span", "", text));
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => point(id, true));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => point(id, false));
    return button;
  }

  function labelRow([id, fate, signs]) {
    const layer = layerOf(fate);
    const implied = layer === "lost" ? ["tiny", "vanished"] : [];
    const found = index.signs.filter((sign, place) => signs & (1 << place) && !implied.includes(sign));
    const said = found.map((sign) => texts.get(sign));
    if (layer !== "text") said.unshift(texts.get(index.fates[fate]));
    return row(id, `#${id + 1}`, layer, said.join("; ") || "trains");
  }

  function predictionRows(data) {
    return (data.predictions ?? []).flatMap(([alone], place) =>
      alone ? [() => row(`p${place}`, "", "predicted", texts.get("unlabelled"))] : [],
    );
  }

  function list(element, rows) {
    const made = rows.slice(0, ROWS).map((each) => each());
    const left = rows.length - made.length;
    if (!made.length) made.push(make("p", "small quiet", "none"));
    if (left) made.push(make("p", "small quiet", `and ${many(left, "more polygon")}`));
    element.replaceChildren(...made);
  }

  function fact(facts, term, value) {
    facts.push(make("dt", "", term), make("dd", "numbers", value));
  }

  function about(sample, data) {
    const facts = [];
    fact(facts, "Polygons", sample.polygons.toLocaleString("en"));
    for (const [kind, count] of sample.counts) {
      const [, text, group] = index.kinds[kind];
      if (group === "fate") fact(facts, `… ${text}`, count.toLocaleString("en"));
      if (group === "image") fact(facts, "Image", text);
    }
    fact(facts, "Original, px", `${data.original[1]} × ${data.original[0]}`);
    fact(facts, "Canonical, px", `${data.size[1]} × ${data.size[0]}`);
    if (data.damage) fact(facts, "Damage", data.damage);
    if (data.left) fact(facts, "Not drawn", `${many(data.left, "polygon")}, for lack of room`);
    byId("about").replaceChildren(...facts);
  }

  async function view(place) {
    turnTo(place, false);
    viewed = current;
    const sample = shown[viewed];
    byId("viewed").textContent = sample.name;
    byId("place").textContent = `${(viewed + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    byId("previous").disabled = viewed === 0;
    byId("next").disabled = viewed === shown.length - 1;
    byId("score").replaceChildren(make("p", "numbers", `${percent(sample.score)} of 100`), meter(sample));
    const said = sample.reasons.map((kind) => make("li", "small", reason(sample, kind)));
    byId("reasons").replaceChildren(...(said.length ? said : [make("li", "small quiet", "nothing that is rare in this split")]));
    if (!viewer.open) viewer.showModal();
    zoom = 1;
    const data = await fill(stage, sample);
    if (!data || shown[viewed] !== sample) return;
    resize();
    about(sample, data);
    const odd = data.polygons.filter(([, fate, signs]) => signs !== 0 || layerOf(fate) !== "text");
    const plain = data.polygons.filter(([, fate, signs]) => signs === 0 && layerOf(fate) === "text");
    list(byId("odd"), [...predictionRows(data), ...odd.map((label) => () => labelRow(label))]);
    byId("rest").hidden = plain.length === 0;
    byId("rest").querySelector("summary").textContent = many(plain.length, "other polygon");
    list(byId("plain"), plain.map((label) => () => labelRow(label)));
  }

  // ------------------------------------------------------------------ layers and keys

  function setLayer(key, on) {
    document.documentElement.classList.toggle(`show-${key}`, on);
    for (const input of document.querySelectorAll("[data-layer]")) {
      if (input.dataset.layer === key) input.checked = on;
    }
  }

  function offerLayers(fieldset) {
    const row = make("div");
    for (const [key, text, style] of offered) {
      const label = make("label", "switch");
      const input = make("input");
      input.type = "checkbox";
      input.dataset.layer = key;
      input.addEventListener("change", () => setLayer(key, input.checked));
      label.append(input, make("span", `swatch shade-${key} ${style}`), make("span", "", text));
      row.append(label);
    }
    fieldset.append(row);
  }

  function columns() {
    const tops = [...grid.children].map((each) => each.offsetTop);
    return tops.filter((top) => top === tops[0]).length;
  }

  const STEPS = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns(), ArrowDown: () => columns() };

  function pressed(event) {
    const typing = event.target.closest?.("input:not([type=checkbox]), select");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const layer = offered[Number(event.key) - 1];
    if (layer) setLayer(layer[0], !document.documentElement.classList.contains(`show-${layer[0]}`));
    if (viewer.open) {
      const scrolls = zoom > 1 && event.target === stage;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && !scrolls && shown[viewed + step]) view(viewed + step);
      if (event.key === "+" || event.key === "=") zoomTo(zoom * 1.5);
      if (event.key === "-") zoomTo(zoom / 1.5);
    } else if (STEPS[event.key] && event.target.closest?.(".card")) {
      event.preventDefault();
      turnTo(current + STEPS[event.key](), true);
    }
  }

  function offerKinds() {
    const select = byId("kind");
    const any = make("option", "", "anything");
    any.value = "";
    select.append(any);
    const titles = { fate: "Polygons that", sign: "Polygons worth a look", image: "Images" };
    for (const [group, title] of Object.entries(titles)) {
      const part = make("optgroup");
      part.label = title;
      index.kinds.forEach(([, text, of], kind) => {
        const count = of === group ? samples.filter((s) => s.counts.has(kind)).length : 0;
        if (!count) return;
        const option = make("option", "", `${text} (${count.toLocaleString("en")})`);
        option.value = kind;
        part.append(option);
      });
      if (part.children.length) select.append(part);
    }
  }

  function start() {
    byId("title").textContent = index.split;
    const of = samples.length === index.samples ? "" : ` of ${index.samples.toLocaleString("en")}`;
    const trained = index.words ? `, ${((100 * index.trained) / index.words).toFixed(1)} % of which train` : "";
    const facts = [
      `${samples.length.toLocaleString("en")}${of} samples`,
      `${many(index.words, "word")} in the split${trained}`,
      `canonical size ${index.size[1]} × ${index.size[0]}`,
      `recipe ${index.recipe}`,
      `data hash ${index.hash}`,
    ];
    if (index.predictions !== null) facts.push(`compared with predictions for ${many(index.predictions, "sample")}`);
    byId("facts").textContent = facts.join(" · ");
    byId("keys").textContent = `Arrow keys move, Enter opens, Esc closes, 1 to ${offered.length} switch layers`;
    offerKinds();
    for (const fieldset of document.querySelectorAll("[data-layers]")) offerLayers(fieldset);
    for (const [key] of offered.slice(0, offered.length - 4)) setLayer(key, true);
    for (const id of ["name", "kind", "least", "most", "sort"]) byId(id).addEventListener("input", choose);
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("before").addEventListener("click", () => turnTo(first - PAGE, true));
    byId("after").addEventListener("click", () => turnTo(first + PAGE, true));
    byId("previous").addEventListener("click", () => view(viewed - 1));
    byId("next").addEventListener("click", () => view(viewed + 1));
    byId("larger").addEventListener("click", () => zoomTo(zoom * 1.5));
    byId("smaller").addEventListener("click", () => zoomTo(zoom / 1.5));
    byId("close").addEventListener("click", () => viewer.close());
    viewer.addEventListener("close", () => turnTo(viewed, true)); // the browser goes back to the first
    grid.addEventListener("click", (event) => {
      const chosen = event.target.closest(".card");
      if (chosen) view(Number(chosen.dataset.place));
    });
    grid.addEventListener("focusin", (event) => {
      const chosen = event.target.closest(".card");
      if (chosen) current = Number(chosen.dataset.place);
    });
    document.addEventListener("keydown", pressed);
    choose();
  }

  start();
})();
