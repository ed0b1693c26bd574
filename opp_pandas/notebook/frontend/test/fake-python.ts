// A stand-in for the kernel: it holds every message against the schema that Python's classes give, and answers as told.
import { Ajv2020 } from "ajv/dist/2020";
import type { Model } from "../src/core/line";
import type { AnswerTo, Column, Request, State } from "../src/messages";
import schema from "./messages.schema.json";

const ajv = new Ajv2020({ strict: false });
const checks = new Map(
  Object.entries(schema.requests).map(([name, requested]) => [name, ajv.compile({ ...requested, $defs: schema.$defs })]),
);

type Told = { [K in Request["do"]]?: (message: Extract<Request, { do: K }>) => Partial<AnswerTo[K]> };

export class FakePython implements Model {
  readonly asked: Request[] = [];
  /** Messages that are not in the schema, and what is wrong with them. */
  readonly faults: string[] = [];
  readonly traits: Record<string, unknown>;
  readonly told: Told;
  private readonly listeners = new Map<string, Set<(...given: unknown[]) => void>>();

  constructor(traits: Record<string, unknown>, told: Told = {}) {
    this.traits = { label: "Editor", height: 300, timeout_s: 0.05, ...traits };
    this.told = told;
  }

  get(name: string): unknown {
    return this.traits[name];
  }

  on(event: string, listener: (...given: never[]) => void): void {
    const known = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, known.add(listener as (...given: unknown[]) => void));
  }

  off(event: string, listener: (...given: never[]) => void): void {
    this.listeners.get(event)?.delete(listener as (...given: unknown[]) => void);
  }

  send(content: object): void {
    const message = content as Request;
    const check = checks.get(message.do);
    if (!check?.(message)) this.faults.push(`${JSON.stringify(message)}: ${ajv.errorsText(check?.errors)}`);
    this.asked.push(message);
    const answer = this.told[message.do] as ((message: Request) => object) | undefined;
    if (answer) queueMicrotask(() => this.say({ ...answer(message), to: message.id }));
  }

  say(answer: object): void {
    for (const listener of this.listeners.get("msg:custom") ?? []) listener(answer);
  }

  set(name: string, value: unknown): void {
    this.traits[name] = value;
    for (const listener of this.listeners.get(`change:${name}`) ?? []) listener();
  }

  /** How many listeners are left. */
  get heard(): number {
    return [...this.listeners.values()].reduce((sum, each) => sum + each.size, 0);
  }
}

export function column(name: string, given: Partial<Column> = {}): Column {
  const title = name[0].toUpperCase() + name.slice(1);
  return { column: name, name, title, meaning: "", kind: "text", locked: "", choosing: "", separator: "", strict: false, ...given };
}

export function state(given: Partial<State> = {}): State {
  return {
    columns: ["name", "amount"],
    count: 3,
    total: 3,
    view: 0,
    version: 0,
    sort: null,
    descending: false,
    filter: "",
    only_changed: false,
    undo: false,
    redo: false,
    pending: { cells: 0, rows: 0, new: 0, deleted: 0, words: "none" },
    busy: "",
    zone: "UTC",
    ...given,
  };
}
