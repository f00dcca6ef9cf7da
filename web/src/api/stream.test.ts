import { afterEach, expect, it, vi } from "vitest";
import type { Problem } from "./client";
import { type Connection, type Entry, FrameReader, follow } from "./stream";

const frame = (seq: number) => `id: ${seq}\ndata: {"seq":${seq}}\n\n`;
const END = "event: end\ndata: {}\n\n";

function answer(...pieces: string[]): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
      controller.close();
    },
  });
  return new Response(body, { status: 200 });
}

afterEach(() => vi.unstubAllGlobals());

async function collect(after: number | null, answers: (Response | Error)[]) {
  const asked: string[] = [];
  const seen: number[] = [];
  const states: Connection[] = [];
  let failure: Problem | null = null;
  vi.stubGlobal("fetch", (path: string) => {
    asked.push(path);
    const next = answers.shift();
    // The page is looked at again at once: no test waits for a back-off.
    queueMicrotask(() => setTimeout(() => document.dispatchEvent(new Event("visibilitychange"))));
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
  });
  const wake = setInterval(() => document.dispatchEvent(new Event("visibilitychange")), 1);
  await follow<Entry>(
    "/log",
    after,
    {
      onEntries: (entries) => seen.push(...entries.map((entry) => entry.seq)),
      onConnection: (state) => states.push(state),
      onFailure: (problem) => {
        failure = problem;
      },
    },
    new AbortController().signal,
  );
  clearInterval(wake);
  return { asked, seen, states, failure: failure as Problem | null };
}

it("cuts frames wherever the pieces end", () => {
  const text = `retry: 1000\n\n: hello\n\n${frame(1)}id: 2\r\ndata: {"seq":2}\r\n\r\n${END}`;
  const all = new FrameReader().push(text);
  expect(all.map((one) => one.event)).toEqual(["message", "message", "end"]);
  for (let cut = 0; cut <= text.length; cut += 1) {
    const reader = new FrameReader();
    // Between the two halves of a line's end there is no cut: TCP may, our server writes whole frames.
    if (text[cut - 1] === "\r") continue;
    expect([...reader.push(text.slice(0, cut)), ...reader.push(text.slice(cut))]).toEqual(all);
  }
});

it("goes on after the last entry when the connection is cut, and counts none twice", async () => {
  const out = await collect(3, [
    answer(frame(4), frame(5)),
    new Error("cut"),
    answer(frame(5) + frame(9), END),
  ]);
  expect(out.asked).toEqual(["/log?after=3", "/log?after=5", "/log?after=5"]);
  expect(out.seen).toEqual([4, 5, 9]);
  expect(out.states.at(-1)).toBe("ended");
  expect(out.states).toContain("lost");
});

it("stops where another try can't help", async () => {
  const body = JSON.stringify({ type: "/problems/not-found", title: "No such thing", status: 404 });
  const out = await collect(null, [new Response(body, { status: 404 })]);
  expect(out.asked).toEqual(["/log"]);
  expect(out.failure?.message).toBe("No such thing");
});
