import { useEffect, useReducer, useState } from "react";
import type { Problem } from "../api/client";
import { type Connection, follow } from "../api/stream";
import type { Event } from "../api/types";
import { apply, EMPTY, type Transcript } from "../session/transcript";

type Action = { events: Event[] } | "reset";

function reduce(transcript: Transcript, action: Action): Transcript {
  return action === "reset" ? EMPTY : apply(transcript, action.events);
}

/** A session's transcript, live. Entries are applied once for each frame that is painted. */
export function useSessionEvents(session: string | undefined): {
  transcript: Transcript;
  connection: Connection;
  failure: Problem | null;
} {
  const [transcript, dispatch] = useReducer(reduce, EMPTY);
  const [connection, setConnection] = useState<Connection>("connecting");
  const [failure, setFailure] = useState<Problem | null>(null);

  useEffect(() => {
    dispatch("reset");
    setFailure(null);
    if (!session) return;
    const life = new AbortController();
    let waiting: Event[] = [];
    let frame = 0;
    const flush = () => {
      frame = 0;
      const events = waiting;
      waiting = [];
      dispatch({ events });
    };
    void follow<Event>(
      `/api/sessions/${session}/events`,
      0,
      {
        onEntries(events) {
          waiting.push(...events);
          // A tab that is not seen paints no frames.
          if (document.hidden) flush();
          else if (frame === 0) frame = requestAnimationFrame(flush);
        },
        onConnection: setConnection,
        onFailure: setFailure,
      },
      life.signal,
    );
    return () => {
      life.abort();
      cancelAnimationFrame(frame);
    };
  }, [session]);

  return { transcript, connection, failure };
}
