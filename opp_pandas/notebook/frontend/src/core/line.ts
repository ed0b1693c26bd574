import type { Answer } from "../messages";

/** What a host gives a widget: traits by name, and messages both ways. */
export interface Model {
  get(name: string): unknown;
  on(event: string, listener: (...given: never[]) => void): void;
  off(event: string, listener: (...given: never[]) => void): void;
  send(content: object): void;
}

/** Questions to Python: each ends with its answer, or after some seconds with the reason why there is none. */
export class Line<Q extends { do: string }, A extends Record<Q["do"], Answer>> {
  private readonly model: Model;
  private readonly waiting = new Map<string, (answer: Answer) => void>();
  private readonly givenUp = new Set<string>();
  private readonly prefix = Math.random().toString(36).slice(2);
  private count = 0;
  private readonly listen: (answer: Answer) => void;

  constructor(model: Model, onLate: (answer: Answer) => void) {
    this.model = model;
    this.listen = (answer) => {
      const settle = this.waiting.get(answer.to ?? "");
      if (settle) settle(answer);
      else if (this.givenUp.delete(answer.to ?? "")) onLate(answer);
    };
    model.on("msg:custom", this.listen);
  }

  /** Ask, with so many times the usual patience; the answer is never an exception: where there is none, its `error` says why. */
  ask<K extends Q["do"]>(message: Extract<Q, { do: K }>, patience = 1): Promise<Partial<A[K]> & Answer> {
    const id = `${this.prefix}${++this.count}`;
    const seconds = patience * (this.model.get("timeout_s") as number);
    return new Promise((settle) => {
      const end = (answer: Answer) => {
        clearTimeout(timer);
        this.waiting.delete(id);
        settle(answer as Partial<A[K]> & Answer);
      };
      const giveUp = () => {
        this.givenUp.add(id);
        end({ error: `not saved: no answer from Python for ${seconds} s, its kernel is busy or gone` });
      };
      const timer = setTimeout(giveUp, 1000 * seconds);
      this.waiting.set(id, end);
      try {
        this.model.send({ ...message, id });
      } catch (problem) {
        end({ error: `not saved: ${String(problem instanceof Error ? problem.message : problem)}` });
      }
    });
  }

  close(): void {
    this.model.off("msg:custom", this.listen);
  }
}

