/**
 * Logs that are followed live.
 *
 * `read` is one life of a connection; `follow` is the loop around it, which goes on after the last
 * entry that it has seen and backs off. The server sends a comment at least every 15 s, so that a
 * connection without a byte for longer than `SILENCE` is taken for dead.
 */
import { openStream, Problem } from "./client";

/** Three of the server's signs of life, in milliseconds. */
const SILENCE = 45_000;

/** The longest pause before another try, in milliseconds. */
const PAUSE_MAX = 15_000;

export interface Entry {
  seq: number;
}

export type Connection = "connecting" | "live" | "lost" | "ended";

export interface Follower<T extends Entry> {
  /** Entries that came together, in order, none of them twice. */
  onEntries(entries: T[]): void;
  onConnection(state: Connection): void;
  /** The server ended it because what one may do has changed; another try shows what is left. */
  onClosed?(): void;
  /** What no further try can mend: not signed in, no such thing. */
  onFailure(problem: Problem): void;
}

interface Frame {
  event: string;
  data: string;
}

/** Cuts text that comes in pieces into frames. */
export class FrameReader {
  #rest = "";

  push(text: string): Frame[] {
    const parts = (this.#rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.#rest = parts.pop() ?? "";
    return parts.map(frameOf).filter((frame) => frame !== null);
  }
}

function frameOf(text: string): Frame | null {
  let event = "message";
  const data: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    else if (line.startsWith("event:")) event = line.slice(6).trim();
  }
  return data.length > 0 || event !== "message" ? { event, data: data.join("\n") } : null;
}

/**
 * Follows until `signal`; answers when there is nothing more to come. Begins after the entry
 * `after`, or, with none, with what is new.
 */
export async function follow<T extends Entry>(
  path: string,
  after: number | null,
  to: Follower<T>,
  signal: AbortSignal,
): Promise<void> {
  let last = after;
  let failures = 0;
  while (!signal.aborted) {
    to.onConnection(failures === 0 ? "connecting" : "lost");
    try {
      const ended = await read<T>(
        last === null ? path : `${path}?after=${last}`,
        signal,
        to.onClosed,
        (entries) => {
          failures = 0;
          to.onConnection("live");
          const fresh = entries.filter((entry) => entry.seq > (last ?? -1));
          last = fresh.at(-1)?.seq ?? last;
          if (fresh.length > 0) to.onEntries(fresh);
        },
      );
      if (ended) return to.onConnection("ended");
    } catch (cause) {
      if (signal.aborted) return;
      const hopeless = cause instanceof Problem && [401, 403, 404].includes(cause.status);
      if (hopeless) return to.onFailure(cause);
    }
    failures += 1;
    await pause(Math.min(PAUSE_MAX, 250 * 2 ** failures) * (0.5 + Math.random() / 2), signal);
  }
}

/** One connection; true if the log is complete. */
async function read<T>(
  path: string,
  signal: AbortSignal,
  onClosed: (() => void) | undefined,
  onEntries: (entries: T[]) => void,
): Promise<boolean> {
  const life = new AbortController();
  let watchdog = setTimeout(() => life.abort(), SILENCE);
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => life.abort(), SILENCE);
  };
  try {
    const response = await openStream(path, AbortSignal.any([signal, life.signal]));
    onEntries([]);
    const frames = new FrameReader();
    const decoder = new TextDecoder();
    const reader = response.body?.getReader();
    for (;;) {
      const piece = await reader?.read();
      if (!piece || piece.done) return false;
      alive();
      const entries: T[] = [];
      let ended = false;
      for (const frame of frames.push(decoder.decode(piece.value, { stream: true }))) {
        if (frame.event === "message") entries.push(JSON.parse(frame.data) as T);
        else if (frame.event === "end") ended = true;
        else if (frame.event === "closed") onClosed?.();
      }
      if (entries.length > 0) onEntries(entries);
      if (ended) return true;
    }
  } finally {
    clearTimeout(watchdog);
    life.abort();
  }
}

/** Waits; less when the browser is online again or the page is looked at again. */
function pause(millis: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      removeEventListener("online", done);
      document.removeEventListener("visibilitychange", done);
      resolve();
    };
    const timer = setTimeout(done, millis);
    signal.addEventListener("abort", done);
    addEventListener("online", done);
    document.addEventListener("visibilitychange", done);
  });
}
