import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useEffect } from "react";
import { session as sessionQuery, workspace as workspaceQuery } from "../api/queries";
import { AgentBar } from "../components/AgentBar";
import { Live } from "../components/Live";
import { State } from "../components/State";
import { Failure } from "../ui/controls";
import { paths } from "../util/paths";

/** One session, of a task or of its own. */
export function Session() {
  const { id } = useParams({ from: "/app/sessions/$id" });
  const asked = useQuery(sessionQuery(id));
  useEffect(() => {
    document.title = "Session · Boatyard";
  }, []);
  if (asked.isPending) return <p className="text-sm text-faint">Reading the session…</p>;
  if (asked.isError) return <Failure cause={asked.error} />;
  const session = asked.data;
  return (
    <div className="grid min-w-0 gap-5">
      <div className="grid gap-2">
        <Link
          to={session.task ? paths.task(session.task) : paths.tasks()}
          className="w-fit rounded text-sm text-soft hover:text-ink"
        >
          {session.task ? "← Its task" : "← Tasks"}
        </Link>
        <div className="flex flex-wrap items-center gap-3">
          <h1 className="min-w-0 flex-1 text-xl font-semibold">Session with {session.agent}</h1>
          <State state={session.state} />
        </div>
        <AgentBar id={id} />
        <p className="font-mono text-xs text-faint">
          {session.workspace} {session.cwd}
          <Isolation workspace={session.workspace} />
        </p>
      </div>
      <Live key={id} session={id} state={session.state} task={session.task ?? undefined} />
    </div>
  );
}

/** How strongly the session's workspace is shut off. */
function Isolation({ workspace }: { workspace: string }) {
  const { data } = useQuery(workspaceQuery(workspace));
  if (!data?.isolation) return null;
  return (
    <span title="How strongly the workspace is shut off; `boatyard doctor` explains it">
      {" "}
      isolation {data.isolation}
    </span>
  );
}
