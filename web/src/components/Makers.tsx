import type { Agent } from "../api/types";
import { Button, Select, TextField } from "../ui/controls";

/** The model that a script stands in for: it needs no key. */
const DEMO = "demo";

/** Who is to do it: an agent (the default one if empty) with a model (its own choice if empty). */
export interface Maker {
  agent: string;
  model: string;
}

/** What an order says of its makers: one may be left to the server, several are named. */
export function ordered(makers: readonly Maker[], agents: readonly Agent[]) {
  const [first, ...others] = makers;
  if (!first || others.length === 0) {
    return { agent: first?.agent || null, model: first?.model || null };
  }
  return {
    agents: makers.map(({ agent, model }) => ({
      agent: agent || (agents.find((one) => one.default)?.name ?? ""),
      model: model || null,
    })),
  };
}

/** One of those who are to do it. */
export function MakerRow({
  maker,
  agents,
  problem,
  onChange,
  onRemove,
}: {
  maker: Maker;
  agents: readonly Agent[];
  problem(field: "agent" | "model"): string | undefined;
  onChange(maker: Maker): void;
  onRemove?: () => void;
}) {
  const named = agents.find((one) => one.name === maker.agent);
  const chosen = named ?? agents.find((one) => one.default);
  const choose = (name: string) => {
    const next = agents.find((one) => one.name === name);
    // Without a key there is one model that it can be tried with.
    onChange({ agent: name, model: next && !next.ready && next.demo ? DEMO : "" });
  };
  return (
    <div className="grid items-start gap-4 sm:grid-cols-[1fr_1fr_auto]">
      <Select
        label="Agent"
        name="agent"
        value={maker.agent}
        // Where there is no model to choose, nothing else could say what is wrong with it.
        problem={problem("agent") ?? (hasModels(chosen) ? undefined : problem("model"))}
        hint={named && !named.ready ? `For other models: ${named.reason}.` : undefined}
        onChange={(event) => choose(event.target.value)}
      >
        <option value="">Default{chosen && !named ? ` (${chosen.title})` : ""}</option>
        {agents.map((one) => (
          <option key={one.name} value={one.name} disabled={!one.ready && !one.demo}>
            {one.title}
            {state(one)}
          </option>
        ))}
      </Select>
      <Model
        agent={chosen}
        value={maker.model}
        problem={problem("model")}
        onChange={(model) => onChange({ ...maker, model })}
      />
      {onRemove && (
        <Button
          className="sm:mt-6.5"
          aria-label={`Without ${chosen?.title ?? "this agent"}`}
          onClick={onRemove}
        >
          <span className="sm:hidden">Without it</span>
          <span className="hidden sm:inline">✕</span>
        </Button>
      )}
    </div>
  );
}

/** The models that an agent was found to offer, and the scripted one; a field where none is known. */
function Model({
  agent,
  value,
  problem,
  onChange,
}: {
  agent?: Agent;
  value: string;
  problem?: string;
  onChange(model: string): void;
}) {
  const models = agent?.ready ? (agent.offers?.models ?? []) : [];
  if (!agent || !hasModels(agent)) return <span className="hidden sm:block" />;
  if (agent.ready && models.length === 0) {
    return (
      <TextField
        label="Model"
        name="model"
        autoCapitalize="off"
        spellCheck={false}
        value={value}
        problem={problem}
        placeholder="the agent's own choice"
        onChange={(event) => onChange(event.target.value.trim())}
      />
    );
  }
  return (
    <Select
      label="Model"
      name="model"
      value={value}
      problem={problem}
      hint={value === DEMO ? "A script answers in the model's place; no key is needed." : undefined}
      onChange={(event) => onChange(event.target.value)}
    >
      {agent.ready && <option value="">The agent's own choice</option>}
      {agent.demo && <option value={DEMO}>demo</option>}
      {models.map((one) => (
        <option key={one.id} value={one.id}>
          {one.name || one.id}
        </option>
      ))}
    </Select>
  );
}

function hasModels(agent?: Agent): boolean {
  return !!agent && (agent.demo || (agent.ready && !!agent.offers?.models?.length));
}

function state(agent: Agent): string {
  if (agent.ready) return "";
  if (agent.demo) return " (demo only)";
  return agent.needs === "install" ? " (not installed)" : " (not ready)";
}
