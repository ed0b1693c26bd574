import { make } from "../core/dom";

export interface Telling {
  title: string;
  lines: [name: string, value: string][];
}

/** The box beside a number that says it exactly: for the pointer and for the keyboard's focus. */
export class Tip {
  readonly element = make("div", { class: "opp-tip", "aria-hidden": "true" });

  constructor() {
    this.element.hidden = true;
  }

  /** Let an element tell more of itself; what is told is for eyes, listeners have its label. */
  over(element: HTMLElement | SVGElement, tell: () => Telling): void {
    element.addEventListener("pointerenter", () => this.show(element, tell()));
    element.addEventListener("focus", () => {
      if (element.matches(":focus-visible")) this.show(element, tell());
    });
    for (const name of ["pointerleave", "blur"]) element.addEventListener(name, () => this.hide());
  }

  hide(): void {
    this.element.hidden = true;
  }

  private show(target: Element, telling: Telling): void {
    const lines = telling.lines.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
    this.element.replaceChildren(make("b", {}, telling.title), make("dl", {}, ...lines));
    this.element.hidden = false;
    const frame = this.element.offsetParent?.getBoundingClientRect();
    if (!frame) return;
    const box = target.getBoundingClientRect();
    const [width, height] = [this.element.offsetWidth, this.element.offsetHeight];
    const left = Math.min(Math.max(box.left + box.width / 2 - width / 2, frame.left + 4), frame.right - width - 4);
    const above = box.top - height - 8;
    const top = above > Math.max(frame.top, 0) ? above : box.bottom + 8;
    this.element.style.left = `${Math.max(left - frame.left, 0)}px`;
    this.element.style.top = `${top - frame.top}px`;
  }
}

/** Let one of several elements be reached by Tab and the others by arrow keys. */
export function rove(elements: (HTMLElement | SVGElement)[], keys: [back: string, on: string]): void {
  elements.forEach((element, place) => {
    element.setAttribute("tabindex", place ? "-1" : "0");
    element.addEventListener("keydown", (event) => {
      const key = (event as KeyboardEvent).key;
      const step = key === keys[0] ? -1 : key === keys[1] ? 1 : key === "Home" ? -place : key === "End" ? elements.length : 0;
      if (!step) return;
      event.preventDefault();
      const next = elements[Math.min(Math.max(place + step, 0), elements.length - 1)];
      element.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
}
