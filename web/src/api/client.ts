/**
 * The way to the server: the only `fetch` of the page, and the only place where its problems
 * become errors.
 *
 * The browser sends the session's cookie by itself; a change must also carry the proof that
 * `/api/auth/me` gives, which a page of another site can't read.
 */
import createClient, { type Middleware } from "openapi-fetch";
import type { paths } from "./__generated__/schema";
import type { Identity, ProblemBody } from "./types";

const PROOF_HEADER = "X-Boatyard-CSRF";

/** How long a request may take; streams have deadlines of their own. In milliseconds. */
const DEADLINE = 30_000;

/** Why something could not be done, as the server or the browser tells it. */
export class Problem extends Error {
  constructor(readonly body: Partial<ProblemBody> & { status: number; title: string }) {
    super(body.detail || body.title);
  }

  get status(): number {
    return this.body.status;
  }

  /** The part of the request that is at fault. */
  get field(): string | undefined {
    return this.body.field ?? undefined;
  }

  /** What to do about it. */
  get next(): string | undefined {
    return this.body.next ?? undefined;
  }
}

let proof: string | null = null;

/** Remembers what the page needs to prove that a change is its own. */
export function remember(identity: Identity | null): void {
  proof = identity?.csrf ?? null;
}

const proving: Middleware = {
  onRequest({ request }) {
    if (request.method !== "GET" && proof) request.headers.set(PROOF_HEADER, proof);
  },
};

function send(request: Request): Promise<Response> {
  return fetch(
    new Request(request, {
      signal: AbortSignal.any([request.signal, AbortSignal.timeout(DEADLINE)]),
    }),
  );
}

export const api = createClient<paths>({
  baseUrl: globalThis.location?.origin ?? "",
  fetch: send,
});
api.use(proving);

/** What came back, or the problem as an error. */
export async function unwrap<T>(
  answer: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  const { data, error, response } = await answer.catch((cause: unknown) => {
    throw unreachable(cause);
  });
  if (!response.ok) throw problemOf(response, error);
  return data as T;
}

/** A stream of Server-Sent Events; ends with the signal. */
export async function openStream(path: string, signal: AbortSignal): Promise<Response> {
  const response = await fetch(path, { headers: { Accept: "text/event-stream" }, signal });
  if (!response.ok) throw problemOf(response, await response.json().catch(() => undefined));
  return response;
}

function problemOf(response: Response, body: unknown): Problem {
  if (body && typeof body === "object" && "title" in body) {
    return new Problem(body as ProblemBody);
  }
  return new Problem({ status: response.status, title: `The server answered ${response.status}` });
}

function unreachable(cause: unknown): Problem {
  const late = cause instanceof DOMException && cause.name === "TimeoutError";
  return new Problem({
    status: 0,
    title: late ? "The server did not answer in time" : "The server can't be reached",
    next: "Check that `boatyard up` runs, then try again.",
  });
}
