import type { AttemptState, SessionState } from "../api/types";
import { Badge, type Tone } from "../ui/controls";

/** How each state looks: a sign and a word, never the colour alone. */
const STATES: Record<AttemptState | SessionState, [Tone, string, string]> = {
  queued: ["quiet", "○", "Queued"],
  preparing: ["accent", "◔", "Preparing"],
  running: ["accent", "●", "Running"],
  waiting: ["warn", "!", "Needs you"],
  succeeded: ["good", "✓", "Done"],
  failed: ["bad", "✕", "Failed"],
  cancelled: ["quiet", "–", "Cancelled"],
  starting: ["accent", "◔", "Starting"],
  idle: ["quiet", "○", "Idle"],
  ended: ["quiet", "–", "Ended"],
};

export function State({ state }: { state: AttemptState | SessionState }) {
  const [tone, sign, word] = STATES[state];
  return (
    <Badge tone={tone} sign={sign}>
      {word}
    </Badge>
  );
}
