import { expect, test, vi } from "vitest";
import { Line } from "../src/core/line";
import type { AnswerTo, Request } from "../src/messages";
import { FakePython } from "./fake-python";

const line = (python: FakePython, late = vi.fn()) => new Line<Request, AnswerTo>(python, late);

test("an answer comes to the question that it belongs to", async () => {
  const python = new FakePython({}, { sort: ({ column }) => ({ said: `by ${column}` }) });
  const one = line(python);
  const answers = await Promise.all(["name", "amount"].map((column) => one.ask({ do: "sort", column })));
  expect(answers.map((answer) => answer.said)).toEqual(["by name", "by amount"]);
});

test("without an answer the page says so after its time, and what comes late is told apart", async () => {
  const python = new FakePython({});
  const late = vi.fn();
  const answer = await line(python, late).ask({ do: "undo" });
  expect(answer.error).toBe("not saved: no answer from Python for 0.05 s, its kernel is busy or gone");
  python.say({ to: python.asked[0].id, said: "undone" });
  expect(late).toHaveBeenCalledOnce();
  python.say({ to: python.asked[0].id, said: "undone" });
  expect(late).toHaveBeenCalledOnce();
});

test("a host that cannot send is an error at once", async () => {
  const python = new FakePython({});
  python.send = () => {
    throw new Error("the kernel is dead");
  };
  expect((await line(python).ask({ do: "undo" })).error).toBe("not saved: the kernel is dead");
});

test("a closed line hears nothing more", () => {
  const python = new FakePython({});
  line(python).close();
  expect(python.heard).toBe(0);
});
