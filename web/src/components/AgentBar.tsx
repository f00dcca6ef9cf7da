import { useMutation, useQuery } from "@tanstack/react-query";
import { changeSession, client, session as sessionQuery } from "../api/queries";
import type { Choice, Session, SessionChange } from "../api/types";
import { Failure } from "../ui/controls";

/** The agent of a session: its version, and its model and mode, to be changed. */
export function AgentBar({ id }: { id: string }) {
  const asked = useQuery(sessionQuery(id));
  if (!asked.data) return null;
  return <Shown session={asked.data} />;
}

function Shown({ session }: { session: Session }) {
  const { offers } = session;
  const over = session.state === "ended";
  const change = useMutation({
    mutationFn: (wanted: SessionChange) => changeSession(session.id, wanted),
    onSuccess: (next) => client.setQueryData(sessionQuery(session.id).queryKey, next),
  });
  // With the scripted model, what the agent says of its own means nothing.
  const model = (session.model === "demo" ? "demo" : (offers?.model ?? session.model)) ?? undefined;
  const mode = session.settings?.mode ?? offers?.mode ?? undefined;
  return (
    <div className="grid gap-2">
      <div className="flex flex-wrap items-center gap-x-5 gap-y-2 text-sm text-soft">
        <span>
          <span className="font-medium text-ink">{session.agent}</span>
          {offers?.version && <span className="text-faint"> {offers.version}</span>}
        </span>
        <Chosen
          label="Model"
          value={model}
          choices={offers?.models ?? []}
          disabled={over || change.isPending}
          onChoose={(wanted) => change.mutate({ model: wanted })}
        />
        <Chosen
          label="Mode"
          value={mode}
          choices={offers?.modes ?? []}
          disabled={over || change.isPending}
          onChoose={(wanted) => change.mutate({ mode: wanted })}
        />
      </div>
      {change.isError && <Failure cause={change.error} />}
    </div>
  );
}

/** One of what the agent offers; only its name where there is nothing to choose. */
function Chosen({
  label,
  value,
  choices,
  disabled,
  onChoose,
}: {
  label: string;
  value?: string;
  choices: Choice[];
  disabled: boolean;
  onChoose(id: string): void;
}) {
  if (choices.length === 0) {
    if (!value) return null;
    return (
      <span>
        {label} <span className="text-ink">{value}</span>
      </span>
    );
  }
  const known = choices.some((one) => one.id === value);
  return (
    <label className="flex min-w-0 items-center gap-2">
      {label}
      <select
        className="min-h-11 max-w-60 min-w-0 rounded-lg border border-line bg-raised px-2 text-base text-ink sm:min-h-9 sm:text-sm"
        value={value ?? ""}
        disabled={disabled}
        onChange={(event) => onChoose(event.target.value)}
      >
        {!known && <option value={value ?? ""}>{value ?? "as the agent chooses"}</option>}
        {choices.map((one) => (
          <option key={one.id} value={one.id}>
            {one.name || one.id}
          </option>
        ))}
      </select>
    </label>
  );
}
