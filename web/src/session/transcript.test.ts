import { describe, expect, it } from "vitest";
import type { Event } from "../api/types";
import { apply, EMPTY, type ItemOf, nest, type Transcript } from "./transcript";

const TIME = "2026-01-02T03:04:05Z";

type Body = Omit<Event, "session" | "seq" | "time">;

/** Events with rising numbers. */
function log(...bodies: (Body & { seq?: number })[]): Event[] {
  return bodies.map(
    (body, at) => ({ session: "ses_1", time: TIME, turn: 1, seq: at + 1, ...body }) as Event,
  );
}

const delta = (message: string, text: string) => ({ type: "message.delta", message, text }) as Body;
const whole = (message: string, text: string) =>
  ({ type: "message.completed", message, text }) as Body;
const started = (prompt: string) =>
  ({
    type: "turn.started",
    prompt,
    mode: "queue",
    content: [{ type: "text", text: "do it" }],
  }) as Body;
const ended = (outcome = "completed") => ({ type: "turn.completed", outcome, millis: 5 }) as Body;
const state = (to: string) => ({ type: "session.state", state: to }) as Body;

const texts = (transcript: Transcript) =>
  transcript.items.flatMap((item) => (item.kind === "message" ? [item.text] : []));

describe("messages", () => {
  it("grow by their deltas and are replaced by the whole", () => {
    const events = log(delta("a", "Hel"), delta("a", "lo"), whole("a", "Hello!"));
    const half = apply(EMPTY, events.slice(0, 2));
    expect(texts(half)).toEqual(["Hello"]);
    expect(texts(apply(half, events.slice(2)))).toEqual(["Hello!"]);
  });

  it("are the same without the deltas that the server dropped", () => {
    const events = log(started("p"), delta("a", "x"), delta("a", "y"), whole("a", "xy"), ended());
    const dropped = events.filter((event) => event.type !== "message.delta");
    expect(apply(EMPTY, dropped)).toEqual(apply(EMPTY, events));
  });

  it("keep the place where they began", () => {
    const events = log(delta("a", "1"), delta("b", "2"), whole("a", "one"), whole("b", "two"));
    expect(texts(apply(EMPTY, events))).toEqual(["one", "two"]);
  });

  it("ignore a delta after the whole", () => {
    expect(texts(apply(EMPTY, log(whole("a", "all"), delta("a", "late"))))).toEqual(["all"]);
  });
});

describe("requests that wait for a person", () => {
  const asked = {
    type: "egress.asked",
    ask: "ask_1",
    host: "api.example",
    port: 443,
    method: "GET",
    path: "/x",
    rule: "ask first",
    deadline: TIME,
  } as Body;

  it("are one item, with what came of them", () => {
    const answered = {
      type: "egress.answered",
      ask: "ask_1",
      state: "allowed",
      answer: "ten_minutes",
      by: "Owner",
    } as Body;
    const { items } = apply(EMPTY, log(asked, answered));
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      kind: "request",
      id: "ask_1",
      outcome: "allowed",
      answer: "ten_minutes",
      by: "Owner",
    });
  });

  it("wait until then", () => {
    expect(apply(EMPTY, log(asked)).items[0]).toMatchObject({ kind: "request", path: "/x" });
    expect(apply(EMPTY, log(asked)).items[0]).not.toHaveProperty("answer", "once");
  });
});

describe("replays and gaps", () => {
  const events = log(started("p"), delta("a", "x"), delta("a", "y"), state("waiting"), ended());

  it("count nothing twice", () => {
    const once = apply(EMPTY, events);
    expect(apply(once, events)).toBe(once);
    expect(apply(apply(EMPTY, events.slice(0, 3)), events)).toEqual(once);
  });

  it("may come in any pieces", () => {
    const once = apply(EMPTY, events);
    for (let cut = 0; cut <= events.length; cut += 1) {
      const pieces = apply(apply(EMPTY, events.slice(0, cut)), events.slice(cut));
      expect(pieces).toEqual(once);
    }
  });

  it("leave what they are given as it was", () => {
    const before = apply(EMPTY, events.slice(0, 2));
    const copy = structuredClone(before);
    apply(before, events);
    expect(before).toEqual(copy);
  });

  it("take numbers with gaps", () => {
    const [first, second] = log(started("p"), ended());
    const out = apply(EMPTY, [{ ...first, seq: 7 } as Event, { ...second, seq: 90 } as Event]);
    expect(out.last).toBe(90);
    expect(out.items).toHaveLength(2);
  });
});

describe("tools", () => {
  const tool = (type: string, rest: object) => ({ type, tool: "t", ...rest }) as Body;
  const of = (transcript: Transcript) => transcript.items[0] as ItemOf<"tool">;

  it("take set fields, append output, and end whole", () => {
    const events = log(
      tool("tool.started", { kind: "execute", title: "ls" }),
      tool("tool.updated", { output: "a\n" }),
      tool("tool.updated", { output: "b\n", title: "ls -l" }),
      tool("tool.completed", { status: "completed", output: "a\nb\nc\n", exit_code: 0 }),
    );
    const half = of(apply(EMPTY, events.slice(0, 3)));
    expect(half).toMatchObject({
      status: "running",
      call: { kind: "execute", title: "ls -l", output: "a\nb\n" },
    });
    const out = apply(EMPTY, events);
    expect(out.items).toHaveLength(1);
    expect(of(out)).toMatchObject({ status: "completed", exitCode: 0 });
    expect(of(out).call.output).toBe("a\nb\nc\n");
  });

  it("are cancelled by the end of their turn", () => {
    const out = apply(EMPTY, log(tool("tool.started", {}), ended("cancelled")));
    expect(of(out).status).toBe("cancelled");
  });

  it("of another turn go on", () => {
    const [first, second] = log(tool("tool.started", {}), ended());
    const out = apply(EMPTY, [{ ...first, turn: 2 } as Event, second as Event]);
    expect(of(out).status).toBe("running");
  });
});

describe("what a person must answer", () => {
  it("a permission is asked once and resolved in place", () => {
    const out = apply(
      EMPTY,
      log(
        {
          type: "permission.requested",
          permission: "prm_1",
          title: "rm x",
          options: [{ id: "y", name: "Yes", kind: "allow_once" }],
          deadline: TIME,
        } as Body,
        state("waiting"),
        {
          type: "permission.resolved",
          permission: "prm_1",
          outcome: "allowed",
          option: "y",
          by: "Owner",
        } as Body,
      ),
    );
    expect(out.items).toHaveLength(1);
    expect(out.items[0]).toMatchObject({ kind: "permission", outcome: "allowed", by: "Owner" });
    expect(out.state).toBe("waiting");
  });

  it("a question without an answer is over all the same", () => {
    const asked = {
      type: "question.asked",
      question: "que_1",
      text: "Which?",
      options: [],
      deadline: TIME,
    } as Body;
    const answered = { type: "question.answered", question: "que_1" } as Body;
    expect(apply(EMPTY, log(asked, answered)).items[0]).toMatchObject({
      answered: true,
      answer: undefined,
    });
  });
});

it("replaces the plan, and keeps checkpoints out of sight", () => {
  const plan = (text: string) => ({ type: "plan", entries: [{ text, status: "pending" }] }) as Body;
  const commit = (kind: string) =>
    ({ type: "git.commit", commit: `${kind}1`, kind, subject: "x" }) as Body;
  const out = apply(EMPTY, log(plan("a"), plan("b"), commit("checkpoint"), commit("agent")));
  expect(out.plan.map((entry) => entry.text)).toEqual(["b"]);
  expect(out.items.map((item) => item.key)).toEqual(["commit:agent1"]);
});

it("passes over an event that it does not know", () => {
  const out = apply(EMPTY, log({ type: "weather.changed" } as unknown as Body, state("idle")));
  expect(out).toMatchObject({ last: 2, state: "idle", items: [] });
});

describe("sub-agents", () => {
  const call = (tool: string, parent?: string) =>
    ({ type: "tool.started", tool, parent, title: tool }) as Body;
  const tools = (...bodies: Body[]) => nest(apply(EMPTY, log(...bodies)).items);
  const names = (items: Transcript["items"] = []) =>
    items.flatMap((item) => (item.kind === "tool" ? [item.call.tool] : []));

  it("have their calls below their own, in order and at any depth", () => {
    const { top, below } = tools(
      call("a"),
      call("b", "a"),
      call("c"),
      call("d", "b"),
      call("e", "a"),
    );
    expect(names(top)).toEqual(["a", "c"]);
    expect(names(below.get("a"))).toEqual(["b", "e"]);
    expect(names(below.get("b"))).toEqual(["d"]);
  });

  it("may be named by a later event", () => {
    const ended = { type: "tool.completed", tool: "b", parent: "a", status: "completed" } as Body;
    const { top, below } = tools(call("a"), call("b"), ended);
    expect(names(top)).toEqual(["a"]);
    expect(names(below.get("a"))).toEqual(["b"]);
  });

  it("lose no call to a parent that is not there, or to a circle", () => {
    const { top, below } = tools(call("a", "gone"), call("b", "c"), call("c", "b"), call("d", "d"));
    expect(names(top)).toEqual(["a", "b", "c", "d"]);
    expect(below.size).toBe(0);
  });
});
