/**
 * What a session's events add up to: the transcript that the page shows.
 *
 * A pure function from transcript and event to transcript. Events upsert by id: deltas append, the
 * completing event replaces the whole; sequence numbers may have gaps (the server drops deltas
 * that a completing event made superfluous), and what was seen before is left out, so that a
 * replay changes nothing. Items keep the place where they first appeared.
 */
import type {
  Content,
  Event,
  NoticeLevel,
  PermissionOption,
  PlanEntry,
  PromptMode,
  SessionState,
  ToolCall,
  ToolStatus,
  Usage,
} from "../api/types";

type Of<T extends Event["type"]> = Extract<Event, { type: T }>;

export interface Base {
  /** Unique in the transcript, and stable. */
  key: string;
  time: string;
  turn: number | null;
}

export type Item = Base &
  (
    | { kind: "prompt"; content: Content[]; mode: PromptMode; author?: string; steered: boolean }
    | { kind: "message"; text: string; done: boolean; blob?: string }
    | { kind: "thought"; text: string; done: boolean }
    | {
        kind: "tool";
        call: ToolCall;
        status: ToolStatus | "running";
        exitCode?: number;
        outputBlob?: string;
      }
    | {
        kind: "permission";
        id: string;
        title: string;
        options: PermissionOption[];
        deadline: string;
        outcome?: string;
        option?: string;
        by?: string;
      }
    | {
        kind: "question";
        id: string;
        text: string;
        options: string[];
        deadline: string;
        answered: boolean;
        answer?: string;
        by?: string;
      }
    | { kind: "blocked"; host: string; port: number; rule: string }
    | {
        kind: "request";
        id: string;
        host: string;
        port: number;
        method?: string;
        path?: string;
        program?: string;
        credential?: string;
        rule: string;
        deadline: string;
        outcome?: string;
        answer?: string;
        by?: string;
      }
    | { kind: "commit"; commit: string; subject: string; why: string }
    | { kind: "notice"; level: NoticeLevel; code: string; text: string }
    | { kind: "turn-end"; outcome: string; error?: string; millis: number }
  );

export type ItemOf<K extends Item["kind"]> = Extract<Item, { kind: K }>;

export interface Transcript {
  items: Item[];
  /** The newest sequence number that is in it. */
  last: number;
  state: SessionState | null;
  reason?: string;
  plan: PlanEntry[];
  usage: Usage | null;
  /** Files that differ, by path. */
  files: Record<string, { change: string; added?: number | null; removed?: number | null }>;
}

export const EMPTY: Transcript = {
  items: [],
  last: 0,
  state: null,
  plan: [],
  usage: null,
  files: {},
};

/** The transcript with these events. */
export function apply(transcript: Transcript, events: readonly Event[]): Transcript {
  const next: Transcript = { ...transcript, items: [...transcript.items] };
  const index = new Map(next.items.map((item, at) => [item.key, at]));
  for (const event of events) {
    if (event.seq <= next.last) continue;
    next.last = event.seq;
    step(next, index, event);
  }
  return next.last === transcript.last ? transcript : next;
}

function step(to: Transcript, index: Map<string, number>, event: Event): void {
  const base = (key: string): Base => ({ key, time: event.time, turn: event.turn ?? null });
  const find = (key: string) => {
    const at = index.get(key);
    return at === undefined ? undefined : to.items[at];
  };
  const put = (item: Item) => {
    const at = index.get(item.key);
    if (at === undefined) index.set(item.key, to.items.push(item) - 1);
    // Its place and time are those of its first appearance.
    else to.items[at] = { ...item, time: to.items[at]?.time ?? item.time };
  };

  switch (event.type) {
    case "turn.started":
    case "turn.steered": {
      const steered = event.type === "turn.steered";
      put({
        ...base(`prompt:${event.prompt}`),
        kind: "prompt",
        content: event.content,
        mode: event.type === "turn.started" ? event.mode : "steer",
        author: (event.type === "turn.started" && event.author) || undefined,
        steered,
      });
      if (!steered) to.state = "running";
      break;
    }
    case "message.delta":
    case "thought.delta": {
      const kind = event.type === "message.delta" ? "message" : "thought";
      const key = `${kind}:${event.type === "message.delta" ? event.message : event.thought}`;
      const old = find(key);
      const known = old && (old.kind === "message" || old.kind === "thought") ? old : undefined;
      // A delta that comes after the whole is in it already.
      if (known?.done) break;
      put({ ...base(key), kind, text: (known?.text ?? "") + event.text, done: false });
      break;
    }
    case "message.completed":
      put({
        ...base(`message:${event.message}`),
        kind: "message",
        text: event.text,
        done: true,
        blob: event.blob ?? undefined,
      });
      break;
    case "thought.completed":
      put({ ...base(`thought:${event.thought}`), kind: "thought", text: event.text, done: true });
      break;
    case "tool.started":
    case "tool.updated":
    case "tool.completed": {
      const old = find(`tool:${event.tool}`);
      const known = old?.kind === "tool" ? old : undefined;
      if (known && known.status !== "running" && event.type !== "tool.completed") break;
      put(toolItem(base(`tool:${event.tool}`), known, event));
      break;
    }
    case "plan":
      to.plan = event.entries;
      break;
    case "permission.requested":
      put({
        ...base(`permission:${event.permission}`),
        kind: "permission",
        id: event.permission,
        title: event.title,
        options: event.options,
        deadline: event.deadline,
      });
      break;
    case "permission.resolved": {
      const old = find(`permission:${event.permission}`);
      if (old?.kind !== "permission") break;
      put({
        ...old,
        outcome: event.outcome,
        option: event.option ?? undefined,
        by: event.by ?? undefined,
      });
      break;
    }
    case "question.asked":
      put({
        ...base(`question:${event.question}`),
        kind: "question",
        id: event.question,
        text: event.text,
        options: event.options,
        deadline: event.deadline,
        answered: false,
      });
      break;
    case "question.answered": {
      const old = find(`question:${event.question}`);
      if (old?.kind !== "question") break;
      put({ ...old, answered: true, answer: event.answer ?? undefined, by: event.by ?? undefined });
      break;
    }
    case "usage":
      to.usage = event;
      break;
    case "file.changed":
      to.files = {
        ...to.files,
        [event.path]: { change: event.change, added: event.added, removed: event.removed },
      };
      break;
    case "git.commit":
      // A checkpoint is beside the branch: of use to fork from, not to read.
      if (event.kind === "checkpoint") break;
      put({
        ...base(`commit:${event.commit}`),
        kind: "commit",
        commit: event.commit,
        subject: event.subject,
        why: event.kind,
      });
      break;
    case "egress.blocked":
      put({
        ...base(`blocked:${event.host}:${event.port}:${event.turn ?? 0}`),
        kind: "blocked",
        host: event.host,
        port: event.port,
        rule: event.rule,
      });
      break;
    case "egress.asked":
      put({
        ...base(`request:${event.ask}`),
        kind: "request",
        id: event.ask,
        host: event.host,
        port: event.port,
        method: event.method ?? undefined,
        path: event.path ?? undefined,
        program: event.program ?? undefined,
        credential: event.credential ?? undefined,
        rule: event.rule,
        deadline: event.deadline,
      });
      break;
    case "egress.answered": {
      const old = find(`request:${event.ask}`);
      if (old?.kind !== "request") break;
      put({
        ...old,
        outcome: event.state,
        answer: event.answer ?? undefined,
        by: event.by ?? undefined,
      });
      break;
    }
    case "turn.completed":
      settle(to, event);
      put({
        ...base(`turn-end:${event.seq}`),
        kind: "turn-end",
        outcome: event.outcome,
        error: event.error ?? undefined,
        millis: event.millis,
      });
      break;
    case "session.state":
      to.state = event.state;
      to.reason = event.reason ?? undefined;
      break;
    case "notice":
      put({
        ...base(`notice:${event.seq}`),
        kind: "notice",
        level: event.level,
        code: event.code,
        text: event.text,
      });
      break;
    default:
      // A newer server's event: it is no use to this page, and no harm.
      break;
  }
}

function toolItem(
  base: Base,
  known: ItemOf<"tool"> | undefined,
  event: Of<"tool.started"> | Of<"tool.updated"> | Of<"tool.completed">,
): Item {
  const call: ToolCall = { ...known?.call, tool: event.tool };
  if (event.parent) call.parent = event.parent;
  if (event.kind) call.kind = event.kind;
  if (event.title) call.title = event.title;
  if (event.input) call.input = event.input;
  if (event.diffs?.length) call.diffs = event.diffs;
  if (event.locations?.length) call.locations = event.locations;
  if (event.images?.length) call.images = event.images;
  if (event.type === "tool.completed") {
    call.output = event.output ?? call.output;
    return {
      ...base,
      kind: "tool",
      call,
      status: event.status,
      exitCode: event.exit_code ?? undefined,
      outputBlob: event.output_blob ?? undefined,
    };
  }
  if (event.output) call.output = (call.output ?? "") + event.output;
  return { ...base, kind: "tool", call, status: "running" };
}

/**
 * The items with what sub-agents did below their calls: those that stand by themselves, and what is
 * below each tool's id. A call whose parent is not here, or that is its own ancestor, stands by itself.
 */
export function nest(items: readonly Item[]): { top: Item[]; below: Map<string, Item[]> } {
  const parents = new Map<string, string | undefined>();
  for (const item of items) {
    if (item.kind === "tool") parents.set(item.call.tool, item.call.parent ?? undefined);
  }
  const hangs = (tool: string): boolean => {
    const seen = new Set<string>();
    let at: string | undefined = tool;
    while (at !== undefined && parents.has(at)) {
      if (seen.has(at)) return false;
      seen.add(at);
      at = parents.get(at);
    }
    return true;
  };
  const top: Item[] = [];
  const below = new Map<string, Item[]>();
  for (const item of items) {
    const parent = item.kind === "tool" ? item.call.parent : undefined;
    if (item.kind !== "tool" || !parent || !parents.has(parent) || !hangs(item.call.tool)) {
      top.push(item);
      continue;
    }
    const there = below.get(parent);
    if (there) there.push(item);
    else below.set(parent, [item]);
  }
  return { top, below };
}

/** At a turn's end nothing of it goes on, whatever the agent forgot to say. */
function settle(to: Transcript, event: Of<"turn.completed">): void {
  to.items = to.items.map((item): Item => {
    if (item.turn !== (event.turn ?? null)) return item;
    if (item.kind === "tool" && item.status === "running") return { ...item, status: "cancelled" };
    if ((item.kind === "message" || item.kind === "thought") && !item.done) {
      return { ...item, done: true };
    }
    return item;
  });
}
