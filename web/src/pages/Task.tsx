import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { cancelTask, client, OVER, task as taskQuery } from "../api/queries";
import type { Attempt, Task as TaskType } from "../api/types";
import { AgentBar } from "../components/AgentBar";
import { Attempts } from "../components/Attempts";
import { Live } from "../components/Live";
import { Phases } from "../components/Phases";
import { Result } from "../components/Result";
import { State } from "../components/State";
import { useNow } from "../hooks/useNow";
import { Button, Failure, Note } from "../ui/controls";
import { duration, shortRevision, shortSource } from "../util/format";
import { paths } from "../util/paths";

/** One task, live: what was ordered, how far it is, what came of it. */
export function Task() {
  const { id } = useParams({ from: "/app/tasks/$id" });
  const asked = useQuery(taskQuery(id));
  if (asked.isPending) return <p className="text-sm text-faint">Reading the task…</p>;
  if (asked.isError) return <Failure cause={asked.error} />;
  return <Shown key={id} task={asked.data} />;
}

function Shown({ task }: { task: TaskType }) {
  const [chosen, setChosen] = useState<number | null>(null);
  const over = OVER.includes(task.state);
  const first = over ? task.best : task.attempts.at(-1)?.n;
  const attempt = task.attempts.find((one) => one.n === (chosen ?? first)) ?? task.attempts.at(-1);
  const now = useNow(!over);
  const cancel = useMutation({
    mutationFn: () => cancelTask(task.id),
    onSuccess: (next) => client.setQueryData(taskQuery(task.id).queryKey, next),
  });
  useEffect(() => {
    document.title = `${task.title} · Boatyard`;
  }, [task.title]);

  const took = task.started
    ? duration(Math.max(0, (task.ended ? Date.parse(task.ended) : now) - Date.parse(task.started)))
    : null;
  return (
    <div className="grid min-w-0 gap-5">
      <div className="grid gap-2">
        <Link to={paths.tasks()} className="w-fit rounded text-sm text-soft hover:text-ink">
          ← Tasks
        </Link>
        <div className="flex flex-wrap items-start gap-3">
          <h1 className="line-clamp-3 min-w-0 flex-1 text-xl font-semibold">{task.title}</h1>
          <State state={task.state} />
          {!over && (
            <Button look="bad" disabled={cancel.isPending} onClick={() => cancel.mutate()}>
              {cancel.isPending ? "Cancelling…" : "Cancel task"}
            </Button>
          )}
        </div>
        <p className="text-sm text-faint">
          {shortSource(task.repository.source)}
          {task.base && ` at ${shortRevision(task.base)}`} · {task.agent}
          {task.model && ` (${task.model})`}
          {took && ` · ${took}`}
        </p>
        {cancel.isError && <Failure cause={cancel.error} />}
      </div>
      {task.attempts.length > 1 && (
        <Attempts task={task} shown={attempt?.n ?? 1} now={now} onShow={setChosen} />
      )}
      {attempt && <Try key={attempt.id} task={task} attempt={attempt} />}
    </div>
  );
}

function Try({ task, attempt }: { task: TaskType; attempt: Attempt }) {
  const over = OVER.includes(attempt.state);
  return (
    <div className="grid min-w-0 gap-5">
      <Phases phases={attempt.phases} running={!over} />
      {attempt.reason && (
        <Note tone={attempt.state === "failed" ? "bad" : "warn"}>{attempt.reason.text}</Note>
      )}
      {attempt.result && <Result result={attempt.result} attempts={task.attempts.length} />}
      {attempt.session ? (
        <>
          <AgentBar id={attempt.session} />
          <Live session={attempt.session} task={task.id} />
        </>
      ) : (
        <article aria-label="Prompt" className="rounded-xl bg-accent-wash px-4 py-3">
          <p className="whitespace-pre-wrap">{task.prompt}</p>
          {!over && (
            <p className="mt-2 text-xs text-faint">
              {attempt.state === "queued"
                ? "Waits for a free place."
                : "Its workspace is being made."}
            </p>
          )}
        </article>
      )}
    </div>
  );
}
