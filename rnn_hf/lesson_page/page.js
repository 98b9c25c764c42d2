"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data"), strings = read("strings");
const COLORS = 6, MOST_LINES = 6, TAIL = 20;
const WITH_UNIT = ["gates", "unit"];

/** What the reader has chosen; the unit is chosen for each model. */
const chosen = { text: 0, word: null, units: data.models.map(() => 0), steps: data.packing.map(() => 0) };

// elements

function add(parent, tag, attributes = {}, content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (content !== undefined) element.textContent = content;
  return parent.appendChild(element);
}

function draw(parent, tag, attributes = {}, title) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (title !== undefined) draw(element, "title").textContent = title;
  return parent.appendChild(element);
}

function write(parent, x, y, content, attributes = {}) {
  draw(parent, "text", { x, y, ...attributes }).textContent = content;
}

const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
const short = (value) => (Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(3) : value.toExponential(1));
const percent = (share) => (100 * share).toFixed(1);
const colorOf = (index) => `var(--c${index % COLORS})`;

/** A colour whose strength is that of a value from -1 to 1: blue above 0, orange below. */
function tint(value) {
  const strength = Math.min(1, Math.abs(value));
  return `rgba(var(${value >= 0 ? "--for" : "--against"}), ${(0.85 * strength).toFixed(3)})`;
}

const argmax = (values) => values.indexOf(Math.max(...values));

// charts

/** Lines over columns that are words or numbers; a logarithmic scale starts at the smallest value. */
function lines(parent, { columns, series, low = 0, high = 1, log = false, mark = null, name, across = "" }) {
  const isWords = typeof columns[0] === "string";
  const left = log ? 46 : 34, top = 18, height = 150, bottom = isWords ? 74 : 34;
  const step = stepOf(parent, left + 12, columns.length, isWords ? 8 : 2.4), width = left + step * columns.length + 12;
  const svg = draw(add(parent, "div", { class: "scroll" }), "svg", {
    width, height: top + height + bottom, viewBox: `0 0 ${width} ${top + height + bottom}`, role: "img", "aria-label": name,
  });
  const scale = (value) => (log ? Math.log10(Math.max(value, low)) : value);
  const [from, to] = [scale(low), scale(high)];
  const x = (index) => left + step * (index + 0.5);
  const y = (value) => top + height * (1 - (Math.min(scale(value), to) - from) / (to - from || 1));
  const ticks = log
    ? Array.from({ length: Math.round(to - from) + 1 }, (_, index) => 10 ** (from + index))
    : steps(high, 4);
  for (const [index, tick] of ticks.entries()) {
    draw(svg, "line", { x1: left, x2: width, y1: y(tick), y2: y(tick), class: "axis" });
    if (log && ticks.length > 7 && index % 2) continue;
    write(svg, left - 5, y(tick) + 4, log ? `1e${Math.round(Math.log10(tick))}` : String(Number(tick.toFixed(2))), {
      "text-anchor": "end", class: "soft-text",
    });
  }
  if (mark !== null) draw(svg, "line", { x1: x(mark), x2: x(mark), y1: top, y2: top + height, class: "mark" });
  for (const { values, color, dash = "", thickness = 2, title } of series) {
    const d = values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)},${y(value).toFixed(1)}`).join("");
    const style = `stroke: ${color}; stroke-dasharray: ${dash || "none"}; stroke-width: ${thickness}px`;
    draw(svg, "path", { d, style });
    for (const [index, value] of values.entries()) {
      const at = isWords ? `“${columns[index]}”` : `${columns[index]} ${across}`;
      draw(svg, "circle", { cx: x(index), cy: y(value), r: 4, "fill-opacity": isWords ? 1 : 0, style: `fill: ${color}; r: ${isWords ? 2 : 4}px` },
        `${title}, ${at}: ${short(value)}`);
    }
  }
  for (const [index, column] of columns.entries()) {
    if (isWords) {
      writeWord(svg, x(index), top + height + 12, column, step, index === mark);
    } else if (steps(columns.length - 1, 6).includes(column)) {
      write(svg, x(index), top + height + 14, column, { "text-anchor": "middle", class: "soft-text" });
    }
  }
  write(svg, 2, 10, name, { class: "soft-text" });
  if (across) write(svg, left, top + height + 30, across, { class: "soft-text" });
}

/** Round numbers from 0 to the largest one, about as many as wanted. */
function steps(largest, wanted) {
  const step = [0.25, 0.5, 1, 2, 5, 10, 20, 50, 100].find((size) => largest / size <= wanted);
  return Array.from({ length: Math.floor(largest / step) + 1 }, (_, index) => index * step);
}

/** A word under its column, upright where columns are narrow. */
function writeWord(svg, x, y, word, step, isMarked = false) {
  const isNarrow = step < 12, place = x + (isNarrow ? 3 : 4);
  write(svg, place, y, cut(word, 13), {
    transform: `rotate(${isNarrow ? -90 : -55} ${place} ${y - (isNarrow ? 6 : 0)})`, "text-anchor": "end",
    style: `font-size: ${isNarrow ? 9 : 11}px`, ...(isMarked && { "font-weight": "bold" }),
  });
}

/** The width of a column, so that all of them fill the panel if they are not too narrow. */
const stepOf = (panel, margins, number, least) => Math.max(least, Math.min(40, (panel.clientWidth - margins) / number));

const cut = (word, most) => (word.length > most ? `${word.slice(0, most - 1)}…` : word);

function legend(parent, entries) {
  const list = add(parent, "div", { class: "legend" });
  for (const { name, color, dash } of entries) {
    add(list, "span", { style: `--color: ${color}; --dash: ${dash ? "dashed" : "solid"}` }, name);
  }
}

/** A slider for the unit, which stays when the numbers below it are drawn anew. */
function slider(parent, model, index) {
  const row = add(parent, "div", { class: "controls" });
  const label = add(row, "label", {}, `${strings.unit} `);
  add(label, "output");
  const input = add(row, "input", {
    type: "range", min: 0, max: model.readings[0].states[0].length - 1, "aria-label": `${strings.unit}, ${model.name}`,
  });
  input.addEventListener("input", () => chooseUnit(index, Number(input.value)));
}

function chooseUnit(index, unit) {
  chosen.units[index] = unit;
  for (const row of document.querySelectorAll(`[data-index="${index}"] .controls`)) {
    row.querySelector("output").textContent = unit;
    row.querySelector("input").value = unit;
  }
  for (const id of WITH_UNIT) drawModel(id, index);
}

// views: each draws the panel of one model, or returns the reason why there is none

const views = {
  words(panel, model, reading) {
    if (!model.is_classifier) return strings.reasons.no_label;
    const answers = reading.probabilities.map(argmax);
    const order = [...model.labels.keys()].sort(
      (a, b) => Math.max(...reading.probabilities.map((row) => row[b])) - Math.max(...reading.probabilities.map((row) => row[a])),
    );
    const shown = order.slice(0, MOST_LINES).sort((a, b) => a - b);
    const settled = answers.findLastIndex((label, index) => index > 0 && label !== answers[index - 1]);
    const series = shown.map((label, index) => ({
      values: reading.probabilities.map((row) => row[label]), color: colorOf(index), title: model.labels[label],
    }));
    lines(panel, { columns: reading.words, series, mark: settled < 0 ? null : settled, name: strings.probability });
    legend(panel, series.map(({ title, color }) => ({ name: title, color })));
    const label = model.labels[answers.at(-1)];
    const sentence = settled < 0 ? strings.never_flips : strings.flips_at;
    add(panel, "p", { class: "sentence" }, fill(sentence, { label, position: settled + 1, word: reading.words[settled] }));
  },

  states(panel, model, reading, index) {
    const height = Math.max(4, Math.min(9, 300 / reading.order.length)), left = 34, bottom = 74;
    const cell = stepOf(panel, left + 4, reading.words.length, 8), width = left + cell * reading.words.length + 4;
    const total = height * reading.order.length + bottom;
    const svg = draw(add(panel, "div", { class: "scroll" }), "svg", {
      width, height: total, viewBox: `0 0 ${width} ${total}`, role: "img", "aria-label": `${strings.unit}, ${model.name}`,
    });
    for (const [row, unit] of reading.order.entries()) {
      write(svg, left - 4, height * (row + 0.9), unit, { "text-anchor": "end", class: "soft-text", style: `font-size: ${height}px` });
      for (const [column, word] of reading.words.entries()) {
        const value = reading.states[column][unit];
        draw(svg, "rect", {
          x: left + cell * column, y: height * row, width: cell - 1, height: height - 0.5, style: `fill: ${tint(value)}`,
          "data-unit": unit,
        }, `${strings.unit} ${unit}, “${word}”: ${short(value)}`);
      }
    }
    for (const [column, word] of reading.words.entries()) {
      writeWord(svg, left + cell * (column + 0.5), height * reading.order.length + 12, word, cell);
    }
    add(panel, "p", { class: "soft" }, strings.key);
    svg.addEventListener("click", ({ target }) => {
      if (target.dataset.unit !== undefined) chooseUnit(index, Number(target.dataset.unit));
    });
  },

  gates(panel, model, reading, index) {
    const names = Object.keys(reading.gates);
    if (!names.length) return strings.reasons.no_gates;
    const unit = Math.min(chosen.units[index], model.hidden_size - 1);
    const series = names.flatMap((name, number) => [
      {
        values: reading.gates[name].map((row) => row.reduce((sum, value) => sum + value) / row.length),
        color: colorOf(number), title: `${strings.gates[name]}, ${strings.average}`,
      },
      {
        values: reading.gates[name].map((row) => row[unit]), color: colorOf(number), dash: "4 3",
        title: `${strings.gates[name]}, ${strings.unit} ${unit}`,
      },
    ]);
    lines(panel, { columns: reading.words, series, name: names.map((name) => strings.gates[name]).join(", ") });
    legend(panel, series.map(({ title, color, dash }) => ({ name: title, color, dash })));
  },

  unit(panel, model, reading, index) {
    const unit = chosen.units[index], list = add(panel, "p", { class: "words" });
    for (const [place, word] of reading.words.entries()) {
      const value = reading.states[place][unit];
      const [name, title] = reading.is_unknown[place] ? ["unknown", `; ${strings.unknown_word}`] : ["", ""];
      add(list, "span", { style: `background: ${tint(value)}`, title: short(value) + title, class: name }, word);
      list.append(" ");
    }
    if (reading.is_unknown.some(Boolean)) add(panel, "p", { class: "soft" }, `${strings.underlined}: ${strings.unknown_word}`);
    if (!model.driving_words) return strings.reasons[model.has_other_labels ? "other_labels" : "no_test_split"];
    if (!model.driving_words[unit].highest.length) return strings.reasons.no_frequent_words;
    for (const side of ["highest", "lowest"]) {
      const words = model.driving_words[unit][side].map(([word, mean]) => `${word} (${short(mean)})`).join(", ");
      add(panel, "p", { class: side }, `${strings[`${side}_after`]}: ${words}`);
    }
  },

  gradient(panel, model, reading) {
    const measured = model.gradient, own = { as_computed: reading.gradient[0], last_state: reading.gradient[1] };
    const kinds = ["last_state", "as_computed"];
    const series = kinds.flatMap((kind, number) => [
      // where both are the same, the second one lies on the first
      ...(measured ? [{ values: measured[kind], color: colorOf(number), title: strings[kind], thickness: 4 - 2.5 * number }] : []),
      { values: own[kind], color: colorOf(number), thickness: 1, dash: "2 3", title: `${strings[kind]}, ${strings.this_text}` },
    ]);
    const all = data.models.flatMap((other) => [
      ...other.readings.flatMap((one) => one.gradient.flat()), ...(other.gradient ? [...other.gradient.last_state, ...other.gradient.as_computed] : []),
    ]).filter((value) => value > 0);
    const length = Math.max(...series.map(({ values }) => values.length));
    lines(panel, {
      columns: Array.from({ length }, (_, place) => place), series, log: true, name: strings.gradient_norm, across: strings.distance_back,
      low: Math.max(1e-12, 10 ** Math.floor(Math.log10(Math.min(...all)))), high: 10 ** Math.ceil(Math.log10(Math.max(...all))),
    });
    legend(panel, series.map(({ title, color, dash }) => ({ name: title, color, dash })));
    const line = measured ? measured.last_state : own.last_state, count = Math.min(TAIL, line.length - 1);
    if (measured) add(panel, "p", { class: "soft" }, fill(strings.mean_of_texts, { num_texts: measured.num_texts }));
    add(panel, "p", { class: "sentence" }, fill(strings.from_end_to_start, { count, ratio: short(line[count] / line[0]) }));
    if (!measured) {
      const reason = model.has_other_labels ? "other_labels" : "no_test_split";
      return model.driving_words ? strings.reasons.no_long_texts : strings.reasons[reason];
    }
  },

  reliance(panel, model, reading, modelIndex) {
    if (reading.words.length < 2) return strings.reasons.no_pairs;
    const place = Math.min(chosen.word ?? reading.words.length - 1, reading.words.length - 1);
    const norms = reading.reliance[place], most = Math.max(...norms) || 1;
    const list = add(panel, "p", { class: "words" });
    for (const [index, word] of reading.words.entries()) {
      const span = add(list, "span", { tabindex: index === place ? 0 : -1, role: "button", "data-place": index }, word);
      if (index === place) span.className = "chosen";
      if (index <= place) {
        span.style.background = tint(norms[index] / most);
        span.title = short(norms[index]);
      }
      list.append(" ");
    }
    const choose = (next, isFocused) => {
      if (next < 0 || next >= reading.words.length || next === place) return;
      chosen.word = next;
      drawView("reliance");
      if (isFocused) document.querySelector(`#view-reliance [data-index="${modelIndex}"] [data-place="${next}"]`)?.focus();
    };
    list.addEventListener("pointerover", ({ target }) => target.dataset.place && choose(Number(target.dataset.place)));
    list.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      choose(place + by, true);
    });
  },

  padding(panel, model, reading) {
    const kinds = ["packed", "not_packed"];
    const series = kinds.map((kind, number) => ({
      values: reading.padding[kind].probability, color: colorOf(number), title: `${strings.probability}, ${strings[kind]}`,
    }));
    const drift = { values: reading.padding.not_packed.drift, color: colorOf(1), dash: "4 3", title: `${strings.drift}, ${strings.not_packed}` };
    series.push(drift);
    lines(panel, { columns: series[0].values.map((_, number) => number), series, name: strings.probability, across: strings.paddings,
      high: Math.ceil(2 * Math.max(1, ...drift.values)) / 2 });
    legend(panel, series.map(({ title, color, dash }) => ({ name: title, color, dash })));
    const table = add(panel, "table"), head = add(table, "tr");
    for (const name of [strings.paddings, strings.packed, strings.not_packed, strings.drift]) add(head, "th", {}, name);
    for (const number of [0, 10, 100]) {
      const answers = kinds.map((kind) => {
        const { label, probability } = reading.padding[kind];
        return `${model.labels[label[number]]}; ${short(probability[number])}`;
      });
      const row = add(table, "tr");
      for (const cell of [number, ...answers, short(drift.values[number])]) add(row, "td", {}, cell);
    }
  },

  pooling(panel, model, reading) {
    const parts = Object.entries(reading.contributions);
    const most = Math.max(...parts.flatMap(([, values]) => values.map(Math.abs))) || 1;
    for (const [part, values] of parts) {
      add(panel, "p", { class: "soft" }, `${strings.poolings[part]}: ${fill(strings.contribution, { label: model.labels[reading.label] })}`);
      const middle = 45, left = 34, total = 2 * middle + 74;
      const step = stepOf(panel, left + 4, values.length, 8), width = left + step * values.length + 4;
      const svg = draw(add(panel, "div", { class: "scroll" }), "svg", {
        width, height: total, viewBox: `0 0 ${width} ${total}`, role: "img", "aria-label": strings.poolings[part],
      });
      draw(svg, "line", { x1: left, x2: width, y1: middle, y2: middle, class: "axis" });
      for (const [y, value] of [[10, most], [2 * middle - 2, -most]]) {
        write(svg, left - 4, y, value.toFixed(1), { "text-anchor": "end", class: "soft-text" });
      }
      for (const [index, value] of values.entries()) {
        const height = (Math.abs(value) / most) * (middle - 4), x = left + step * index;
        const counted = part === "max" && reading.maxima
          ? `; ${fill(strings.maxima, { count: reading.maxima[index], total: reading.states[0].length })}` : "";
        draw(svg, "rect", {
          x, y: value >= 0 ? middle - height : middle, width: 0.8 * step, height: Math.max(height, 0.5), "data-part": part,
          style: `fill: rgb(var(${value >= 0 ? "--for" : "--against"}))`,
        }, `“${reading.words[index]}”: ${short(value)}${counted}`);
        writeWord(svg, x + 0.4 * step, 2 * middle + 12, reading.words[index], step);
      }
    }
    const sum = parts.reduce((total, [, values]) => total + values.reduce((one, two) => one + two), reading.bias);
    add(panel, "p", { class: "sentence" }, fill(strings.sum_of_parts, { sum: short(sum), label: model.labels[reading.label] }));
  },

  neighbours(panel, model) {
    if (!model.neighbours) return strings.reasons[model.has_other_labels ? "other_labels" : "no_training_split"];
    const list = add(panel, "ol");
    for (const { text, label, cosine } of model.neighbours[chosen.text]) {
      const item = add(list, "li", {}, `${cut(text, 200)} `);
      add(item, "span", { class: "soft" }, `${label}, ${strings.cosine} ${short(cosine)}`);
    }
  },
};

/** The only view that is not of a model. */
function drawPacking(panels) {
  for (const [index, { rows, data: entries, batch_sizes: sizes }] of data.packing.entries()) {
    const panel = add(panels, "div", { tabindex: 0, role: "group", "aria-label": index ? strings.packed_texts : strings.packed_example });
    const step = chosen.steps[index], before = sizes.slice(0, step).reduce((sum, size) => sum + size, 0);
    add(panel, "h3", {}, index ? strings.packed_texts : strings.packed_example);
    const controls = add(panel, "div", { class: "controls" });
    const move = (by, selector) => {
      const next = step + by;
      if (next < 0 || next >= sizes.length) return;
      chosen.steps[index] = next;
      drawView("packing");
      const drawn = document.querySelectorAll("#view-packing .panels > div")[index];
      ((selector && drawn.querySelector(selector)) ?? drawn).focus();
    };
    for (const [by, name] of [[-1, strings.previous], [1, strings.next]]) {
      const button = add(controls, "button", { type: "button", "data-by": by }, name);
      button.disabled = step + by < 0 || step + by >= sizes.length;
      button.addEventListener("click", () => move(by, `[data-by="${by}"]:enabled`));
    }
    add(controls, "span", { class: "soft", role: "status" }, fill(strings.time_step, { step: step + 1, total: sizes.length, count: sizes[step] }));
    const grid = add(panel, "div", { class: "scroll" });
    for (const row of rows) {
      const cells = add(grid, "div", { class: "cells" });
      for (const [time, entry] of row.entries()) {
        add(cells, "span", { class: time === step ? "now" : time < step ? "done" : "", title: entry }, entry);
      }
    }
    add(panel, "p", { class: "soft" }, strings.packed_order);
    const packed = add(panel, "div", { class: "cells data" });
    for (const [place, entry] of entries.entries()) {
      const isNow = place >= before && place < before + sizes[step];
      add(packed, "span", { class: isNow ? "now" : place < before ? "done" : "", title: entry }, entry);
    }
    add(panel, "p", { class: "soft" }, `${strings.batch_sizes}: ${sizes.join(", ")}`);
    panel.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      move(by);
    });
  }
}

function describe(model) {
  const units = fill(strings[model.bidirectional ? "num_units_each_way" : "num_units"], { count: model.hidden_size });
  return [strings.cells[model.cell], units, ...model.poolings.map((name) => strings.poolings[name])].join(", ");
}

/** Draws one view of one model. */
function drawModel(id, index) {
  const model = data.models[index], body = document.querySelector(`#view-${id} [data-index="${index}"] .body`);
  body.replaceChildren();
  const reason = views[id](body, model, model.readings[chosen.text], index);
  if (reason) add(body, "p", { class: "soft reason" }, reason);
}

function drawView(id) {
  const panels = document.querySelector(`#view-${id} .panels`);
  if (id === "packing") {
    panels.replaceChildren();
    drawPacking(panels);
  } else for (const index of data.models.keys()) drawModel(id, index);
}

const page = document.getElementById("page");
const header = add(page, "header");
add(header, "h1", {}, strings.title);
add(header, "p", {}, strings.introduction);
for (const model of data.models) {
  const measured = model.accuracy === null ? ""
    : `; ${fill(strings.accuracy, { num_texts: model.num_test_texts.toLocaleString(strings.language), percent: percent(model.accuracy) })}`;
  add(header, "p", { class: "soft" }, `${model.name}: ${describe(model)}${measured}`);
}
const controls = add(header, "div", { class: "controls" });
add(controls, "label", { for: "text" }, strings.choose_text);
const select = add(controls, "select", { id: "text" });
for (const [index, text] of data.texts.entries()) add(select, "option", { value: index }, text);
select.addEventListener("change", () => {
  chosen.text = Number(select.value);
  chosen.word = null;
  for (const { id } of strings.views) drawView(id);
});
for (const view of strings.views) {
  const section = add(page, "section", { id: `view-${view.id}`, class: "card" });
  add(section, "h2", {}, view.title);
  add(section, "p", {}, view.look);
  add(section, "p", {}, view.shows);
  const panels = add(section, "div", { class: "panels" });
  add(section, "p", { class: "soft" }, view.source);
  for (const [index, model] of view.id === "packing" ? [] : data.models.entries()) {
    const panel = add(panels, "div", { "data-index": index });
    add(panel, "h3", {}, model.name);
    if (WITH_UNIT.includes(view.id) && (view.id === "unit" || Object.keys(model.readings[0].gates).length)) {
      slider(panel, model, index);
    }
    add(panel, "div", { class: "body" });
  }
  drawView(view.id);
}
/** The unit that changes most in the first text. */
function liveliestUnit({ readings: [{ states }] }) {
  const ranges = states[0].map((_, unit) => {
    const values = states.map((row) => row[unit]);
    return Math.max(...values) - Math.min(...values);
  });
  return argmax(ranges);
}

for (const [index, model] of data.models.entries()) chooseUnit(index, liveliestUnit(model));
document.body.dataset.drawn = "true";
