import type { Phase } from "../api/types";
import { useNow } from "../hooks/useNow";
import { duration } from "../util/format";

/** What was done before the agent began, with the time that each step took. */
export function Phases({ phases, running }: { phases: Phase[]; running: boolean }) {
  const now = useNow(running, 200);
  if (phases.length === 0) return null;
  return (
    <ol aria-label="Preparation" className="flex flex-wrap gap-x-5 gap-y-1 text-xs text-faint">
      {phases.map((phase) => {
        const under = phase.millis == null;
        const millis = phase.millis ?? Math.max(0, now - Date.parse(phase.started));
        return (
          <li key={`${phase.name}${phase.started}`} title={phase.detail ?? undefined}>
            <span aria-hidden="true">{under ? (running ? "◔ " : "✗ ") : "✓ "}</span>
            {phase.name}{" "}
            <span className="tabular-nums text-soft">
              {under && !running ? "" : duration(millis)}
            </span>
          </li>
        );
      })}
    </ol>
  );
}
