import { useMutation } from "@tanstack/react-query";
import { client, pushAttempt, task as taskQuery } from "../api/queries";
import type { TaskResult } from "../api/types";
import { Button, Card, Failure } from "../ui/controls";
import { Prose } from "../ui/Prose";
import { count } from "../util/format";
import { files } from "../util/paths";
import { CheckOutput } from "./Check";
import { Diffstat, Patch } from "./Patch";

/** What an attempt hands back. */
export function Result({ result, attempts }: { result: TaskResult; attempts: number }) {
  const push = useMutation({
    mutationFn: () => pushAttempt(result.task, result.attempt),
    onSuccess: (task) => client.setQueryData(taskQuery(result.task).queryKey, task),
  });
  const changed = result.files.length > 0;
  return (
    <Card className="grid gap-4 p-4">
      <div className="flex flex-wrap items-baseline gap-x-4 gap-y-1">
        <h2 className="font-semibold">Result</h2>
        <p className="text-sm text-soft">
          {changed ? (
            <>
              {count(result.files.length, "file")},{" "}
              <span className="text-good">+{result.added}</span>{" "}
              <span className="text-bad">−{result.removed}</span> on{" "}
              <code className="font-mono text-xs">{result.branch}</code>
            </>
          ) : (
            "Nothing was changed."
          )}
        </p>
        {changed && (
          <a
            className="ml-auto text-sm text-accent underline"
            href={files.patch(result.task, result.attempt)}
          >
            Download the patch
          </a>
        )}
      </div>
      {result.check && <CheckOutput check={result.check} />}
      {result.summary && <Prose text={result.summary} />}
      {changed && (
        <>
          <Diffstat list={result.files} />
          <Pushed
            result={result}
            attempts={attempts}
            busy={push.isPending}
            onPush={() => push.mutate()}
          />
          {push.isError && <Failure cause={push.error} />}
          <details className="min-w-0">
            <summary className="mb-3 text-sm font-medium">Patch</summary>
            <Patch result={result} />
          </details>
        </>
      )}
    </Card>
  );
}

function Pushed({
  result,
  attempts,
  busy,
  onPush,
}: {
  result: TaskResult;
  attempts: number;
  busy: boolean;
  onPush(): void;
}) {
  const { pushed } = result;
  const here = (
    <>
      Bring it into your checkout with{" "}
      <code className="rounded bg-sunken px-1 py-0.5 font-mono text-xs">
        boatyard apply {result.task}
        {attempts > 1 && ` --attempt ${result.attempt}`}
      </code>
    </>
  );
  if (pushed.state === "pushed") {
    return (
      <p className="text-sm text-soft">
        Pushed to {pushed.remote} as <code className="font-mono text-xs">{pushed.branch}</code>.
      </p>
    );
  }
  return (
    <div className="flex flex-wrap items-center gap-3 text-sm text-soft">
      <p className="min-w-0 flex-1">
        {here}
        {pushed.state === "refused" && (
          <span className="block text-warn">Not pushed: {pushed.reason}</span>
        )}
      </p>
      <Button disabled={busy} onClick={onPush}>
        {busy ? "Pushing…" : "Push the branch"}
      </Button>
    </div>
  );
}
