import { useEffect, useLayoutEffect, useRef, useState } from "react";
import { client } from "../api/queries";
import type { SessionState } from "../api/types";
import { useSessionEvents } from "../hooks/useSessionEvents";
import { Button, Card, Failure } from "../ui/controls";
import { short } from "../util/format";
import { Composer } from "./Composer";
import { Plan } from "./Plan";
import { Transcript } from "./Transcript";

/** So near to its end, in pixels, the reader is taken to follow it. */
const NEAR = 64;

/** Events after which what the server told about the task may be old. */
const STALE = ["prompt", "turn-end", "notice"];

/** When what followed from an event is stored at the latest, as a rule, in milliseconds. */
const SETTLED = 1500;

const WORDS: Partial<Record<SessionState, string>> = {
  running: "The agent works.",
  waiting: "The agent waits for you.",
  idle: "The agent is done.",
  ended: "The session is over.",
};

/** One session, live: its plan, its transcript, and the means to talk to it. */
export function Live({
  session,
  state: known,
  task,
}: {
  session: string;
  state?: SessionState;
  task?: string;
}) {
  const { transcript, connection, failure } = useSessionEvents(session);
  const state = transcript.state ?? known ?? "starting";
  const { atEnd, fresh, jump } = useFollowing(transcript.last);

  // A prompt that was delivered leaves the queue; a turn's end, and then a notice, bring a result.
  const marks = transcript.items.filter((item) => STALE.includes(item.kind)).length;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `marks` is what makes it stale
  useEffect(() => {
    const again = () => {
      void client.invalidateQueries({ queryKey: ["prompts", session] });
      void client.invalidateQueries({ queryKey: ["session", session] });
      if (task) void client.invalidateQueries({ queryKey: ["task", task] });
    };
    again();
    // The notice may be here before what it is about is stored.
    const later = setTimeout(again, SETTLED);
    return () => clearTimeout(later);
  }, [marks, session, task]);

  // A task's page shows the phases, with their times, above.
  const items = transcript.items.filter(
    (item) => !task || item.kind !== "notice" || item.code !== "phase",
  );

  if (failure) return <Failure cause={failure} />;
  return (
    <div className="grid min-w-0 gap-4">
      <p role="status" className="sr-only">
        {WORDS[state]}
      </p>
      {connection === "lost" && (
        <p role="status" className="text-sm text-warn">
          The connection was lost; trying again. Nothing is missed.
        </p>
      )}
      <Plan entries={transcript.plan} />
      {transcript.items.length > 0 ? (
        <Transcript session={session} items={items} />
      ) : (
        <p className="text-sm text-faint">
          {connection === "live" ? "Nothing was said yet." : "Reading the transcript…"}
        </p>
      )}
      {transcript.usage && <Used usage={transcript.usage} />}
      {!atEnd && (
        <Button className="sticky bottom-4 z-10 mx-auto rounded-full shadow-lg" onClick={jump}>
          {fresh ? "↓ There is more" : "↓ To the end"}
        </Button>
      )}
      <Card className="p-4">
        <Composer session={session} state={state} />
      </Card>
    </div>
  );
}

function Used({
  usage,
}: {
  usage: { input_tokens?: number; output_tokens?: number; cost_usd?: number | null };
}) {
  const tokens = (usage.input_tokens ?? 0) + (usage.output_tokens ?? 0);
  if (tokens === 0 && !usage.cost_usd) return null;
  return (
    <p className="text-xs tabular-nums text-faint">
      {short(usage.input_tokens ?? 0)} tokens in, {short(usage.output_tokens ?? 0)} out
      {usage.cost_usd != null && `, $${usage.cost_usd.toFixed(2)}`}
    </p>
  );
}

/** The page follows what comes only while the reader is at its end. */
function useFollowing(last: number): { atEnd: boolean; fresh: boolean; jump(): void } {
  const [atEnd, setAtEnd] = useState(true);
  const [seen, setSeen] = useState(0);
  const following = useRef(true);
  const jump = () => scrollTo({ top: document.documentElement.scrollHeight });

  useEffect(() => {
    const look = () => {
      const { scrollHeight } = document.documentElement;
      following.current = scrollY + innerHeight >= scrollHeight - NEAR;
      setAtEnd(following.current);
    };
    addEventListener("scroll", look, { passive: true });
    return () => removeEventListener("scroll", look);
  }, []);
  useLayoutEffect(() => {
    if (following.current && last > 0) {
      scrollTo({ top: document.documentElement.scrollHeight });
      setSeen(last);
    }
  }, [last]);
  return { atEnd, fresh: last > seen, jump };
}
