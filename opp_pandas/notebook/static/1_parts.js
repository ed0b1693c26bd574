// The editor's grid is one ES module, made of the files of this folder in the order of their names.
// Values cross as text, null where they are missing. Nothing that comes from data is ever parsed as HTML:
// every text is set as text.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  lock: "M4 7V5a4 4 0 0 1 8 0v2h1v7H3V7zm2 0h4V5a2 2 0 0 0-4 0z",
  calendar: "M2 3h2V1h2v2h4V1h2v2h2v12H2zm2 4v6h8V7z",
};

/** Make an element: attributes by name, children as elements or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/** Set an attribute, or take it away where the value is empty or null; nothing is touched that stands already. */
function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === "") element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("opp-icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[name]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

/** A cell's text, whether it came bare or with marks. */
const textOf = (cell) => (cell !== null && typeof cell === "object" ? cell.text : cell);
const marksOf = (cell) => (cell !== null && typeof cell === "object" ? cell : {});

/** How a text is shown: digits in groups of three, line breaks as a sign. */
function shownText(text, field) {
  if (text === null || text === undefined) return "—";
  if (text === "") return "“”";
  if (field.kind === "integer" && !/(^|_)id$/.test(field.name)) return text.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return text.replace(/\r\n|\r|\n/g, " ↵ ");
}

/** How a text is named for people who listen. */
const spokenText = (text) => (text === null || text === undefined ? "missing" : text === "" ? "empty text" : text);

/** Questions to Python: each ends with its answer, or after some seconds with the reason why there is none. */
class Line {
  constructor(model, onLate) {
    this.model = model;
    this.waiting = new Map();
    this.givenUp = new Set();
    this.prefix = Math.random().toString(36).slice(2);
    this.count = 0;
    this.listen = (answer) => {
      const settle = this.waiting.get(answer.to);
      if (settle) settle(answer);
      else if (this.givenUp.delete(answer.to)) onLate(answer);
    };
    model.on("msg:custom", this.listen);
  }

  ask(message) {
    const id = `${this.prefix}${++this.count}`;
    const seconds = this.model.get("timeout_s");
    return new Promise((settle) => {
      const end = (answer) => {
        clearTimeout(timer);
        this.waiting.delete(id);
        settle(answer);
      };
      const giveUp = () => {
        this.givenUp.add(id);
        end({ error: `not saved: no answer from Python for ${seconds} s, its kernel is busy or gone`, lost: true });
      };
      const timer = setTimeout(giveUp, 1000 * seconds);
      this.waiting.set(id, end);
      try {
        this.model.send({ ...message, id });
      } catch (problem) {
        end({ error: `not saved: ${problem.message}`, lost: true });
      }
    });
  }

  close() {
    this.model.off("msg:custom", this.listen);
  }
}

/** The rows that were fetched, by where they stand. */
class Rows {
  constructor() {
    this.clear();
  }

  clear() {
    this.known = new Map();
    this.view = -1;
    this.version = -1;
    this.columns = "";
  }

  get(index) {
    return this.known.get(index);
  }

  /** Whether these rows are here as they are now. */
  covers(from, to, state) {
    if (this.version !== state.version || this.columns !== state.columns.join("\n")) return false;
    for (let index = from; index < to; index++) if (!this.known.has(index)) return false;
    return true;
  }

  take(answer) {
    const columns = answer.columns.join("\n");
    if (this.view !== answer.view || this.version !== answer.version || this.columns !== columns) this.known = new Map();
    [this.view, this.version, this.columns] = [answer.view, answer.version, columns];
    answer.rows.forEach((row, place) => this.known.set(answer.from + place, row));
  }
}

/** Whether what stands behind an element is dark. */
function isDark(element) {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  for (let node = element; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if (!color || color === "transparent" || /, 0\)$/.test(color)) continue;
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
  }
  return window.matchMedia("(prefers-color-scheme: dark)").matches;
}
