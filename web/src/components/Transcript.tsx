import { memo, useMemo } from "react";
import { type Item, type ItemOf, nest } from "../session/transcript";
import { Note, type Tone } from "../ui/controls";
import { Prose } from "../ui/Prose";
import { duration } from "../util/format";
import { files } from "../util/paths";
import { Permission, Question } from "./Answers";
import { Tool } from "./Tool";

const LEVELS: Record<string, Tone> = { info: "quiet", warning: "warn", error: "bad" };
const ENDS: Record<string, [Tone, string]> = {
  completed: ["quiet", "Turn done"],
  cancelled: ["quiet", "Stopped"],
  refused: ["warn", "The agent refused to go on"],
  failed: ["bad", "The turn failed"],
  runner_lost: ["bad", "The process that ran the agent was lost; the next prompt resumes"],
  limit_reached: ["warn", "A limit was reached"],
};

/** Everything that was said and done, in order. */
export function Transcript({ session, items }: { session: string; items: Item[] }) {
  const { top, below } = useMemo(() => nest(items), [items]);
  return (
    <ol role="log" aria-live="off" aria-label="Transcript" className="grid min-w-0 gap-3">
      {top.map((item) => (
        <li key={item.key} className="min-w-0">
          {item.kind === "tool" && below.has(item.call.tool) ? (
            <Nested item={item} below={below} />
          ) : (
            <Entry session={session} item={item} />
          )}
        </li>
      ))}
    </ol>
  );
}

/** A sub-agent's call with what it did. */
function Nested({ item, below }: { item: ItemOf<"tool">; below: Map<string, Item[]> }) {
  const steps = (below.get(item.call.tool) ?? []).filter((one) => one.kind === "tool");
  if (steps.length === 0) return <Tool item={item} />;
  return (
    <Tool item={item} steps={steps.length}>
      <ol aria-label="Steps of the sub-agent" className="grid min-w-0 gap-2">
        {steps.map((one) => (
          <li key={one.key} className="min-w-0">
            <Nested item={one} below={below} />
          </li>
        ))}
      </ol>
    </Tool>
  );
}

const Entry = memo(function Entry({ session, item }: { session: string; item: Item }) {
  switch (item.kind) {
    case "prompt":
      return <Said item={item} />;
    case "message":
      return (
        <article className="px-1 py-1">
          <Prose text={item.text} />
          {item.blob && (
            <a href={files.blob(item.blob)} className="text-sm text-accent underline">
              The whole message
            </a>
          )}
        </article>
      );
    case "thought":
      return (
        <details className="px-1 text-sm text-soft">
          <summary className="text-faint">{item.done ? "Thought" : "Thinking…"}</summary>
          <div className="mt-2 border-l-2 border-line pl-3">
            <Prose text={item.text} />
          </div>
        </details>
      );
    case "tool":
      return <Tool item={item} />;
    case "permission":
      return <Permission session={session} item={item} />;
    case "question":
      return <Question session={session} item={item} />;
    case "blocked":
      return (
        <Note tone="warn">
          A request to {item.host}:{item.port} was refused ({item.rule}).
        </Note>
      );
    case "request":
      return <Held item={item} />;
    case "commit":
      return (
        <p className="px-1 text-xs text-faint">
          Commit <code className="font-mono">{item.commit.slice(0, 10)}</code> {item.subject}
        </p>
      );
    case "notice":
      return item.level === "info" ? (
        <p className="px-1 text-xs text-faint">{item.text}</p>
      ) : (
        <Note tone={LEVELS[item.level] ?? "quiet"}>{item.text}</Note>
      );
    case "turn-end": {
      const [tone, word] = ENDS[item.outcome] ?? ["quiet", item.outcome];
      if (item.error || tone !== "quiet") {
        return (
          <Note tone={tone}>
            {word} after {duration(item.millis)}.{item.error && ` ${item.error}`}
          </Note>
        );
      }
      return (
        <p className="flex items-center gap-3 text-xs text-faint before:h-px before:flex-1 before:bg-line after:h-px after:flex-1 after:bg-line">
          {word}, {duration(item.millis)}
        </p>
      );
    }
  }
});

const ANSWERS: Record<string, string> = {
  once: "allowed this time",
  ten_minutes: "allowed for ten minutes",
  workspace: "allowed in this workspace from now on",
  repository: "allowed for this repository from now on",
  no: "refused this time",
  never: "refused in this workspace from now on",
};
const ENDED: Record<string, string> = {
  expired: "refused, since nobody answered in time",
  withdrawn: "withdrawn: what asked is gone",
};

/** A request that waits for a person, or waited. */
function Held({ item }: { item: ItemOf<"request"> }) {
  const { host, port, method, path, program, credential } = item;
  const what = method ? `${method} ${host}:${port}${path ?? ""}` : `${host}:${port}`;
  const more = [program && `by ${program}`, credential && `with ${credential}`].filter(Boolean);
  const named = (
    <>
      <code className="font-mono break-all">{what}</code>
      {more.length > 0 && ` (${more.join(", ")})`}
    </>
  );
  if (item.outcome) {
    const end = ANSWERS[item.answer ?? ""] ?? ENDED[item.outcome] ?? item.outcome;
    return (
      <p className="rounded-lg border border-line px-3 py-2 text-sm text-soft">
        The request {named} was {end}
        {item.by && ` by ${item.by}`}.
      </p>
    );
  }
  return (
    <Note tone="warn">
      A request waits for a person: {named}. Rule: {item.rule}. Answer with{" "}
      <code className="font-mono">boatyard egress answer {item.id} once</code>; no answer by{" "}
      {new Date(item.deadline).toLocaleString()} is a no.
    </Note>
  );
}

const MODES = { queue: "", steer: "steered into the turn", interrupt: "interrupted the turn" };

function Said({ item }: { item: ItemOf<"prompt"> }) {
  return (
    <article
      aria-label="Prompt"
      className="ml-auto w-fit max-w-[85%] rounded-xl bg-accent-wash px-4 py-2.5 text-[0.9375rem]"
    >
      {item.content.map((part, at) =>
        part.type === "text" ? (
          // biome-ignore lint/suspicious/noArrayIndexKey: a prompt does not change
          <p key={at} className="max-h-96 overflow-y-auto whitespace-pre-wrap">
            {part.text}
          </p>
        ) : (
          <img
            key={part.blob}
            src={files.blob(part.blob)}
            alt="Part of the prompt"
            className="mt-2 max-h-60 rounded-lg"
          />
        ),
      )}
      {(MODES[item.mode] || item.author) && (
        <p className="mt-1 text-xs text-faint">
          {[item.author, MODES[item.mode]].filter(Boolean).join(", ")}
        </p>
      )}
    </article>
  );
}
