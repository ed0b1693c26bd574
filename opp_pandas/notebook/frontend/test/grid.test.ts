import { afterEach, beforeEach, expect, test } from "vitest";
import entry from "../src/entries/editor";
import type { Column, Row, State } from "../src/messages";
import { column, FakePython, state } from "./fake-python";
import schema from "./messages.schema.json";

const COLUMNS = ["name", "amount", "stage"];
const rows: Row[] = [
  { row: 0, cells: ["<b>Acme</b>", "1250000", "Won"] },
  { row: 1, cells: ["Bolt", { text: "7", was: null }, "Won"] },
  { row: 2, cells: [null, { text: "3", problem: "conflict" }, "Won"], lock: "read-only" },
];
let python: FakePython;
let close: () => void;
let el: HTMLElement;
const cell = (row: number, place: number) => el.querySelector(`.opp-row[data-index="${row}"] [data-place="${place}"]`) as HTMLElement;
const press = (key: string, options: KeyboardEventInit = {}, on: Element = el.querySelector(".opp-table") as Element) =>
  on.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...options }));
const settled = () => new Promise((done) => setTimeout(done, 5));
const last = () => python.asked.at(-1);

beforeEach(async () => {
  const choosing = column("stage", { choosing: "one", kind: "relation", strict: true });
  python = new FakePython(
    { fields: [column("name"), column("amount", { kind: "integer" }), choosing], state: state({ columns: COLUMNS }), panel: {} },
    {
      rows: () => ({ start: 0, columns: COLUMNS, view: 0, version: 0, rows: structuredClone(rows) }),
      edit: ({ cells }) =>
        cells[0].text === "abc" ? { objections: [{ ...cells[0], reason: "no number", index: 0 }], said: "refused" } : { said: "set" },
      choices: () => ({ choices: ["Won"], more: 0 }),
      undo: () => ({ said: "undone", index: 1, column: "amount" }),
      redo: () => ({ said: "nothing", index: -1 }),
      add: () => ({ index: 2 }),
      paste: ({ range }) => ({ said: "2 refused", objections: [0, 1].map((row) => ({ row, column: range.columns[0], text: "x", reason: "no", index: row })) }),
      copy: () => ({ text: "1\t2", said: "copied" }),
      code: () => ({ text: "df", said: "copied" }),
      ...Object.fromEntries(["clear", "empty", "fill", "revert", "delete", "sort", "filter", "columns"].map((name) => [name, () => ({ said: name })])),
    },
  );
  el = document.createElement("div");
  document.body.replaceChildren(el);
  Object.defineProperty(HTMLElement.prototype, "clientHeight", { configurable: true, value: 300 });
  close = entry.render({ model: python, el });
  await settled();
});
afterEach(() => {
  close();
  expect(python.heard).toBe(0);
  expect(python.faults).toEqual([]);
});

test("texts are shown as they are, digits in groups, missing as a dash, marks in words", () => {
  expect([cell(0, 0), cell(0, 1), cell(2, 0)].map((each) => each.textContent)).toEqual(["<b>Acme</b>", "1\u202f250\u202f000", "—"]);
  expect(el.querySelector("b b, .opp-cell b")).toBeNull();
  expect(cell(1, 1).getAttribute("aria-description")).toBe("changed, was missing");
  expect(cell(2, 1).getAttribute("aria-invalid")).toBe("true");
  expect(cell(2, 1).getAttribute("aria-readonly")).toBe("true");
});

test("a typed text is sent as it is, and a refusal leaves the cell and says why", async () => {
  press("ArrowRight");
  press("a");
  const input = el.querySelector(".opp-input") as HTMLInputElement;
  input.value = "abc";
  press("Enter", {}, input);
  expect(last()).toMatchObject({ do: "edit", cells: [{ row: 0, column: "amount", text: "abc" }] });
  await settled();
  expect(el.querySelector(".opp-reason")?.textContent).toBe("no number");
  expect(cell(0, 1).textContent).toBe("1\u202f250\u202f000");
  press("Escape", {}, el.querySelector(".opp-input") as Element);
  expect(el.querySelector(".opp-input")).toBeNull();
});

test("without an answer a cell keeps what it held, and says that it was not saved", async () => {
  python.send = () => undefined;
  press("ArrowRight");
  press("5");
  press("Enter", {}, el.querySelector(".opp-input") as Element);
  expect(cell(0, 1).textContent).toBe("5");
  expect(cell(0, 1).classList.contains("opp-sending")).toBe(true);
  await new Promise((done) => setTimeout(done, 80));
  expect(cell(0, 1).textContent).toBe("1\u202f250\u202f000");
  expect(el.querySelector(".opp-alarm")?.textContent).toContain("not saved: no answer from Python");
});

test("a locked row is not edited", () => {
  press("ArrowDown");
  press("ArrowDown");
  press("x");
  expect(el.querySelector(".opp-input")).toBeNull();
  expect(el.querySelector(".opp-alarm")?.textContent).toBe("read-only");
});

test("several refused cells are listed, and lead to where they are", async () => {
  const paste = new Event("paste", { bubbles: true, cancelable: true });
  Object.assign(paste, { clipboardData: { getData: () => "x\nx" } });
  cell(0, 1).dispatchEvent(paste);
  await settled();
  const listed = el.querySelectorAll(".opp-refused li");
  expect(listed.length).toBe(2);
  (listed[1].querySelector("button") as HTMLElement).click();
  expect(el.querySelector(".opp-active")).toBe(cell(1, 0));
});

// What is above the list of a workspace asks for, see workspace.test.ts.
const ABOVE = ["look", "list", "figures", "predict"];

test("every request of the schema is asked by a key or a button, and fits it", async () => {
  const button = (words: string) => ([...el.querySelectorAll("button")].find((each) => each.textContent === words) as HTMLElement).click();
  press("5");
  press("Enter", {}, el.querySelector(".opp-input") as Element);
  press("End");
  press("F2");
  press("Escape", {}, el.querySelector(".opp-input") as Element);
  python.set("state", state({ columns: COLUMNS, undo: true, redo: true, pending: { cells: 1, rows: 1, new: 0, deleted: 0, words: "1 cell" } }));
  for (const kind of ["copy", "paste"]) cell(0, 0).dispatchEvent(Object.assign(new Event(kind, { bubbles: true }), { clipboardData: { getData: () => "x" } }));
  press("Delete");
  press("Delete", { shiftKey: true });
  press("Backspace", { ctrlKey: true });
  press("d", { ctrlKey: true });
  press("z", { ctrlKey: true });
  press("y", { ctrlKey: true });
  press("ArrowUp", { ctrlKey: true });
  press("ArrowUp");
  press("Enter");
  for (const words of ["Changed only", "Add deal", "Delete deals", "Copy code", "Columns", "Review changes"]) button(words);
  (el.querySelector(".opp-choices input[value=stage]") as HTMLInputElement).click();
  await settled();
  python.set("panel", { plan: "f", rows: 1 });
  button("Send 1 row");
  python.set("panel", { sending: true, rows: 1 });
  button("Stop");
  python.set("panel", { conflicts: [{ id: 1, column: "a", deal: "1", loaded: "", mine: "", theirs: "", follows: "", choice: "", changed: "" }] });
  button("All theirs");
  button("Close");
  const asked = new Set<string>([...python.asked.map((message) => message.do), ...ABOVE]);
  expect(Object.keys(schema.requests).filter((name) => !asked.has(name))).toEqual([]);
});

test("names that come while somebody types leave the text and its cell alone", async () => {
  press("ArrowRight");
  press("4");
  const input = el.querySelector(".opp-input") as HTMLInputElement;
  input.value = "42";
  const joined = ["name", "next", "amount", "stage"];
  python.told.rows = () => ({ start: 0, columns: joined, view: 1, version: 1, rows: rows.map((row) => ({ ...row, cells: [row.cells[0], "", ...row.cells.slice(1)] })) });
  const fields = python.traits.fields as Column[];
  python.set("fields", [...fields, column("next")]);
  python.say({ to: last()?.id, start: 0, columns: COLUMNS, view: 1, version: 1, rows: structuredClone(rows) });
  python.set("state", state({ columns: joined, view: 1, version: 1 }));
  await settled();
  expect(document.activeElement).toBe(input);
  expect(el.querySelector(".opp-input")).toBe(input);
  expect((input.parentElement as HTMLElement).style.left).toBe(`${64 + 220 + 170}px`);
  press("Enter", {}, input);
  expect(last()).toMatchObject({ do: "edit", cells: [{ row: 0, column: "amount", text: "42" }] });
  expect(el.querySelector(".opp-active")).toBe(cell(1, 2));
});

test("keys that are pressed while all rows are fetched anew are typed into the cell that has the focus", async () => {
  press("ArrowRight");
  const { rows: answer } = python.told;
  python.told.rows = undefined;
  python.set("fields", [...(python.traits.fields as Column[])]);
  expect(document.activeElement).toBe(cell(0, 1));
  for (const key of ["4", "2", "Enter", "7"]) press(key);
  python.told.rows = (message) => ({ ...answer?.(message), version: 1 });
  python.set("state", state({ columns: COLUMNS, version: 1 }));
  await settled();
  expect(python.asked.filter((message) => message.do === "edit")).toMatchObject([{ cells: [{ row: 0, column: "amount", text: "42" }] }]);
  expect((el.querySelector(".opp-input") as HTMLInputElement).value).toBe("7");
  expect(el.querySelector(".opp-active")).toBe(cell(1, 1));
});

test("a text that is refused while rows are ordered anew can be gone on with, or stays listed", async () => {
  const refuse = async (shown: Row[]) => {
    press("5");
    const input = el.querySelector(".opp-input") as HTMLInputElement;
    input.value = "abc";
    press("Enter", {}, input);
    const view = (python.traits.state as State).view + 1;
    python.told.rows = () => ({ start: 0, columns: COLUMNS, view, version: view, rows: structuredClone(shown) });
    python.set("state", state({ columns: COLUMNS, view, version: view, count: shown.length }));
    await settled();
  };
  press("ArrowRight");
  await refuse([rows[1], rows[0], rows[2]]);
  expect((el.querySelector(".opp-input") as HTMLInputElement).value).toBe("abc");
  expect(el.querySelector(".opp-active")).toBe(cell(1, 1));
  press("Escape", {}, el.querySelector(".opp-input") as Element);
  await refuse([rows[1]]);
  expect(el.querySelector(".opp-refused")?.textContent).toContain("abc: no number");
});
