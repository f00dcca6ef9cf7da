import { useMutation, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { agents, client, installAgent } from "../api/queries";
import type { Agent } from "../api/types";
import { Badge, Button, Card, Failure, Note } from "../ui/controls";
import { bytes, count } from "../util/format";

const PHASES: Record<string, string> = {
  node: "Installing the Node that it runs on",
  packages: "Installing packages",
  check: "Checking what was installed",
  keep: "Keeping it",
  try: "Starting it once",
};

/** The agents that the server knows: which are ready, and what the others need. */
export function Agents() {
  const asked = useQuery(agents);
  useEffect(() => {
    document.title = "Agents · Boatyard";
  }, []);
  return (
    <div className="grid gap-5">
      <h1 className="text-xl font-semibold">Agents</h1>
      {asked.isPending && <p className="text-sm text-faint">Reading the agents…</p>}
      {asked.isError && <Failure cause={asked.error} />}
      {asked.isSuccess && (
        <Card className="overflow-hidden">
          <ul className="divide-y divide-line">
            {asked.data.items.map((agent) => (
              <li key={agent.name} className="px-4 py-3">
                <Row agent={agent} />
              </li>
            ))}
          </ul>
        </Card>
      )}
    </div>
  );
}

function Row({ agent }: { agent: Agent }) {
  const install = useMutation({
    mutationFn: () => installAgent(agent.name),
    onSettled: () => client.invalidateQueries({ queryKey: agents.queryKey }),
  });
  const newest = agent.installed?.[0];
  const busy = newest?.state === "installing";
  const failed =
    agent.needs === "install" && newest?.state === "failed" ? newest.reason : undefined;
  return (
    <section aria-label={agent.title} className="grid gap-2 text-sm">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <h2 className="font-medium">{agent.title}</h2>
        <code className="font-mono text-xs text-faint">{agent.name}</code>
        <span className="ml-auto flex items-center gap-3">
          {agent.default && <span className="text-xs text-faint">Taken by default</span>}
          <Readiness agent={agent} busy={busy} />
        </span>
      </div>
      {agent.about && <p className="text-soft">{agent.about}</p>}
      {busy ? (
        <p role="status" className="animate-pulse text-accent">
          {PHASES[newest.phase ?? ""] ?? "Waiting for its turn"}…
        </p>
      ) : (
        agent.needs !== "install" &&
        agent.reason && (
          <p className="text-soft">
            <Told text={agent.reason} /> <Told text={agent.mend ?? ""} />
          </p>
        )
      )}
      {failed && (
        <Note tone="bad">
          <p className="font-medium">It was not installed.</p>
          <pre className="mt-1 max-h-60 overflow-auto font-mono text-xs whitespace-pre-wrap">
            {failed}
          </pre>
        </Note>
      )}
      {agent.needs === "install" && !busy && (
        <div className="flex flex-wrap items-center gap-x-3 gap-y-2">
          <Button
            aria-label={`Install ${agent.title}`}
            disabled={install.isPending}
            onClick={() => install.mutate()}
          >
            {failed ? "Try again" : "Install"}
          </Button>
          <span className="text-faint">
            or <Command>boatyard agent install {agent.name}</Command>
          </span>
        </div>
      )}
      {install.isError && <Failure cause={install.error} />}
      <Details agent={agent} />
    </section>
  );
}

function Readiness({ agent, busy }: { agent: Agent; busy: boolean }) {
  if (agent.ready) {
    return (
      <Badge tone="good" sign="✓">
        Ready
      </Badge>
    );
  }
  if (busy) {
    return (
      <Badge tone="accent" sign="◐">
        Installing
      </Badge>
    );
  }
  if (agent.demo) {
    return (
      <Badge tone="warn" sign="!">
        Demo only
      </Badge>
    );
  }
  return (
    <Badge tone="quiet" sign="○">
      {agent.needs === "install" ? "Not installed" : "Not ready"}
    </Badge>
  );
}

/** Versions, modes and models, and how its settings are changed. */
function Details({ agent }: { agent: Agent }) {
  const { offers } = agent;
  const versions = (agent.installed ?? []).filter((tool) => tool.state === "ready");
  if (versions.length === 0 && !offers) return null;
  const facts = [
    offers?.modes?.length ? count(offers.modes.length, "mode") : "",
    offers?.models?.length ? count(offers.models.length, "model") : "",
  ].filter(Boolean);
  return (
    <details>
      <summary className="text-xs text-faint">
        {[versions.map((tool) => tool.version).join(", "), ...facts].filter(Boolean).join(" · ")}
      </summary>
      <dl className="mt-2 grid gap-x-6 gap-y-2 text-xs sm:grid-cols-[auto_1fr]">
        {versions.map((tool) => (
          <Fact key={tool.id} name={`Version ${tool.version}`}>
            {[
              tool.used ? "used" : "",
              bytes(tool.bytes),
              tool.node ? `with Node ${tool.node}` : "",
              tool.reason ?? "",
            ]
              .filter(Boolean)
              .join(", ")}
          </Fact>
        ))}
        {offers && (
          <>
            <Fact name="Modes">{offers.modes?.map((mode) => mode.id).join(", ")}</Fact>
            <Fact name="Models">{offers.models?.map((model) => model.id).join(", ")}</Fact>
            <Fact name="Takes">
              {[offers.images ? "pictures" : "", offers.resume ? "its conversations up again" : ""]
                .filter(Boolean)
                .join(", ")}
            </Fact>
          </>
        )}
        <Fact name="Settings">
          <Command>boatyard agent set {agent.name} --help</Command>
        </Fact>
      </dl>
    </details>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  if (!children) return null;
  return (
    <>
      <dt className="text-faint">{name}</dt>
      <dd className="min-w-0 break-words text-soft">{children}</dd>
    </>
  );
}

function Command({ children }: { children: React.ReactNode }) {
  return (
    <code className="whitespace-nowrap rounded bg-sunken px-1.5 py-0.5 font-mono text-xs">
      {children}
    </code>
  );
}

/** A piece of a sentence as a whole one; what stands between backticks as it is typed. */
function Told({ text }: { text: string }) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  const ended = whole && !/[.!?]$/.test(whole) ? `${whole}.` : whole;
  return ended.split("`").map((piece, at) =>
    at % 2 === 1 ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: a text does not change
      <Command key={at}>{piece}</Command>
    ) : (
      piece
    ),
  );
}
