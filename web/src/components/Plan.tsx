import type { PlanEntry } from "../api/types";
import { Card } from "../ui/controls";

const SIGNS = { pending: "○", in_progress: "◔", completed: "✓" };
const WORDS = { pending: "to do", in_progress: "under way", completed: "done" };

/** The agent's plan as a checklist. */
export function Plan({ entries }: { entries: PlanEntry[] }) {
  if (entries.length === 0) return null;
  const done = entries.filter((entry) => entry.status === "completed").length;
  return (
    <Card>
      <details open className="px-4 py-3 text-sm">
        <summary className="font-medium">
          Plan <span className="font-normal text-faint">{`${done} of ${entries.length}`}</span>
        </summary>
        <ol className="mt-2 grid gap-1.5">
          {entries.map((entry, at) => (
            <li
              // biome-ignore lint/suspicious/noArrayIndexKey: the plan is replaced as a whole
              key={at}
              className={`flex gap-2.5 ${entry.status === "completed" ? "text-faint" : ""}`}
            >
              <span
                aria-hidden="true"
                className={entry.status === "pending" ? "text-faint" : "text-accent"}
              >
                {SIGNS[entry.status]}
              </span>
              <span>
                {entry.text}
                <span className="sr-only"> ({WORDS[entry.status]})</span>
              </span>
            </li>
          ))}
        </ol>
      </details>
    </Card>
  );
}
