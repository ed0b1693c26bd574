// Elements, made without ever parsing data as HTML: every text is set as text.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES: Record<"lock" | "calendar", string> = {
  lock: "M4 7V5a4 4 0 0 1 8 0v2h1v7H3V7zm2 0h4V5a2 2 0 0 0-4 0z",
  calendar: "M2 3h2V1h2v2h4V1h2v2h2v12H2zm2 4v6h8V7z",
};

type Value = string | number | boolean | null | undefined;

/** Make an element: attributes by name, children as elements or texts. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, Value> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/** Set an attribute, or take it away where the value is empty or null; nothing is touched that stands already. */
export function setAttribute(element: Element, name: string, value: Value): void {
  if (value === null || value === undefined || value === "") element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** Move an absolutely placed element so that it does not reach beyond another one on the left or right. */
export function keepInside(element: HTMLElement, bounds: HTMLElement): void {
  element.style.maxWidth = `${Math.min(380, bounds.clientWidth - 8)}px`;
  const [box, room] = [element.getBoundingClientRect(), bounds.getBoundingClientRect()];
  const beyond = Math.min(Math.max(box.right - room.right + 4, 0), Math.max(box.left - room.left, 0));
  if (beyond > 0) element.style.left = `${-beyond}px`;
}

/** Make a shape of a drawing: attributes by name, children as shapes or texts. */
export function makeShape<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Record<string, Value> = {},
  ...children: (Node | string)[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/** Draw a small sign. */
export function icon(name: keyof typeof SHAPES): SVGSVGElement {
  const path = makeShape("path", { d: SHAPES[name], "fill-rule": "evenodd" });
  return makeShape("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", class: "opp-icon" }, path);
}
