import { useEffect, useState } from "react";
import { client, identity } from "../api/queries";
import { type Connection, follow } from "../api/stream";
import type { FeedEvent } from "../api/types";

/** Keeps what was read current by the organization's feed. One for each tab. */
export function useFeed(): Connection {
  const [connection, setConnection] = useState<Connection>("connecting");
  useEffect(() => {
    const life = new AbortController();
    let lost = false;
    void follow<FeedEvent>(
      "/api/events",
      null,
      {
        onEntries: freshen,
        onConnection(state) {
          setConnection(state);
          // What changed while nobody listened was not told: read again what is shown.
          if (state === "live" && lost) void client.invalidateQueries();
          lost = state === "lost";
        },
        onClosed() {
          void client.invalidateQueries({ queryKey: identity.queryKey });
        },
        onFailure(problem) {
          if (problem.status === 401) client.setQueryData(identity.queryKey, null);
        },
      },
      life.signal,
    );
    return () => life.abort();
  }, []);
  return connection;
}

/** Each thing is read again once, however many entries are about it. */
function freshen(events: FeedEvent[]): void {
  const stale = new Map<string, string[]>();
  const add = (...key: string[]) => stale.set(key.join(), key);
  for (const event of events) {
    if (event.type === "task.state") {
      add("tasks");
      add("task", event.task);
    } else if (event.type === "session.state") {
      add("session", event.session);
      add("prompts", event.session);
    }
  }
  for (const queryKey of stale.values()) void client.invalidateQueries({ queryKey });
}
