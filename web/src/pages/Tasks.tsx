import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useEffect } from "react";
import { OVER, tasks } from "../api/queries";
import type { TaskSummary } from "../api/types";
import { NewTask } from "../components/NewTask";
import { State } from "../components/State";
import { useNow } from "../hooks/useNow";
import { Card, Failure } from "../ui/controls";
import { ago, duration, shortSource } from "../util/format";
import { paths } from "../util/paths";

/** All tasks, those that need somebody first. */
export function Tasks() {
  const asked = useQuery(tasks);
  const items = asked.data?.items ?? [];
  const needed = items.filter((task) => task.state === "waiting");
  const others = items.filter((task) => task.state !== "waiting");
  useEffect(() => {
    document.title = needed.length > 0 ? `(${needed.length}) Boatyard` : "Boatyard";
  }, [needed.length]);
  return (
    <div className="grid gap-6">
      <h1 className="sr-only">Tasks</h1>
      <NewTask />
      {asked.isError && <Failure cause={asked.error} />}
      {asked.isPending && <p className="text-sm text-faint">Reading the tasks…</p>}
      {asked.isSuccess && items.length === 0 && <Empty />}
      <List title="Needs you" items={needed} />
      <List title="Tasks" items={others} />
    </div>
  );
}

function List({ title, items }: { title: string; items: TaskSummary[] }) {
  const now = useNow(items.some((task) => !OVER.includes(task.state)));
  if (items.length === 0) return null;
  return (
    <section aria-label={title} className="grid gap-2">
      <h2 className="text-sm font-medium text-soft">{title}</h2>
      <Card className="overflow-hidden">
        <ul className="divide-y divide-line">
          {items.map((task) => (
            <li key={task.id}>
              <Link
                to={paths.task(task.id)}
                className="flex flex-wrap items-center gap-x-4 gap-y-1 px-4 py-3 hover:bg-sunken"
              >
                <span className="w-full min-w-0 sm:w-auto sm:flex-1">
                  <span className="line-clamp-2 font-medium">{task.title}</span>
                  <span className="block text-xs text-faint">
                    {shortSource(task.repository)} · {task.agent}
                    {task.attempts > 1 && ` · ${task.attempts} attempts`}
                  </span>
                </span>
                <span
                  className="ml-auto whitespace-nowrap text-xs tabular-nums text-faint"
                  title={task.created}
                >
                  {when(task, now)}
                </span>
                <State state={task.state} />
              </Link>
            </li>
          ))}
        </ul>
      </Card>
    </section>
  );
}

function when(task: TaskSummary, now: number): string {
  if (!task.started) return ago(task.created, now);
  const end = task.ended ? Date.parse(task.ended) : now;
  const took = duration(Math.max(0, end - Date.parse(task.started)));
  return task.ended ? `${took}, ${ago(task.ended, now)}` : took;
}

function Empty() {
  return (
    <Card className="grid gap-3 p-6 text-sm">
      <h2 className="font-semibold">No tasks yet</h2>
      <p className="text-soft">
        Say above what is to be done, or order it from the command line, in any git repository:
      </p>
      <pre className="whitespace-pre-wrap rounded-lg bg-sunken px-3 py-2 font-mono text-xs">
        boatyard run "make hello.txt with a greeting in it" --repo .
      </pre>
      <p className="text-soft">It shows up here at once, and can be followed and steered live.</p>
    </Card>
  );
}
