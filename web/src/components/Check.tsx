import type { CheckResult } from "../api/types";
import { duration } from "../util/format";

/** How each outcome looks: a sign and a word, never the colour alone. */
const STATES: Record<CheckResult["state"], [string, string]> = {
  passed: ["text-good", "✓ passed"],
  failed: ["text-bad", "✕ failed"],
  timed_out: ["text-bad", "✕ took too long"],
  not_started: ["text-bad", "✕ not started"],
};

/** What the repository's check said, in a word. */
export function Check({ check }: { check: CheckResult }) {
  const [tone, words] = STATES[check.state];
  const code = check.state === "failed" && check.exit_code != null ? ` (${check.exit_code})` : "";
  return (
    <span className={tone} title={check.command}>
      {words}
      {code}
    </span>
  );
}

/** The same, with its command and the end of its output. */
export function CheckOutput({ check }: { check: CheckResult }) {
  return (
    <details className="min-w-0" open={check.state !== "passed"}>
      <summary className="text-sm">
        <span className="font-medium">Check</span> <Check check={check} />{" "}
        <code className="font-mono text-xs text-soft">{check.command}</code>{" "}
        <span className="text-xs text-faint">{duration(check.millis)}</span>
      </summary>
      {check.output && (
        <pre className="mt-2 max-h-80 overflow-auto rounded-lg bg-sunken p-3 font-mono text-xs">
          {check.output}
        </pre>
      )}
    </details>
  );
}
