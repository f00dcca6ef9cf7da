import type { ReactNode } from "react";
import type { ToolDiff } from "../api/types";
import type { ItemOf } from "../session/transcript";
import { Code } from "../ui/Prose";
import { count } from "../util/format";
import { files } from "../util/paths";

const SIGNS: Record<string, string> = {
  read: "▤",
  edit: "✎",
  delete: "✕",
  move: "→",
  search: "⌕",
  execute: "❯",
  think: "∴",
  fetch: "↓",
};

const ENDS = { running: "running", completed: "✓", failed: "✕ failed", cancelled: "– cancelled" };

/**
 * One use of a tool: a line that opens. A failed one is open from the start, one with the steps of a
 * sub-agent below it while it runs.
 */
export function Tool({
  item,
  steps = 0,
  children,
}: {
  item: ItemOf<"tool">;
  steps?: number;
  children?: ReactNode;
}) {
  const { call, status, exitCode, outputBlob } = item;
  const title = call.title || call.tool;
  const end = exitCode ? `✕ exit ${exitCode}` : ENDS[status];
  const bad = status === "failed" || !!exitCode;
  return (
    <details
      className="min-w-0 rounded-lg border border-line bg-raised text-sm"
      open={bad || (steps > 0 && status === "running") || undefined}
    >
      <summary className="flex min-h-9 items-center gap-2.5 px-3 py-1.5">
        <span aria-hidden="true" className="w-4 text-center text-faint">
          {SIGNS[call.kind ?? ""] ?? "•"}
        </span>
        <span className="line-clamp-2 min-w-0 flex-1 font-mono text-xs">{title}</span>
        {steps > 0 && (
          <span className="text-xs whitespace-nowrap text-faint">{count(steps, "step")}</span>
        )}
        <span
          className={`whitespace-nowrap text-xs ${bad ? "text-bad" : status === "running" ? "animate-pulse text-accent" : "text-faint"}`}
        >
          {end}
        </span>
      </summary>
      <div className="grid min-w-0 gap-3 border-t border-line p-3">
        {children}
        {call.locations && call.locations.length > 0 && (
          <p className="font-mono text-xs text-soft">{call.locations.join("  ")}</p>
        )}
        {call.input != null && (
          <details>
            <summary className="mb-1 text-xs text-faint">Arguments</summary>
            <Code text={JSON.stringify(call.input, null, 2)} label="Arguments" />
          </details>
        )}
        {call.diffs?.map((diff) => (
          <Edit key={diff.path} diff={diff} />
        ))}
        {call.output && <Code text={call.output} label="Output" />}
        {call.images?.map((blob) => (
          <img
            key={blob}
            src={files.blob(blob)}
            alt="Returned by the tool"
            className="max-h-96 max-w-full rounded-lg border border-line"
          />
        ))}
        {outputBlob && (
          <a href={files.blob(outputBlob)} className="text-xs text-accent underline">
            All of the output
          </a>
        )}
        {!steps &&
          !call.output &&
          !call.diffs?.length &&
          !call.images?.length &&
          call.input == null && (
            <p className="text-xs text-faint">
              {status === "running" ? "Nothing yet." : "It printed nothing."}
            </p>
          )}
      </div>
    </details>
  );
}

/** An edit as the agent tells it: what went, then what came. */
function Edit({ diff }: { diff: ToolDiff }) {
  return (
    <div className="grid min-w-0 gap-1">
      <p className="font-mono text-xs">{diff.path}</p>
      {diff.old && (
        <div className="rounded-lg border-l-2 border-bad">
          <Code text={diff.old} label={`Before: ${diff.path}`} />
        </div>
      )}
      <div className="rounded-lg border-l-2 border-good">
        <Code text={diff.new} label={`After: ${diff.path}`} />
      </div>
    </div>
  );
}
