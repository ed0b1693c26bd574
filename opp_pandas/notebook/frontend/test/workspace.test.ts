import { afterEach, beforeEach, expect, test } from "vitest";
import type { Card, Picture } from "../src/messages";
import { change, exact, short, words } from "../src/workspace/numbers";
import { Workspace } from "../src/workspace/workspace";
import { column, FakePython, state } from "./fake-python";

const pick = { figure: "forecast", column: "won_amount", label: "2026Q4", title: "Won" };
const card: Card = { title: "Won", value: 1_240_000, kind: "money", note: "2 deals", before: 1_000_000, pick };
const picture = (given: Partial<Picture> = {}): Picture => ({
  version: 0, as_of: "2026-10-20", currency: "USD", period: "2026Q4", shown: 3, total: 3, cards: [card], notes: [],
  chosen: { owners: [], stages: [], period: "", since: "", pick: null, picked: 3 },
  options: { owners: ["Ann", "Sam"], teams: { East: ["Sam"] }, stages: ["Lead"], periods: ["2026Q4", "2027Q1"], since: [] },
  outlook: { state: "computing", title: "Predicted", period: "2026Q4", period_now: "2026Q4" },
  charts: [
    {
      figure: "stage_distribution", title: "Open pipeline by stage", form: "bars", kind: "money", summary: "1 stage",
      series: [{ column: "weighted_amount", title: "open, weighted", tone: "open" }, { column: "amount", title: "open, in all", tone: "rest" }],
      bars: [{ label: "Lead", values: [1000, 4000], before: [500, 2000], count: 2 }],
    },
  ],
  ...given,
});
let python: FakePython;
let workspace: Workspace;
let el: HTMLElement;
const settled = (ms = 0) => new Promise((settle) => setTimeout(settle, ms));
const find = (selector: string) => el.querySelector(selector) as HTMLElement;

beforeEach(() => {
  el = document.createElement("div");
  document.body.append(el);
  python = new FakePython(
    { fields: [column("name"), column("amount")], state: state(), panel: {}, picture: picture() },
    {
      look: () => ({ picture: picture({ shown: 1, total: 3 }) }),
      list: (message) => ({ picture: picture({ chosen: { ...picture().chosen, pick: message.pick, picked: 1 } }) }),
      figures: () => ({ picture: picture() }),
      predict: () => ({ outlook: { ...picture().outlook, state: "ready", mean: 2_000_000, low: 1_000_000, high: 3_000_000 } }),
    },
  );
  workspace = new Workspace(python, el);
});
afterEach(() => {
  workspace.close();
  el.remove();
});

test("a number or a bar that is clicked lists its deals, and the chip lists all again", async () => {
  find(".opp-card").click();
  await settled();
  expect(python.asked.at(-1)).toMatchObject({ do: "list", pick });
  expect(find(".opp-chip").textContent).toContain("1 deal ");
  find(".opp-barrow").click();
  await settled();
  expect(python.asked.at(-1)).toMatchObject({ do: "list", pick: { figure: "stage_distribution", column: "amount", label: "Lead" } });
  find(".opp-chip").click();
  await settled();
  expect(python.asked.at(-1)).toMatchObject({ do: "list", pick: null });
});

test("filters ask for other deals, edits for the numbers, and the prediction is fetched when it is there", async () => {
  (find("[aria-label=Teams] input") as HTMLInputElement).click();
  await settled();
  expect(python.asked.at(-1)).toMatchObject({ do: "look", owners: ["Sam"] });
  (find("[aria-label=Owners] input") as HTMLInputElement).click();
  await settled();
  expect(python.asked.at(-1)).toMatchObject({ do: "look", owners: ["Ann"], stages: [], period: "" });
  expect(el.textContent).toContain("1 of 3 deals");
  python.set("state", state({ version: 1, pending: { cells: 1, rows: 1, new: 0, deleted: 0, words: "1 cell" } }));
  await settled(20);
  expect(python.asked.map((message) => message.do)).toContain("figures");
  await settled(400);
  expect(find(".opp-big").textContent).toBe("2\u202fM");
  expect(el.textContent).toContain("80% between 1\u202fM and 3\u202fM");
});

test("every chart has a table whose numbers list their deals", async () => {
  find(".opp-chart .opp-link").click();
  const button = find(".opp-chart tbody td button");
  expect(button.textContent).toBe("1,000");
  expect(find(".opp-chart tbody td").textContent).toContain("was 500");
  button.click();
  await settled();
  expect(python.asked.at(-1)).toMatchObject({ do: "list", pick: { column: "weighted_amount", label: "Lead" } });
});

test("what edits moved is said beside the number, exactly for those who listen", () => {
  expect(find(".opp-delta").textContent).toBe("▲ +240\u202fk by edits");
  expect(find(".opp-card").getAttribute("aria-label")).toContain("1,240,000 USD, before the edits 1,000,000 USD");
});

test("without an editor, the deals are listed to be read, and what Python chooses is shown", () => {
  const listed = { columns: ["name", "amount"], rows: [["<b>Acme</b>", "1,200"]], more: 2 };
  const board = new FakePython({ fields: [], state: {}, panel: {}, picture: picture({ listed }) });
  const place = document.createElement("div");
  const dashboard = new Workspace(board, place);
  expect(place.querySelector(".opp-listed tbody")?.textContent).toBe("<b>Acme</b>1,200");
  expect(place.textContent).toContain("And 2 deals more");
  expect(place.querySelector("[role=grid]")).toBeNull();
  board.set("picture", picture({ listed: { ...listed, rows: [], more: 0 } }));
  expect(place.textContent).toContain("No deal.");
  dashboard.close();
  expect(board.heard).toBe(0);
});

test("nothing is listened to any more once it is closed", () => {
  workspace.close();
  expect(python.heard).toBe(0);
});

test.each([
  [999.4, "999"], [999_600, "1\u202fM"], [1_240_000, "1.24\u202fM"], [-31_400, "−31.4\u202fk"], [0, "0"], [null, "—"], [123_456_789, "123\u202fM"],
])("%s is written as people say it", (value, text) => {
  expect(short(value)).toBe(text);
});

test("percent, ratios and changes have their own words", () => {
  expect([short(0.304, "percent"), short(1.4912, "ratio"), short(12, "count")]).toEqual(["30%", "1.49×", "12"]);
  expect([exact(1236374.36, "money", "USD"), exact(null, "money", "USD")]).toEqual(["1,236,374.36 USD", "missing"]);
  expect([change(0.5, 0.3, "percent"), change(1, 3, "count")]).toEqual(["+20 points", "−2"]);
  expect([words("pushed_out"), words("Ana Ito (id 12)")]).toEqual(["pushed out", "Ana Ito (id\u00a012)"]);
});
