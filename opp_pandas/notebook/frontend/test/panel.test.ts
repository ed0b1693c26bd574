import { afterEach, beforeEach, expect, test } from "vitest";
import entry from "../src/entries/editor";
import type { Conflict, Panel } from "../src/messages";
import { column, FakePython, state } from "./fake-python";

const conflict: Conflict = { id: 6, column: "next_step", deal: "6 Acme", loaded: "Call", mine: "Mine", theirs: "Theirs", follows: "", choice: "", changed: "by Sam Lee, 2026-10-20 11:00" };
let python: FakePython;
let el: HTMLElement;
const button = (words: string) => [...el.querySelectorAll("button")].find((each) => each.textContent === words) as HTMLButtonElement;
const show = (panel: Panel) => python.set("panel", panel);
const asked = (name: string) => python.asked.filter((message) => message.do === name);

afterEach(() => expect(python.faults).toEqual([]));

beforeEach(() => {
  const pending = { cells: 1, rows: 1, new: 0, deleted: 0, words: "1 cell in 1 deal" };
  python = new FakePython({ fields: [column("name"), column("amount")], state: state({ pending }), panel: {} }, { rows: () => ({}) });
  el = document.createElement("div");
  document.body.replaceChildren(el);
  entry.render({ model: python, el });
});

test("what waits is said, and can be reviewed unless it is being sent or there is nothing", () => {
  expect(el.querySelector(".opp-waits")?.textContent).toBe("1 cell in 1 deal");
  expect(button("Review changes").disabled).toBe(false);
  python.set("state", state({ busy: "being sent" }));
  expect(button("Review changes").disabled).toBe(true);
  python.set("state", state());
  expect(button("Review changes").disabled).toBe(true);
});

test("exactly the plan that is shown is sent", () => {
  show({ plan: "f1", rows: 2, parts: [{ type: "paragraph", text: "<b>2 updated</b>" }] });
  expect(el.querySelector(".opp-panel-body p")?.textContent).toBe("<b>2 updated</b>");
  button("Send 2 rows").click();
  button("Send 2 rows").click();
  expect(asked("send")).toMatchObject([{ plan: "f1", confirm: "" }]);
});

test("a dangerous plan is sent only after its number of rows was typed", () => {
  show({ plan: "f1", rows: 12, must_confirm: true });
  const typed = el.querySelector(".opp-confirm") as HTMLInputElement;
  expect(button("Send 12 rows").disabled).toBe(true);
  for (const [text, disabled] of [["1", true], ["12", false], ["123", true], [" 12 ", false]] as const) {
    typed.value = text;
    typed.dispatchEvent(new Event("input"));
    expect(button("Send 12 rows").disabled).toBe(disabled);
  }
  button("Send 12 rows").click();
  expect(asked("send")).toMatchObject([{ plan: "f1", confirm: " 12 " }]);
});

test("choosing keeps the focus, and cells that follow another are not asked about", () => {
  const conflicts = [conflict, { ...conflict, column: "amount_precise", follows: "amount" }];
  show({ conflicts });
  const picker = el.querySelector("select") as HTMLSelectElement;
  expect(el.querySelectorAll("select").length).toBe(1);
  picker.focus();
  picker.selectedIndex = 2;
  picker.dispatchEvent(new Event("change"));
  expect(asked("decide")).toMatchObject([{ decisions: [{ id: 6, column: "next_step", choice: "theirs" }] }]);
  show({ conflicts: [{ ...conflict, choice: "theirs" }] });
  expect(document.activeElement).toBe(el.querySelector("select"));
  button("Review with these choices").focus();
  show({ conflicts: [{ ...conflict, choice: "theirs" }] });
  expect(document.activeElement).toBe(button("Review with these choices"));
  button("All mine").click();
  expect(asked("decide").length).toBe(2);
});

test("after a review the focus is on no button, so that a second Enter sends nothing", () => {
  show({ conflicts: [conflict] });
  button("Review with these choices").focus();
  show({ plan: "f1", rows: 1 });
  expect(document.activeElement).toBe(el.querySelector(".opp-panel-body"));
});

test("sending shows how far it is, and can be stopped", () => {
  show({ sending: true, done: 3, rows: 1200 });
  expect(el.querySelector("progress")?.value).toBe(3);
  expect(el.querySelector(".opp-panel-body")?.textContent).toContain("3 of 1,200 rows");
  button("Stop").click();
  expect(asked("stop").length).toBe(1);
  expect(button("Close")).toBeUndefined();
});
